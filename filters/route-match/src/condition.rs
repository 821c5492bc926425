//! [`Condition`]: one of those that must all hold for a route.

use portolan_model::{HeaderMatch, RouteMatch};

use crate::claims;
use crate::head::Head;
use crate::pattern::Pattern;

/// A pattern and what it is compared with.
#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) subject: Subject,
    pub(crate) pattern: Pattern,
}

/// What a condition looks at.
#[derive(Debug)]
pub(crate) enum Subject {
    /// The path without query.
    Uri {
        ignore_case: bool,
    },
    Scheme,
    Method,
    /// Host and port.
    Authority,
    /// Any line of this header.
    Header(String),
    /// No line of this header; an absent one counts as empty, but not an absent claim.
    WithoutHeader(String),
    /// The first value of this query parameter.
    QueryParam(String),
}

/// The conditions of a route, those that cost least first.
pub(crate) fn of_route(route: RouteMatch) -> Box<[Condition]> {
    let ignore_case = route.ignore_uri_case;
    let single = [
        (Subject::Uri { ignore_case }, route.uri),
        (Subject::Scheme, route.scheme.map(|wanted| *wanted)),
        (Subject::Method, route.method.map(|wanted| *wanted)),
        (Subject::Authority, route.authority.map(|wanted| *wanted)),
    ];
    let single = single.into_iter().filter_map(|(subject, wanted)| Some((subject, wanted?)));
    let named = |subject: fn(String) -> Subject| move |HeaderMatch { name, value }| (subject(name), value);
    single
        .chain(route.headers.into_value().into_iter().map(named(Subject::Header)))
        .chain(route.without_headers.into_value().into_iter().map(named(Subject::WithoutHeader)))
        .chain(route.query_params.into_value().into_iter().map(named(Subject::QueryParam)))
        .map(|(subject, wanted)| Condition { subject, pattern: Pattern::new(wanted) })
        .collect()
}

impl Condition {
    pub(crate) fn holds(&self, head: &impl Head) -> bool {
        let pattern = &self.pattern;
        match &self.subject {
            Subject::Uri { ignore_case } => match head.path() {
                // A CONNECT has none, and no regular expression fits that.
                [] => false,
                path if *ignore_case => pattern.holds_without_case(path),
                path => pattern.holds(path),
            },
            Subject::Scheme => pattern.holds(head.scheme()),
            Subject::Method => pattern.holds(head.method()),
            Subject::Authority => pattern.holds(head.authority()),
            Subject::Header(name) => head.any_value(name, &mut |value| pattern.holds(value)),
            Subject::WithoutHeader(name) => !self.holds_or_is_empty(name, head),
            Subject::QueryParam(name) => query_value(head.query(), name).is_some_and(|value| pattern.holds(value)),
        }
    }

    fn holds_or_is_empty(&self, name: &str, head: &impl Head) -> bool {
        let mut absent = true;
        let holds = head.any_value(name, &mut |value| {
            absent = false;
            self.pattern.holds(value)
        });
        holds
            || (absent
                && !claims::is_claim(name)
                && !matches!(self.pattern, Pattern::Present)
                && self.pattern.holds(b""))
    }
}

/// The first value of a query parameter, not decoded; empty without `=`.
pub(crate) fn query_value<'a>(query: Option<&'a [u8]>, name: &str) -> Option<&'a [u8]> {
    query?.split(|byte| *byte == b'&').find_map(|pair| match pair.strip_prefix(name.as_bytes())? {
        [] => Some(b"".as_slice()),
        [b'=', value @ ..] => Some(value),
        _ => None,
    })
}
