//! Questions and answers over HTTP, with the rules of Envoy's `ext_authz` and Istio's `envoyExtAuthzHttp`.

use crate::config::Http;
use crate::verdict::{Append, Changes, Denial, Mutation, Verdict};

/// Sent whatever the configuration lists (Envoy's `allowed_headers`).
const ALWAYS_SENT: &[u8] = b"authorization";

/// In a refusal these go to the client whatever the configuration lists (Envoy's `allowed_client_headers`).
const ALWAYS_RETURNED: [&[u8]; 2] = [b"location", b"www-authenticate"];

/// A good answer may name headers here that the upstream shall not get, separated by commas.
const TO_REMOVE: &[u8] = b"x-envoy-auth-headers-to-remove";

/// Of one message, and never handed on: framing, connection, and what the gateway writes itself.
const OF_ONE_MESSAGE: [&[u8]; 14] = [
    b"connection",
    b"content-length",
    b"date",
    b"host",
    b"keep-alive",
    b"proxy-connection",
    b"server",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"x-envoy-upstream-service-time",
    b"http2-settings",
    b"expect",
];

type Line<'a> = (&'a [u8], &'a [u8]);

impl Http {
    /// The head of a question about a request with these headers.
    pub(crate) fn question<'a>(&'a self, request: impl Iterator<Item = Line<'a>>) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut lines = Vec::new();
        for (name, value) in request {
            match name {
                b":path" => lines.push((name.to_vec(), [self.path_prefix.as_bytes(), value].concat())),
                b":method" | b":authority" => lines.push((name.to_vec(), value.to_vec())),
                _ if is_own(name) && (name == ALWAYS_SENT || self.request.has(name)) => {
                    lines.push((name.to_vec(), value.to_vec()));
                }
                _ => {}
            }
        }
        for (name, value) in &self.additional {
            lines.retain(|(known, _)| known != name.as_bytes());
            lines.push((name.clone().into_bytes(), value.clone().into_bytes()));
        }
        lines
    }

    /// What an answer means: 200 allows, 5xx is a failure of the service, everything else is for the client.
    pub(crate) fn verdict<'a>(&self, status: u16, headers: impl Iterator<Item = Line<'a>>, body: &[u8]) -> Verdict {
        match status {
            200 => Verdict::Allow(self.changes(headers)),
            ..200 | 500.. => Verdict::Error,
            _ => Verdict::Deny(self.denial(status, headers, body)),
        }
    }

    fn changes<'a>(&self, headers: impl Iterator<Item = Line<'a>>) -> Changes {
        let mut changes = Changes::default();
        for (name, value) in headers.filter(|(name, _)| is_own(name)) {
            if name == TO_REMOVE {
                let names = value.split(|byte| *byte == b',').map(|name| text(name.trim_ascii()));
                changes.remove.extend(names.filter(|name| !name.is_empty()));
                continue;
            }
            if self.to_upstream.has(name) {
                let first = !changes.request.iter().any(|known| known.name.as_bytes() == name);
                changes.request.push(mutation(name, value, first));
            }
            if self.to_client_on_allow.has(name) {
                changes.response.push(mutation(name, value, false));
            }
        }
        changes
    }

    fn denial<'a>(&self, status: u16, headers: impl Iterator<Item = Line<'a>>, body: &[u8]) -> Denial {
        let goes = |name: &[u8]| match &self.to_client_on_deny {
            None => true,
            Some(names) => ALWAYS_RETURNED.contains(&name) || names.has(name),
        };
        let headers = headers.filter(|(name, _)| is_own(name) && goes(name));
        let headers = headers.map(|(name, value)| mutation(name, value, false)).collect();
        Denial { status: status.into(), headers, body: body.to_vec() }
    }
}

/// Neither a pseudo header nor one that is for the two ends of a single message.
fn is_own(name: &[u8]) -> bool {
    !name.starts_with(b":") && !OF_ONE_MESSAGE.contains(&name)
}

