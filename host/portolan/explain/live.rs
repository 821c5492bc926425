//! [`Live`]: the running gateway's answers to `/explain`, by a snapshot of the model that it serves whose filters nobody
//! else uses: a question changes no counter, no limit and no filter's state.

use std::sync::{Arc, Mutex, PoisonError};

use portolan_config::render;
use portolan_proxy::{ActiveHealth, Builder, ClusterEntry, EndpointState, Snapshot, SnapshotCell};
use portolan_telemetry::Metrics;
use serde_json::Value;

use super::table::{NoModules, Question, Table, Verdict};
use super::tree::{AnswerPart, SharePart};
use crate::args::ConfigArgs;
use crate::load::{self, Purpose};

/// See the module. Nothing is built before the first question.
pub(crate) struct Live {
    cell: SnapshotCell,
    config: ConfigArgs,
    made: Mutex<Option<Made>>,
}

struct Made {
    builder: Builder,
    table: Table,
    /// Of the snapshot that it was made for.
    generation: u64,
}

impl Live {
    /// Of the gateway that serves this cell.
    pub(crate) fn new(cell: SnapshotCell, config: &ConfigArgs) -> Self {
        Self { cell, config: config.clone(), made: Mutex::new(None) }
    }

    /// Where the request of these pairs would go, as JSON; or what is wrong with the question.
    pub(crate) fn explain(&self, query: &[(String, String)]) -> Result<Value, String> {
        let told = |error: anyhow::Error| format!("{error:#}");
        let question = Question::of_query(query).map_err(|error| error.to_string())?;
        let snapshot = self.cell.load();
        // What a panic has left is made anew.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let current = match made.take() {
            Some(current) if current.generation == snapshot.generation => current,
            old => self.make(old, &snapshot).map_err(told)?,
        };
        let verdict = current.table.ask(&question);
        *made = Some(current);
        drop(made);
        let mut verdict = verdict.map_err(told)?;
        let split = match &mut verdict {
            Verdict::Http(explanation) => &mut explanation.split,
            Verdict::Tcp(explanation) => &mut explanation.split,
        };
        split.iter_mut().for_each(|share| health(share, &snapshot));
        // DNS may have been no help.
        if let Verdict::Http(explanation) = &mut verdict
            && explanation.answer.status.is_none()
            && AnswerPart::of_split(&explanation.split).status.is_some()
        {
            explanation.answer = AnswerPart::of_split(&explanation.split);
        }
        serde_json::to_value(&verdict).map_err(|error| error.to_string())
    }

    fn make(&self, old: Option<Made>, snapshot: &Arc<Snapshot>) -> anyhow::Result<Made> {
        let mut builder = match old {
            Some(old) => old.builder,
            None => load::builder(&self.config, Arc::new(NoModules), Metrics::new(), Purpose::default())?,
        };
        let overrides = self.config.filters.iter().map(|(name, file)| (name.clone(), file.display().to_string()));
        let table = Table::without_plugins(&snapshot.model, &mut builder, overrides.collect());
        Ok(Made { builder, table, generation: snapshot.generation })
    }
}

/// The endpoints as they are now.
fn health(share: &mut SharePart, snapshot: &Snapshot) {
    let clusters = snapshot.model.clusters.iter().zip(snapshot.clusters());
    let mut named = clusters.filter(|(cluster, _)| cluster.name == share.cluster);
    let Some((_, &ClusterEntry { ref state, undefined, .. })) = named.next() else { return };
    let endpoint = |endpoint: &Arc<EndpointState>| {
        let address = endpoint.address;
        match (endpoint.active_health(), endpoint.ejected_for_ms()) {
            (ActiveHealth::Pending, _) => format!("{address} not checked yet"),
            (ActiveHealth::Failed | ActiveHealth::TimedOut, _) => {
                let why = state.last_check(address).and_then(|last| last.failure);
                let why = why.map_or_else(String::new, |why| format!(": {}", render::escape(&why)));
                format!("{address} fails its health check{why}")
            }
            (_, Some(ms)) => format!("{address} ejected {} s", ms.div_ceil(1000)),
            (_, None) => address.to_string(),
        }
    };
    share.endpoints = state.endpoints().endpoints.iter().map(endpoint).collect();
    share.exists &= !(undefined && share.endpoints.is_empty());
}
