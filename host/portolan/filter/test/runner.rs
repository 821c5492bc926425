//! [`Runner`]: takes cases through a stage and back. Each has a gateway of its own, so that nothing of one case (shared
//! data, metrics, tokens of a bucket) reaches another.

use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use portolan_telemetry::metrics::{PluginValue, PluginValueKind};
use portolan_wasm::{CallbackTrace, TraceLimits};

use crate::cases::Ran;
use crate::filter::case::{Answer, Case, Content, Headers, Peer, PlacedCase, Request};
use crate::filter::compare::{self, Call, Got, Lines, Observed, Seen, Traced};
use crate::filter::stage::{self, Event, Exchange, Named, Script, Stage, StageOptions};
use crate::filter::target::Target;

/// What is kept of each callback: enough that texts of cases are rarely cut.
const LIMITS: TraceLimits = TraceLimits { calls: 1000, bytes: 4096, pairs: 128 };

/// How long a stage may take to end.
const END_TIME: Duration = Duration::from_secs(1);

/// Runs cases of one filter.
pub(super) struct Runner<'a> {
    target: &'a Target,
    module: Vec<u8>,
}

/// What came of the start.
pub(super) enum Ended {
    /// The filter has refused its configuration or its module.
    Refused(String),
    /// The request went through.
    Observed(Box<Observed>),
}

impl<'a> Runner<'a> {
    /// Reads the module.
    pub(super) fn new(target: &'a Target) -> anyhow::Result<Self> {
        let module = std::fs::read(&target.module);
        let module = module.with_context(|| format!("cannot read {}", target.module.display()))?;
        Ok(Self { target, module })
    }

    /// Runs one case and compares.
    pub(super) async fn run<'c>(&self, case: &'c PlacedCase) -> anyhow::Result<Ran<'c>> {
        let begun = Instant::now();
        let ended = self.observe(&case.value).await?;
        let took = begun.elapsed();
        let (name, places) = (case.value.name.as_str(), &*case.places);
        Ok(match ended {
            Ended::Refused(reason) => {
                let differences = compare::compare_refusal(&case.value, Some(&reason)).into_iter().collect();
                Ran { name, places, took, differences, log: Vec::new(), failures: Vec::new() }
            }
            Ended::Observed(observed) => {
                let mut differences: Vec<_> = compare::compare_refusal(&case.value, None).into_iter().collect();
                differences.extend(compare::compare(&case.value, &observed));
                let failed = observed.trace.iter().filter(|traced| traced.failed);
                let failures = failed.map(|traced| traced.callback.clone()).collect();
                Ran { name, places, took, differences, log: observed.log, failures }
            }
        })
    }

    /// Sends a case's requests through a stage of its own.
    pub(super) async fn observe(&self, case: &Case) -> anyhow::Result<Ended> {
        let mut services = Vec::new();
        for (name, peer) in &case.services {
            let named = Named::parse(name).with_context(|| format!("`{name}` is no service"))?;
            services.push((named, script(peer)?));
        }
        let options = StageOptions {
            subject: self.target.subject(case.config.as_ref()),
            module: self.module.clone(),
            listen: None,
            config: None,
            services,
            callbacks: Some(LIMITS),
            admin: None,
        };
        let (mut stage, change) = Stage::start(options).await?;
        if let Some(refusal) = change.refusal {
            stage.stop(END_TIME).await;
            return Ok(Ended::Refused(refusal));
        }
        stage.backend().answer_with(script(&case.upstream)?);
        for request in &case.before {
            stage.send(&written(request)?).await?;
        }
        let exchange = stage.send(&written(&case.request)?).await?;
        let observed = observed(&mut stage, &exchange, case);
        stage.stop(END_TIME).await;
        Ok(Ended::Observed(Box::new(observed)))
    }
}

