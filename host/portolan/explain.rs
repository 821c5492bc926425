//! `portolan explain`: runs the real filter chain on a made-up request, and says which rule it takes and why.

mod tcp;
mod text;
mod tree;

use std::process::ExitCode;

use anyhow::{Context, bail};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use portolan_config::Severity;
use portolan_model::{Listener, Model};
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
    let filter_chain = pick_chain(&read.model.listeners[listener], target.host())?;
    let model = as_seen(&read.model, listener, filter_chain);
    let at = &model.listeners[listener];
    if let Some(tcp) = &at.tcp {
        let explanation = TcpExplanation::new(&model, at, tcp);
        output::answer(&match args.output {
            ExplainOutput::Text => text::render_tcp(&explanation),
            ExplainOutput::Json => serde_json::to_string_pretty(&explanation)? + "\n",
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let outcome = run_chain(&snapshot, ExplainRequest { filter_chain, ..target.request(listener, args)? })
        .context("the filters cannot run")?;
    let outcome = Outcome {
        listener,
        route: outcome.route,
        explanation: outcome.explanation.unwrap_or_default(),
        local_reply: outcome.local_reply,
    };
    let request = RequestPart { method: args.method.clone(), authority: target.authority, path: target.path };
    let explanation = Explanation::new(&model, request, &outcome, &loader.modules().overrides());
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

/// The filter chain that a client gets who asks for this server name; none on a listener without TLS.
fn pick_chain(listener: &Listener, host: &str) -> Result<Option<usize>, UsageError> {
    let chains = &listener.filter_chains;
    let names = |index: usize| chains[index].server_names.iter();
    let host = host.to_ascii_lowercase();
    let suffixes = host.match_indices('.').map(|(at, _)| format!("*{}", &host[at..]));
    let wanted = std::iter::once(host.clone()).chain(suffixes).chain(std::iter::once("*".to_owned()));
    let by_name = |name: String| (0..chains.len()).find(|index| names(*index).any(|known| *known == name));
    let found = wanted.into_iter().find_map(by_name);
    if found.is_none() && !chains.is_empty() {
        let known: Vec<_> = chains.iter().flat_map(|chain| &chain.server_names).map(String::as_str).collect();
        let text = format!("no TLS server on {} has `{host}`: the handshake fails", listener.address);
        return Err(UsageError(format!("{text}\nhelp: server names are {}", known.join(", "))));
    }
    Ok(found)
}

/// The model as a client of this filter chain sees it: the chain's routes are the listener's.
fn as_seen(model: &Model, listener: usize, filter_chain: Option<usize>) -> Model {
    let mut model = model.clone();
    let seen = &mut model.listeners[listener];
    if let Some(chain) = filter_chain.and_then(|index| seen.filter_chains.get(index)) {
        (seen.route_table, seen.tcp) = (chain.route_table, chain.tcp.clone());
    }
    model
}

impl Target {
    /// The name that the client asks for: the URL's or the header's host, without its port.
    fn host(&self) -> &str {
        let (name, port) = self.authority.rsplit_once(':').unwrap_or((&self.authority, ""));
        if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { &self.authority }
    }

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
        Ok(ExplainRequest { listener, filter_chain: None, method, uri, headers })
    }
}

#[cfg(test)]
mod tests;
