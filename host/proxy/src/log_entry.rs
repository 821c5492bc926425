//! [`LogEntry`]: an open access log with the choice of what it tells; [`Logs`] opens those of a model and keeps open what
//! stays.

use std::sync::Arc;

use portolan_model::{AccessLog as Wanted, AccessLogFormat, Model, Origin};
use portolan_telemetry::format::{DEFAULT_FORMAT, DEFAULT_JSON_FORMAT, Format};
use portolan_telemetry::{AccessLog, AccessLogError, Metrics, StreamInfo};
use portolan_wasm::{Condition, StreamState};

use crate::build_problem::BuildProblem;
use crate::context::StreamContext;
use crate::module_source::Cause;

/// An open access log.
#[derive(Clone, Debug)]
pub(crate) struct LogEntry {
    log: Arc<AccessLog>,
    /// Which requests it tells; none for all.
    filter: Option<Arc<Condition>>,
}

impl LogEntry {
    /// Tells a request, if the filter is for it.
    pub(crate) fn record(&self, info: &StreamInfo, stream: &StreamState<StreamContext>) {
        if self.filter.as_ref().is_none_or(|filter| filter.holds(stream)) {
            self.log.record(info);
        }
    }

    /// Tells a TCP connection, or one whose first head has not come in. A filter asks for attributes of requests, which a connection lacks: as in Envoy it fails then.
    pub(crate) fn record_connection(&self, info: &StreamInfo) {
        if self.filter.is_none() {
            self.log.record(info);
        }
    }

    /// True when the heads must be kept to the end of the stream.
    pub(crate) fn wants_heads(&self) -> bool {
        self.filter.is_some() || self.log.wants_headers()
    }
}

#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("{0}")]
    Log(#[from] AccessLogError),
    #[error("the filter's expression is no CEL, or could cost too much")]
    Filter,
}

/// What is open now.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    open: Vec<(Wanted, LogEntry)>,
}

impl Logs {
    /// The logs of a model, or of the command line instead. One that cannot be opened is a problem and leaves the others alone;
    /// when its file was open in another form, that one goes on.
    pub(crate) fn open(
        &mut self,
        model: &Model,
        instead: Option<&str>,
        metrics: &Metrics,
        problems: &mut Vec<BuildProblem>,
    ) -> Vec<LogEntry> {
        let by_argument = instead.map(|path| Wanted {
            path: path.to_owned(),
            format: AccessLogFormat::Default,
            omit_empty_values: false,
            filter: None,
            origin: Origin::default(),
        });
        let wanted = by_argument.map_or_else(|| model.access_logs.clone(), |only| vec![only]);
        let mut open: Vec<(Wanted, LogEntry)> = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let known = self.open.iter().find(|(known, _)| *known == wanted);
            match known.map_or_else(|| self.opened(&wanted, metrics), |(_, entry)| Ok(entry.clone())) {
                Ok(entry) => open.push((wanted, entry)),
                Err(error) => {
                    let old = self.open.iter().find(|(known, _)| known.path == wanted.path).cloned();
                    problems.push(problem(&wanted, &error, old.is_some()));
                    open.extend(old);
                }
            }
        }
        self.open = open;
        self.open.iter().map(|(_, entry)| entry.clone()).collect()
    }

    fn opened(&self, wanted: &Wanted, metrics: &Metrics) -> Result<LogEntry, OpenError> {
        let filter = wanted.filter.as_deref().map(|text| Condition::compile(text).ok_or(OpenError::Filter));
        let filter = filter.transpose()?.map(Arc::new);
        let same = |known: &Wanted| {
            (&known.path, &known.format, known.omit_empty_values)
                == (&wanted.path, &wanted.format, wanted.omit_empty_values)
        };
        if let Some((_, entry)) = self.open.iter().find(|(known, _)| same(known)) {
            return Ok(LogEntry { log: entry.log.clone(), filter });
        }
        let format = match &wanted.format {
            AccessLogFormat::Default => Format::compile(DEFAULT_FORMAT),
            AccessLogFormat::DefaultJson => Format::compile_json(DEFAULT_JSON_FORMAT),
            AccessLogFormat::Text(text) => Format::compile(text),
            AccessLogFormat::Json(text) => Format::compile_json(text),
        };
        let format = format.map_err(AccessLogError::Format)?.omitting_empty(wanted.omit_empty_values);
        let log = AccessLog::open_with(wanted.path.as_ref(), format, metrics.access_log.clone())?;
        Ok(LogEntry { log: Arc::new(log), filter })
    }
}

fn problem(wanted: &Wanted, error: &OpenError, kept_old: bool) -> BuildProblem {
    let origin = (wanted.origin.line() > 0).then(|| wanted.origin.clone());
    BuildProblem {
        subject: "access log".to_owned(),
        origin,
        message: error.to_string(),
        kept_old,
        cause: Cause::Broken,
        config: None,
    }
}