fn observed(stage: &mut Stage, exchange: &Exchange, case: &Case) -> Observed {
    let mut log: Vec<_> = Vec::new();
    // What was logged at the start, and in callbacks that are about no stream.
    while let Some(event) = stage.try_next() {
        if let Event::Callback(trace) = event {
            log.extend(stage::log_lines([&*trace]));
        }
    }
    log.extend(exchange.log());
    let name = |named: &Named| {
        let mut names = case.services.keys();
        names.find(|name| Named::parse(name).as_ref() == Some(named)).cloned().unwrap_or_else(|| named.cluster())
    };
    let callouts = exchange.callouts.iter();
    let callouts = callouts.flat_map(|(named, all)| all.iter().map(move |seen| (name(named), self::seen(seen))));
    Observed {
        arrived: exchange.upstream.iter().map(seen).collect(),
        response: match &exchange.response {
            Some(response) => Ok(got(response)),
            None => Err("the connection was closed without a response".to_owned()),
        },
        callouts: callouts.collect(),
        trace: exchange.record.callbacks.iter().map(traced).collect(),
        log,
        metrics: stage.filter_metrics().into_iter().map(metric).collect(),
    }
}

fn metric(value: PluginValue) -> (String, f64) {
    let number = match value.kind {
        PluginValueKind::Counter(number) | PluginValueKind::Gauge(number) => number,
        PluginValueKind::Histogram { count, .. } => count,
    };
    (value.name, number as f64)
}

fn seen(seen: &stage::Seen) -> Seen {
    Seen {
        method: seen.method.to_string(),
        path: seen.path.clone(),
        host: seen.host.clone(),
        headers: lines(&seen.headers),
        body: seen.body.to_vec(),
        trailers: lines(&seen.trailers),
    }
}

fn got(response: &stage::Response) -> Got {
    Got {
        status: response.status.as_u16(),
        headers: lines(&response.headers),
        body: response.body.to_vec(),
        trailers: lines(&response.trailers),
    }
}

fn lines(map: &HeaderMap) -> Lines {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    map.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

/// WASI's functions are called by a language's runtime, not by the filter.
fn traced(trace: &CallbackTrace) -> Traced {
    let call = |call: &portolan_wasm::HostCall| {
        let mut head = call.clone();
        (head.status, head.results) = (portolan_wasm::CallStatus::Ok, Vec::new());
        Call { head: head.to_string(), whole: call.to_string() }
    };
    let calls = trace.calls.iter().filter(|call| !call.is_wasi()).map(call).collect();
    Traced { callback: trace.to_string(), failed: trace.has_failed(), calls }
}

/// A case's request as the stage sends it.
fn written(request: &Request) -> anyhow::Result<stage::Request> {
    let Request { method, path, host, headers, body, trailers } = request;
    Ok(stage::Request {
        method: Method::from_bytes(method.as_bytes())?,
        host: host.clone(),
        path: path.clone(),
        headers: map(headers, body.as_ref())?,
        body: bytes(body.as_ref()),
        trailers: map(trailers, None)?,
    })
}

fn script(peer: &Peer) -> anyhow::Result<Script> {
    let Peer::Answers(Answer { status, headers, body, trailers, delay }) = peer else { return Ok(Script::Down) };
    let response = stage::Response {
        status: StatusCode::from_u16(*status)?,
        headers: map(headers, body.as_ref())?,
        body: bytes(body.as_ref()),
        trailers: map(trailers, None)?,
    };
    Ok(Script::Answer { response: Box::new(response), delay: *delay })
}

fn bytes(body: Option<&Content>) -> Bytes {
    body.map(|body| Bytes::copy_from_slice(&body.bytes)).unwrap_or_default()
}

/// JSON is called so where nothing else is said.
fn map(Headers(lines): &Headers, body: Option<&Content>) -> anyhow::Result<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
    }
    if body.is_some_and(|body| body.is_json) {
        map.entry(http::header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    }
    Ok(map)
}
