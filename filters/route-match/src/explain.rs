//! Why a request takes its route: for `portolan explain`, which runs this filter on a made-up request.

use portolan_model::filter::{RouteExplanation, RouteVerdict};

use crate::condition::{Condition, Subject, query_value};
use crate::head::Head;
use crate::matcher::Matcher;

/// Walks the routes of the request's host in order with the conditions that [`Matcher::find`] uses.
pub(crate) fn explain(matcher: &Matcher, table: usize, head: &impl Head) -> RouteExplanation {
    let Some(host) = matcher.host(table, head) else { return RouteExplanation::default() };
    let mut found = false;
    let verdict = |route: &u32| {
        let (verdict, reason) = if found {
            ("not reached", String::new())
        } else {
            let conditions = &host.rules.routes[*route as usize];
            let failed = conditions.iter().find(|condition| !condition.holds(head));
            found = failed.is_none();
            failed.map_or_else(|| ("yes", why_yes(conditions)), |condition| ("no", why_not(condition, head)))
        };
        RouteVerdict { route: *route, verdict: verdict.into(), reason }
    };
    RouteExplanation {
        host: Some(host.domain.into()),
        host_kind: Some(host.kind.as_str().into()),
        routes: host.rules.order.order().iter().map(verdict).collect(),
    }
}

fn why_yes(conditions: &[Condition]) -> String {
    if conditions.is_empty() {
        return "no condition".into();
    }
    let all: Vec<String> = conditions
        .iter()
        .map(|condition| format!("{} {}", subject(&condition.subject), condition.pattern.describe()))
        .collect();
    all.join(", ")
}

fn why_not(condition: &Condition, head: &impl Head) -> String {
    let wants = format!("{}: wants {}", subject(&condition.subject), condition.pattern.describe());
    match &condition.subject {
        Subject::Uri { .. } => format!("{wants}, path is {}", quoted(head.path())),
        Subject::Scheme => format!("{wants}, got {}", quoted(head.scheme())),
        Subject::Method => format!("{wants}, got {}", quoted(head.method())),
        Subject::Authority => format!("{wants}, got {}", quoted(head.authority())),
        Subject::Header(name) => format!("{wants}, {}", got(&values(head, name))),
        Subject::WithoutHeader(name) => {
            let wants_not = format!("{}: wants none of {}", subject(&condition.subject), condition.pattern.describe());
            format!("{wants_not}, {}", got(&values(head, name)))
        }
        Subject::QueryParam(name) => {
            let value = query_value(head.query(), name).map(quoted);
            format!("{wants}, {}", got(value.as_slice()))
        }
    }
}

/// As it is named in a VirtualService.
fn subject(subject: &Subject) -> String {
    match subject {
        Subject::Uri { ignore_case: false } => "uri".into(),
        Subject::Uri { ignore_case: true } => "uri (ignoring case)".into(),
        Subject::Scheme => "scheme".into(),
        Subject::Method => "method".into(),
        Subject::Authority => "authority".into(),
        Subject::Header(name) => format!("headers {name}"),
        Subject::WithoutHeader(name) => format!("withoutHeaders {name}"),
        Subject::QueryParam(name) => format!("queryParams {name}"),
    }
}

fn values(head: &impl Head, name: &str) -> Vec<String> {
    let mut values = Vec::new();
    head.any_value(name, &mut |value| {
        values.push(quoted(value));
        false
    });
    values.dedup();
    values
}

fn got(values: &[String]) -> String {
    if values.is_empty() { "got none".into() } else { format!("got {}", values.join(", ")) }
}

fn quoted(value: &[u8]) -> String {
    format!("\"{}\"", String::from_utf8_lossy(value))
}
