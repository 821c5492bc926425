//! [`Table`]: a configuration that requests are explained by, without serving it: the model, and a snapshot whose filters run.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, bail};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use portolan_config::Severity;
use portolan_model::{Listener, Model, Plugin, Transport};
use portolan_proxy::{
    Builder, Cause, ExplainRequest, ModuleBytes, ModuleError, ModuleSource, Snapshot, explain as run_chain,
};
use portolan_telemetry::Metrics;
use serde::{Deserialize, Serialize};

use super::making::Asked;
use super::tcp::TcpExplanation;
use super::tree::{Explanation, RequestPart};
use crate::args::ConfigArgs;
use crate::change::number;
use crate::check::FETCH_TIME;
use crate::load::{self, Loader, Purpose};
use crate::{UsageError, output};

/// A request that nobody sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// Picks the listener.
    pub(crate) port: u16,
    /// The Host header.
    pub(crate) authority: String,
    /// The name that a client of TLS asks for, where it is not that of the Host header.
    pub(crate) server_name: Option<String>,
    /// Path and query.
    pub(crate) path: String,
    /// The method.
    pub(crate) method: String,
    /// Other lines; names in lower case.
    pub(crate) headers: Vec<(String, String)>,
}

/// Where it goes, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Verdict {
    /// A request.
    Http(Box<Explanation>),
    /// A connection.
    Tcp(Box<TcpExplanation>),
}

/// For snapshots without filters of users.
pub(crate) struct NoModules;

impl ModuleSource for NoModules {
    fn module(&self, _: &Plugin) -> Result<ModuleBytes, ModuleError> {
        Err(ModuleError { message: "not run here".to_owned(), cause: Cause::Broken })
    }
}

/// See the module.
pub(crate) struct Table {
    model: Arc<Model>,
    snapshot: Arc<Snapshot>,
    /// Bundled filters with the files that replace them.
    overrides: Vec<(String, String)>,
}

impl Table {
    /// Reads and builds. Mistakes in the files are counted on standard error, as `run` would serve without them.
    pub(crate) fn read(config: &ConfigArgs) -> anyhow::Result<Self> {
        let mut loader = Loader::new(config)?;
        let read = loader.read(false);
        loader.modules().wait(FETCH_TIME);
        let errors = read.diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
        if errors > 0 {
            output::remark(&format!("{} in the files; see `portolan check`\n", number(errors, "error")));
        }
        if read.model.listeners.is_empty() {
            bail!("nothing listens: no Gateway fits this gateway's labels\nhelp: see `portolan check`, and `--label`");
        }
        let mut builder = load::builder(config, loader.modules().source(), Metrics::new(), Purpose::default())?;
        let (snapshot, problems) = builder.build(read.model.clone());
        for problem in &problems {
            output::remark(&format!("{}\n", loader.diagnose(problem).message));
        }
        Ok(Self { model: read.model, snapshot, overrides: loader.modules().overrides() })
    }

    /// Of a model that is served elsewhere. Filters of users are told and do not run, for they could call somebody; nor are
    /// endpoints resolved, nor certificates read.
    pub(crate) fn without_plugins(model: &Arc<Model>, builder: &mut Builder, overrides: Vec<(String, String)>) -> Self {
        let mut deciding = Model { plugins: Vec::new(), access_logs: Vec::new(), ..(**model).clone() };
        for cluster in &mut deciding.clusters {
            cluster.endpoints.clear();
            cluster.transport = Transport::default();
        }
        let (snapshot, _) = builder.build(Arc::new(deciding));
        Self { model: model.clone(), snapshot, overrides }
    }

    /// What is served.
    pub(crate) fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Runs the filters on the request.
    pub(crate) fn ask(&self, question: &Question) -> anyhow::Result<Verdict> {
        let listener = pick_listener(&self.model.listeners, question.port)?;
        let filter_chain = pick_chain(&self.model.listeners[listener], question.server_name())?;
        let model = as_seen(&self.model, listener, filter_chain);
        let at = &model.listeners[listener];
        if let Some(tcp) = &at.tcp {
            return Ok(Verdict::Tcp(Box::new(TcpExplanation::new(&model, at, tcp))));
        }
        let request = ExplainRequest { filter_chain, ..question.request(listener)? };
        let headers = request.headers.clone();
        let outcome = run_chain(&self.snapshot, request).context("the filters cannot run")?;
        let Question { method, authority, path, .. } = question.clone();
        let asked = Asked { request: RequestPart { method, authority, path }, headers: &headers, listener, outcome };
        Ok(Verdict::Http(Box::new(Explanation::new(&model, asked, &self.overrides))))
    }
}