/// The first of a name takes the place of what the client sent, those after it are added.
fn mutation(name: &[u8], value: &[u8], overwrite: bool) -> Mutation {
    let action = if overwrite { Append::OverwriteIfExistsOrAdd } else { Append::AppendIfExistsOrAdd };
    Mutation { name: text(name), value: value.to_vec(), action }
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Names;

    fn names(list: &[&str]) -> Names {
        let list = list.iter().map(|name| (*name).to_owned()).collect();
        Names::read("f", list, str::to_owned).unwrap_or_default()
    }

    fn http() -> Http {
        Http {
            cluster: "c".to_owned(),
            path_prefix: "/check".to_owned(),
            request: names(&["x-*", "connection"]),
            additional: vec![("x-by".to_owned(), "gateway".to_owned())],
            to_upstream: names(&["x-user", "content-length"]),
            to_client_on_deny: None,
            to_client_on_allow: names(&["set-cookie"]),
        }
    }

    fn lines<'a>(lines: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = Line<'a>> {
        lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
    }

    fn shown(mutations: &[Mutation]) -> Vec<String> {
        let show = |mutation: &Mutation| {
            format!("{}: {} {:?}", mutation.name, String::from_utf8_lossy(&mutation.value), mutation.action)
        };
        mutations.iter().map(show).collect()
    }

    #[test]
    fn a_question_has_the_requests_line_and_the_listed_headers_only() {
        let request = [
            (":method", "POST"),
            (":path", "/a?b"),
            (":authority", "shop"),
            (":scheme", "http"),
            ("authorization", "me"),
            ("cookie", "secret"),
            ("x-by", "forged"),
            ("x-a", "1"),
            ("connection", "x-a"),
            ("content-length", "7"),
        ];
        let question = http().question(lines(&request));
        let shown: Vec<_> = question
            .iter()
            .map(|(name, value)| format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)))
            .collect();
        let expected =
            [":method=POST", ":path=/check/a?b", ":authority=shop", "authorization=me", "x-a=1", "x-by=gateway"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_good_answer_changes_request_and_response() {
        let headers = [
            (":status", "200"),
            ("x-user", "me"),
            ("x-user", "too"),
            ("x-other", "1"),
            ("set-cookie", "a"),
            ("set-cookie", "b"),
            ("content-length", "0"),
            ("x-envoy-auth-headers-to-remove", "Cookie, x-b,"),
        ];
        let Verdict::Allow(changes) = http().verdict(200, lines(&headers), b"") else { unreachable!("200 allows") };
        assert_eq!(shown(&changes.request), ["x-user: me OverwriteIfExistsOrAdd", "x-user: too AppendIfExistsOrAdd"]);
        assert_eq!(
            shown(&changes.response),
            ["set-cookie: a AppendIfExistsOrAdd", "set-cookie: b AppendIfExistsOrAdd"]
        );
        assert_eq!(changes.remove, ["cookie", "x-b"]);
    }

    #[test]
    fn a_refusal_goes_to_the_client_with_the_headers_that_may() {
        let headers = [(":status", "302"), ("location", "/login"), ("x-a", "1"), ("server", "s"), ("set-cookie", "c")];
        let refused = |http: &Http| match http.verdict(302, lines(&headers), b"body") {
            Verdict::Deny(denial) => (denial.status, shown(&denial.headers).len(), denial.body),
            _ => unreachable!("302 refuses"),
        };
        assert_eq!(refused(&http()), (302, 3, b"body".to_vec()));
        let listed = Http { to_client_on_deny: Some(names(&["set-cookie"])), ..http() };
        assert_eq!(refused(&listed), (302, 2, b"body".to_vec()), "location goes always");
    }

    #[test]
    fn a_broken_service_decides_nothing() {
        for status in [0, 101, 500, 503, 999] {
            assert_eq!(http().verdict(status, lines(&[]), b""), Verdict::Error, "{status}");
        }
        assert!(matches!(http().verdict(204, lines(&[]), b""), Verdict::Deny(_)), "only 200 allows, as in Envoy");
    }
}
