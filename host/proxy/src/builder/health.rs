//! Which clusters have health checks.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use portolan_model::{Cluster, Model};

use super::Builder;
use crate::build_problem::BuildProblem;
use crate::cluster::{ClusterState, WantedChecks};
use crate::health::{CheckPlan, HealthChecks};
use crate::module_source::Cause;
use crate::upstream::UpstreamTransport;

/// A new snapshot waits this long for the first checks of its new clusters.
const WARMING: Duration = Duration::from_secs(1);

impl Builder {
    /// How the cluster's endpoints are checked; not at all where nothing is served.
    pub(super) fn wanted_checks(
        &mut self,
        cluster: &Cluster,
        transport: &Arc<UpstreamTransport>,
        problems: &mut Vec<BuildProblem>,
    ) -> Option<WantedChecks> {
        let check = cluster.health_check.as_ref().filter(|_| self.options.bind)?;
        if self.health.is_none() {
            match HealthChecks::start() {
                Ok(checks) => self.health = Some(checks),
                Err(error) => problems.push(BuildProblem {
                    subject: format!("health checks of {}", cluster.name),
                    origin: Some(check.origin.clone()),
                    message: format!("no thread for health checks: {error}"),
                    kept_old: false,
                    cause: Cause::Broken,
                    config: None,
                }),
            }
        }
        Some(WantedChecks {
            checks: self.health.clone()?,
            plan: Arc::new(CheckPlan::new(check, transport.clone())),
            metrics: self.options.metrics.health_check(&cluster.name),
        })
    }

    /// Gives the endpoints of new clusters a moment for their first checks, and ends those of clusters that are gone.
    pub(super) fn await_checks(&self, model: &Model, new: &[Arc<ClusterState>]) {
        let Some(checks) = &self.health else { return };
        checks.await_first(new, WARMING);
        let all: HashSet<&str> = model.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
        let last = self.last.iter().flat_map(|last| last.clusters());
        last.filter(|gone| !all.contains(&*gone.state.name)).for_each(|gone| gone.state.end_checks());
        let checked = model.clusters.iter().filter(|cluster| cluster.health_check.is_some());
        let names: HashSet<&str> = checked.map(|cluster| cluster.name.as_str()).collect();
        self.options.metrics.retain_health_checks(|name| names.contains(name));
    }
}
