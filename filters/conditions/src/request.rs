//! [`RequestMatch`]: a condition on a request's head.

use std::collections::BTreeMap;

use portolan_sdk::{ConfigSchema, HostError};
use serde::Deserialize;

use crate::{Head, HeaderName, StringMatch};

/// A condition on a request: all that is given must hold, and an empty one holds for every request.
#[derive(Clone, Debug, Default, Deserialize, ConfigSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestMatch {
    /// One of these must hold for the path without its query.
    paths: Vec<StringMatch>,
    /// The method is one of these, upper case by custom.
    methods: Vec<String>,
    /// Each must hold for the first value of its header; a header that is absent fulfils none.
    headers: BTreeMap<HeaderName, StringMatch>,
    /// None of these headers is there.
    without_headers: Vec<HeaderName>,
    /// Each must hold for the first value of its parameter, which is not decoded.
    query: BTreeMap<String, StringMatch>,
    /// Each must hold for its cookie.
    cookies: BTreeMap<String, StringMatch>,
}

impl RequestMatch {
    /// True when it says nothing.
    pub fn is_empty(&self) -> bool {
        let Self { paths, methods, headers, without_headers, query, cookies } = self;
        paths.is_empty()
            && methods.is_empty()
            && headers.is_empty()
            && without_headers.is_empty()
            && query.is_empty()
            && cookies.is_empty()
    }

    /// True when it holds.
    ///
    /// # Errors
    /// When the host does not tell.
    pub fn holds<'a>(&self, head: &impl Head<'a>) -> Result<bool, HostError> {
        if !self.methods.is_empty() {
            let method = head.header(":method")?.unwrap_or_default();
            if !self.methods.iter().any(|known| known.as_bytes() == method) {
                return Ok(false);
            }
        }
        if !self.paths.is_empty() {
            let path = head.path()?;
            if !self.paths.iter().any(|condition| condition.holds(path)) {
                return Ok(false);
            }
        }
        for name in &self.without_headers {
            if head.header(name.as_str())?.is_some() {
                return Ok(false);
            }
        }
        Ok(all(&self.headers, |name| head.header(name.as_str()))?
            && all(&self.query, |name| head.query(name))?
            && all(&self.cookies, |name| head.cookie(name))?)
    }
}

fn all<'a, N>(
    conditions: &BTreeMap<N, StringMatch>,
    value: impl Fn(&N) -> Result<Option<&'a [u8]>, HostError>,
) -> Result<bool, HostError> {
    for (name, condition) in conditions {
        if !value(name)?.is_some_and(|value| condition.holds(value)) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use portolan_sdk::prelude::*;
    use portolan_sdk::testing::TestHost;

    use super::*;

    /// Lets those requests on for which the condition holds.
    struct Ask(RequestMatch);

    impl Filter for Ask {
        type Config = RequestMatch;
        type Stream = ();

        fn configure(condition: RequestMatch) -> Result<Self, ConfigError> {
            Ok(Self(condition))
        }

        fn stream(&self) {}

        fn on_request_headers(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
            Ok(if self.0.holds(request)? { Action::Continue } else { Action::Pause })
        }
    }

    portolan_sdk::filter! { Ask: on_request_headers }

    fn holds(condition: &str, headers: &[(&str, &str)]) -> bool {
        let host = TestHost::<Ask>::start(condition).unwrap();
        host.stream().request_headers(headers) == Action::Continue
    }

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":path", "/a/b?x=1"), ("x-user", "me"), ("cookie", "k=v; l=w")];

    #[test]
    fn an_empty_condition_holds_for_every_request() {
        assert!(holds("{}", &[]) && holds("{}", &GET));
    }

    #[test]
    fn one_part_that_does_not_hold_is_enough() {
        assert!(!holds(r#"{"methods": ["GET"], "paths": [{"exact": "/"}]}"#, &GET));
        assert!(!holds(r#"{"methods": ["POST"], "paths": [{"prefix": "/"}]}"#, &GET));
    }

    #[test]
    fn each_part_is_held_against_its_place() {
        for part in [
            r#""paths": [{"exact": "/"}, {"prefix": "/a/"}]"#,
            r#""methods": ["POST", "GET"]"#,
            r#""headers": {"X-User": {"regex": "m."}}"#,
            r#""withoutHeaders": ["x-other"]"#,
            r#""query": {"x": {"exact": "1"}}"#,
            r#""cookies": {"l": {"exact": "w"}}"#,
        ] {
            assert!(holds(&format!("{{{part}}}"), &GET), "{part}");
        }
        for part in [
            r#""paths": [{"exact": "/a"}]"#,
            r#""methods": ["POST"]"#,
            r#""headers": {"x-user": {"exact": "you"}}"#,
            r#""withoutHeaders": ["x-user"]"#,
            r#""query": {"y": {"exact": "1"}}"#,
            r#""cookies": {"k": {"exact": "w"}}"#,
        ] {
            assert!(!holds(&format!("{{{part}}}"), &GET), "{part}");
        }
    }

    #[test]
    fn cookies_are_found_in_every_line() {
        let lines = [("cookie", "a=1"), ("cookie", "b=2")];
        assert!(holds(r#"{"cookies": {"b": {"exact": "2"}}}"#, &lines));
    }
}
