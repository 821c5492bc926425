//! `portolan explain`: runs the real filter chain on a made-up request, and says which rule it takes and why.

mod tcp;
mod text;
mod tree;

use std::process::ExitCode;

use anyhow::{Context, bail};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use portolan_config::Severity;
use portolan_model::Listener;
use portolan_proxy::{ExplainRequest, explain as run_chain};
use portolan_telemetry::Metrics;

use crate::args::{ExplainArgs, ExplainOutput};
use crate::change::number;
use crate::check::FETCH_TIME;
use crate::load::{self, Loader, Purpose};
use crate::{UsageError, output};
use tcp::TcpExplanation;
use tree::{Explanation, Outcome, RequestPart};

/// Prints the explanation. Mistakes in the files are counted on standard error, as `run` would serve without them.
pub(crate) fn explain(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let target = Target::parse(&args.url, &args.headers)?;
    let mut loader = Loader::new(&args.config)?;
    let read = loader.read(false);
    loader.modules().wait(FETCH_TIME);
    let errors = read.diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
    if errors > 0 {
        output::remark(&format!("{} in the files; see `portolan check`\n", number(errors, "error")));
    }
    if read.model.listeners.is_empty() {
        bail!("nothing listens: no Gateway fits this gateway's labels\nhelp: see `portolan check`, and `--label`");
    }
    let mut builder = load::builder(&args.config, loader.modules().source(), Metrics::new(), Purpose::default())?;
    let (snapshot, problems) = builder.build(read.model.clone());
    for problem in &problems {
        output::remark(&format!("{}\n", loader.diagnose(problem).message));
    }
    let listener = pick_listener(&read.model.listeners, target.port)?;
    let at = &read.model.listeners[listener];
    if let Some(tcp) = &at.tcp {
        let explanation = TcpExplanation::new(&read.model, at, tcp);
        output::answer(&match args.output {
            ExplainOutput::Text => text::render_tcp(&explanation),
            ExplainOutput::Json => serde_json::to_string_pretty(&explanation)? + "\n",
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let outcome = run_chain(&snapshot, target.request(listener, args)?).context("the filters cannot run")?;
    let outcome = Outcome {
        listener,
        route: outcome.route,
        explanation: outcome.explanation.unwrap_or_default(),
        local_reply: outcome.local_reply,
    };
    let request = RequestPart { method: args.method.clone(), authority: target.authority, path: target.path };
    let explanation = Explanation::new(&read.model, request, &outcome, &loader.modules().overrides());
    output::answer(&match args.output {
        ExplainOutput::Text => text::render(&explanation),
        ExplainOutput::Json => serde_json::to_string_pretty(&explanation)? + "\n",
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What the URL says.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    port: u16,
    authority: String,
    path: String,
}

/// The listener on this port, bound or as its Gateway wrote it; the only one when none fits.
fn pick_listener(listeners: &[Listener], port: u16) -> Result<usize, UsageError> {
    let bound = listeners.iter().position(|listener| listener.address.port() == port);
    let written = || listeners.iter().position(|listener| listener.server_port == port);
    let only = || (listeners.len() == 1).then_some(0);
    bound.or_else(written).or_else(only).ok_or_else(|| {
        let ports: Vec<_> = listeners.iter().map(|listener| listener.address.to_string()).collect();
        UsageError(format!("nothing listens on port {port}\nhelp: listeners are {}", ports.join(", ")))
    })
}

impl Target {
    /// A `host` header wins over the URL's host, as with curl; the URL's port still picks the listener.
    fn parse(url: &str, headers: &[(String, String)]) -> Result<Self, UsageError> {
        let wrong = |why: String| UsageError(format!("`{url}` is not a URL: {why}"));
        let full = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let uri: Uri = full.parse().map_err(|error| wrong(format!("{error}")))?;
        let scheme_port = match uri.scheme_str() {
            Some("https") => Some(443),
            Some("http") => Some(80),
            Some("tcp") => None,
            _ => return Err(wrong("the scheme is http, https or tcp".to_owned())),
        };
        let authority = uri.authority().ok_or_else(|| wrong("it names no host".to_owned()))?;
        let host = headers.iter().find(|(name, _)| name == "host").map(|(_, value)| value.as_str());
        Ok(Self {
            port: authority.port_u16().or(scheme_port).ok_or_else(|| wrong("it names no port".to_owned()))?,
            authority: host.unwrap_or(authority.as_str()).to_owned(),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        })
    }

    /// The request that the filters see.
    fn request(&self, listener: usize, args: &ExplainArgs) -> Result<ExplainRequest, UsageError> {
        let wrong = |what: &str, error: &dyn std::fmt::Display| UsageError(format!("`{what}`: {error}"));
        let method = Method::from_bytes(args.method.as_bytes()).map_err(|error| wrong(&args.method, &error))?;
        let uri = self.path.parse().map_err(|error| wrong(&self.path, &error))?;
        let mut headers = HeaderMap::new();
        let host = ("host".to_owned(), self.authority.clone());
        let others = args.headers.iter().filter(|(name, _)| name != "host");
        for (name, value) in std::iter::once(&host).chain(others) {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| wrong(name, &error))?;
            let value = HeaderValue::from_str(value).map_err(|error| wrong(value, &error))?;
            headers.append(name, value);
        }
        Ok(ExplainRequest { listener, method, uri, headers })
    }
}

#[cfg(test)]
mod tests;