/// The listener on this port, bound or as its Gateway wrote it; the only one when none fits.
pub(super) fn pick_listener(listeners: &[Listener], port: u16) -> Result<usize, UsageError> {
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
fn as_seen(model: &Model, listener: usize, filter_chain: Option<usize>) -> Cow<'_, Model> {
    let Some(chain) = filter_chain.and_then(|index| model.listeners[listener].filter_chains.get(index)) else {
        return Cow::Borrowed(model);
    };
    let mut seen = model.clone();
    let at = &mut seen.listeners[listener];
    (at.route_table, at.tcp) = (chain.route_table, chain.tcp.clone());
    Cow::Owned(seen)
}

impl Question {
    /// The name that a client of TLS asks for: that of the URL, else the host without its port.
    fn server_name(&self) -> &str {
        if let Some(name) = &self.server_name {
            return name;
        }
        let (name, port) = self.authority.rsplit_once(':').unwrap_or((&self.authority, ""));
        if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { &self.authority }
    }

    /// A `host` header wins over the URL's host, as with curl; the URL's port still picks the listener, and its name the server
    /// of TLS. An address is no name.
    pub(crate) fn parse(url: &str, method: &str, headers: &[(String, String)]) -> Result<Self, UsageError> {
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
        let is_address = authority.host().trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let server_name = host.filter(|_| !is_address).map(|_| authority.host().to_owned());
        Ok(Self {
            server_name,
            port: authority.port_u16().or(scheme_port).ok_or_else(|| wrong("it names no port".to_owned()))?,
            authority: host.unwrap_or(authority.as_str()).to_owned(),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            method: method.to_owned(),
            headers: headers.iter().filter(|(name, _)| name != "host").cloned().collect(),
        })
    }

    /// The request that the filters see.
    fn request(&self, listener: usize) -> Result<ExplainRequest, UsageError> {
        let wrong = |what: &str, error: &dyn std::fmt::Display| UsageError(format!("`{what}`: {error}"));
        let method = Method::from_bytes(self.method.as_bytes()).map_err(|error| wrong(&self.method, &error))?;
        let uri = self.path.parse().map_err(|error| wrong(&self.path, &error))?;
        let mut headers = HeaderMap::new();
        let host = ("host".to_owned(), self.authority.clone());
        for (name, value) in std::iter::once(&host).chain(&self.headers) {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| wrong(name, &error))?;
            let value = HeaderValue::from_str(value).map_err(|error| wrong(value, &error))?;
            headers.append(name, value);
        }
        Ok(ExplainRequest { listener, filter_chain: None, method, uri, headers })
    }

    /// As [`Self::of_query`] reads it.
    pub(crate) fn to_query(&self) -> String {
        let mut query = format!(
            "port={}&authority={}&path={}&method={}",
            self.port,
            encoded(&self.authority),
            encoded(&self.path),
            encoded(&self.method)
        );
        if let Some(name) = &self.server_name {
            query.push_str(&format!("&server_name={}", encoded(name)));
        }
        for (name, value) in &self.headers {
            query.push_str(&format!("&header={}", encoded(&format!("{name}: {value}"))));
        }
        query
    }

    /// From pairs of a query: `url`, or `port`, `authority`, `server_name` and `path`; `method` and any number of `header=NAME: VALUE`.
    pub(crate) fn of_query(pairs: &[(String, String)]) -> Result<Self, UsageError> {
        let first = |key: &str| pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        let mut headers = Vec::new();
        for (key, value) in pairs {
            match key.as_str() {
                "header" => headers.push(crate::args::parse_header(value).map_err(UsageError)?),
                "url" | "port" | "authority" | "server_name" | "path" | "method" => {}
                other => return Err(UsageError(format!("`{other}` is no part of a question"))),
            }
        }
        let method = first("method").unwrap_or("GET");
        if let Some(url) = first("url") {
            return Self::parse(url, method, &headers);
        }
        let authority = first("authority").ok_or_else(|| UsageError("wants `url`, or `authority`".to_owned()))?;
        let port = first("port").unwrap_or("80");
        Ok(Self {
            port: port.parse().map_err(|_| UsageError(format!("`{port}` is not a port")))?,
            authority: authority.to_owned(),
            server_name: first("server_name").map(str::to_owned),
            path: first("path").unwrap_or("/").to_owned(),
            method: method.to_owned(),
            headers,
        })
    }
}

/// For a query.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
