//! [`compare`]: what came of a case against what it expects.

mod calls;

use std::collections::BTreeMap;

use super::case::{Arrival, CalloutMatch, Case, Expect, RequestMatch, ResponseMatch};
use crate::cases::{Comparing, TextMatch, matches, shown};
pub(crate) use crate::cases::{Difference, Lines, value};
pub(crate) use calls::{Call, Traced};

/// What came of a case.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    /// Requests that the upstream has seen.
    pub(crate) arrived: Vec<Seen>,
    /// What the client has got, or why there is nothing.
    pub(crate) response: Result<Got, String>,
    /// Requests that other services have seen, with the service's name.
    pub(crate) callouts: Vec<(String, Seen)>,
    /// The filter's callbacks and what it called in them.
    pub(crate) trace: Vec<Traced>,
    /// What the filter has logged, each as `LEVEL: TEXT`.
    pub(crate) log: Vec<String>,
    /// What the filter's metrics stand at.
    pub(crate) metrics: BTreeMap<String, f64>,
}

/// A request as its receiver saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The method.
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    /// Who it was sent to, by its own word.
    pub(crate) host: String,
    /// As they came.
    pub(crate) headers: Lines,
    /// Whole.
    pub(crate) body: Vec<u8>,
    /// Behind the body.
    pub(crate) trailers: Lines,
}

/// A response as the client saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Got {
    /// The status.
    pub(crate) status: u16,
    /// As they came.
    pub(crate) headers: Lines,
    /// Whole.
    pub(crate) body: Vec<u8>,
    /// Behind the body.
    pub(crate) trailers: Lines,
}

/// All differences, in the order of the format.
pub(crate) fn compare(case: &Case, observed: &Observed) -> Vec<Difference> {
    let Expect { request, response, calls, callouts, log, metrics, .. } = &case.expect;
    let mut comparing = Comparing::default();
    if let Some(arrival) = request {
        comparing.arrival(arrival, observed);
    }
    if let Some(calls) = calls {
        comparing.differences.extend(calls::compare(calls, &observed.trace));
    }
    if let Some(callouts) = callouts {
        comparing.callouts(callouts, &observed.callouts);
    }
    if let Some(response) = response {
        comparing.response(response, observed);
    }
    comparing.log(log, &observed.log);
    comparing.metrics(metrics, &observed.metrics);
    comparing.differences
}

/// The same for a filter that has refused its configuration, or should have: none for who started and was to start.
pub(crate) fn compare_refusal(case: &Case, refusal: Option<&str>) -> Option<Difference> {
    let (field, expected, got) = match (&case.expect.refusal, refusal) {
        (None, None) => return None,
        (Some(expected), Some(refusal)) if matches::in_line(expected, refusal) => return None,
        (Some(expected), refusal) => {
            ("refusal", matches::describe(expected), refusal.unwrap_or("the filter has started"))
        }
        (None, Some(refusal)) => ("config", "a filter that starts".to_owned(), refusal),
    };
    Some(Difference { field: field.to_owned(), expected, got: got.to_owned(), trace: Vec::new() })
}

impl Comparing {
    fn arrival(&mut self, arrival: &Arrival, observed: &Observed) {
        match (arrival, observed.arrived.last()) {
            (Arrival::Nothing, Some(seen)) => {
                self.find("request", "nothing at the upstream", format!("{} {}", seen.method, seen.path));
            }
            (Arrival::Request(_), None) => {
                self.find("request", "a request at the upstream", "nothing came");
            }
            (Arrival::Request(expected), Some(seen)) => self.request(expected, seen),
            (Arrival::Nothing, None) => {}
        }
    }

    fn request(&mut self, expected: &RequestMatch, seen: &Seen) {
        let RequestMatch { method, path, host, headers, body, trailers } = expected;
        self.text("request.method", method.as_ref(), Some(&seen.method));
        self.text("request.path", path.as_ref(), Some(&seen.path));
        self.text("request.host", host.as_ref(), Some(&seen.host));
        self.lines("request.headers", headers, &seen.headers);
        self.body("request.body", body.as_ref(), &seen.body);
        self.lines("request.trailers", trailers, &seen.trailers);
    }

    fn response(&mut self, expected: &ResponseMatch, observed: &Observed) {
        let got = match &observed.response {
            Ok(got) => got,
            Err(reason) => return self.find("response", "a response", reason),
        };
        if let Some(status) = expected.status.filter(|status| *status != got.status) {
            self.find("response.status", status.to_string(), got.status.to_string());
        }
        self.lines("response.headers", &expected.headers, &got.headers);
        self.body("response.body", expected.body.as_ref(), &got.body);
        self.lines("response.trailers", &expected.trailers, &got.trailers);
    }

    /// All of them, in order: one more or one less is a difference.
    fn callouts(&mut self, expected: &[CalloutMatch], observed: &[(String, Seen)]) {
        let one = |(to, seen): &(String, Seen)| format!("{} {} to {to}", seen.method, seen.path);
        for (index, expected) in expected.iter().enumerate() {
            let field = format!("callouts[{index}]");
            let Some((to, seen)) = observed.get(index) else {
                self.find(field, "a callout", "no more came");
                continue;
            };
            let CalloutMatch { to: wanted, method, path, headers, body } = expected;
            if let Some(wanted) = wanted.as_ref().filter(|wanted| *wanted != to) {
                self.find(format!("{field}.to"), wanted, to);
            }
            self.text(&format!("{field}.method"), method.as_ref(), Some(&seen.method));
            self.text(&format!("{field}.path"), path.as_ref(), Some(&seen.path));
            self.lines(&format!("{field}.headers"), headers, &seen.headers);
            self.body(&format!("{field}.body"), body.as_ref(), &seen.body);
        }
        if let Some(more) = observed.get(expected.len()) {
            self.find("callouts", shown::count(expected.len(), "callout"), format!("one more: {}", one(more)));
        }
    }

    /// As a subsequence of the lines.
    fn log(&mut self, expected: &[TextMatch], lines: &[String]) {
        let mut rest = lines.iter();
        for (index, expected) in expected.iter().enumerate() {
            if !rest.any(|line| matches::in_line(expected, line)) {
                let got = match lines {
                    [] => "the filter has logged nothing".to_owned(),
                    lines => lines.join("\n"),
                };
                return self.find(format!("log[{index}]"), matches::describe(expected), got);
            }
        }
    }

    fn metrics(&mut self, expected: &BTreeMap<String, f64>, observed: &BTreeMap<String, f64>) {
        for (name, expected) in expected {
            match observed.get(name) {
                Some(got) if got == expected => {}
                Some(got) => self.find(format!("metrics.{name}"), expected.to_string(), got.to_string()),
                None if *expected == 0.0 => {}
                None => self.find(format!("metrics.{name}"), expected.to_string(), known_metrics(observed)),
            }
        }
    }
}

fn known_metrics(observed: &BTreeMap<String, f64>) -> String {
    let names: Vec<_> = observed.keys().map(String::as_str).collect();
    match names.as_slice() {
        [] => "the filter has no metrics".to_owned(),
        names => format!("no such metric; there are {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests;
