//! [`read`]: the cases of a folder, or what is wrong with their files.

use std::path::Path;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};
use portolan_config::plain::Plain;
use portolan_config::{Diagnostic, Sources};

use super::{Answer, Case, Headers, Peer, PlacedCase, Request};
use crate::cases::files::{self, Documents, Format, UNUSABLE};
use crate::filter::stage::Named;

/// Cases in the order of their files and of their places there.
#[derive(Debug)]
pub(crate) struct Cases {
    /// The good ones.
    pub(crate) cases: Vec<PlacedCase>,
    /// What is wrong with the others.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Their files, to quote from.
    pub(crate) sources: Sources,
}

/// Reads `*.test.yaml` of the folder and of `tests` in it. Route tests beside them are passed over.
pub(crate) fn read(folder: &Path) -> Cases {
    let mut files = files::in_folder(folder);
    files.extend(files::in_folder(&folder.join("tests")));
    let Documents { read, mut diagnostics, sources } = files::read::<Case>(&files, Format::Filter);
    let mut cases = Vec::new();
    for case in read {
        let findings = check(&case);
        if findings.is_empty() {
            cases.push(case);
        }
        diagnostics.extend(findings);
    }
    diagnostics.extend(files::same_names(&cases, |case| &case.name));
    Cases { cases, diagnostics, sources }
}

/// The first thing that is wrong with a request that stands in no file.
pub(crate) fn first_mistake(request: &Request) -> Option<String> {
    let case = Plain { value: Case::default(), places: Arc::default() };
    let mut checking = Checking { case: &case, findings: Vec::new() };
    checking.request(request, "request");
    checking.findings.into_iter().next().map(|finding| finding.message)
}

/// What is wrong with a case beyond its form.
fn check(case: &PlacedCase) -> Vec<Diagnostic> {
    let mut checking = Checking { case, findings: Vec::new() };
    let value = &case.value;
    if value.name.trim().is_empty() {
        checking.find("name", "a case needs a `name`");
    }
    for (index, request) in value.before.iter().enumerate() {
        checking.request(request, &format!("before[{index}]"));
    }
    checking.request(&value.request, "request");
    checking.peer(&value.upstream, "upstream");
    for (name, peer) in &value.services {
        let path = format!("services.{name}");
        if Named::parse(name).is_none() {
            checking.find_key(&path, format!("`{name}` is no service: HOST, HOST:PORT or `outbound|PORT||HOST`"));
        }
        checking.peer(peer, &path);
    }
    if !value.expects_something() {
        checking.find("expect", "nothing is expected: name at least one of `request`, `response`, `calls`, `callouts`, `log`, `refusal`, `metrics` in `expect`");
    }
    checking.callouts();
    checking.findings
}

struct Checking<'a> {
    case: &'a PlacedCase,
    findings: Vec<Diagnostic>,
}

impl Checking<'_> {
    fn find(&mut self, path: &str, message: impl Into<String>) {
        self.findings.push(Diagnostic::error(UNUSABLE, self.case.place(path), message));
    }

    fn find_key(&mut self, path: &str, message: impl Into<String>) {
        self.findings.push(Diagnostic::error(UNUSABLE, self.case.key_place(path), message));
    }

    fn request(&mut self, request: &Request, path: &str) {
        if Method::from_bytes(request.method.as_bytes()).is_err() {
            self.find(&format!("{path}.method"), format!("`{}` is not a method", request.method));
        }
        let is_target = request.path.starts_with('/') && request.path.parse::<http::uri::PathAndQuery>().is_ok();
        if !is_target && request.path != "*" {
            self.find(&format!("{path}.path"), format!("`{}` is not a path: it begins with `/`", request.path));
        }
        if HeaderValue::from_str(&request.host).is_err() {
            self.find(&format!("{path}.host"), "not a host");
        }
        self.headers(&request.headers, &format!("{path}.headers"));
        self.headers(&request.trailers, &format!("{path}.trailers"));
    }

    fn peer(&mut self, peer: &Peer, path: &str) {
        let Peer::Answers(Answer { status, headers, trailers, .. }) = peer else { return };
        if !(200..600).contains(status) {
            self.find(&format!("{path}.status"), format!("`{status}` is not a status from 200 to 599"));
        }
        self.headers(headers, &format!("{path}.headers"));
        self.headers(trailers, &format!("{path}.trailers"));
    }

    fn headers(&mut self, Headers(lines): &Headers, path: &str) {
        for (name, value) in lines {
            let at = format!("{path}.{name}");
            if HeaderName::from_bytes(name.as_bytes()).is_err() {
                self.find(&at, format!("`{name}` is not a header's name"));
            } else if HeaderValue::from_str(value).is_err() {
                self.find(&at, format!("the value of `{name}` is not a header's value"));
            } else if ["host", "content-length", "transfer-encoding"].contains(&name.to_ascii_lowercase().as_str()) {
                self.find(&at, format!("`{name}` is the gateway's: `host` is a field, and the body brings its length"));
            }
        }
    }

    /// A callout goes to a service that is there.
    fn callouts(&mut self) {
        let callouts = self.case.value.expect.callouts.iter().flatten().enumerate();
        let named = callouts.filter_map(|(index, callout)| Some((index, callout.to.as_ref()?)));
        let unknown: Vec<_> = named.filter(|(_, to)| !self.case.value.services.contains_key(*to)).collect();
        for (index, to) in unknown {
            self.find(&format!("expect.callouts[{index}].to"), format!("no service `{to}` in `services`"));
        }
    }
}
