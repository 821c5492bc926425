//! What the SDK offers, in both hosts: `tests/sdk-guest`. Calls, bodies and typed reads have no other way into Envoy than
//! the ABI that all hosts share.

use crate::pair::{Case, answer};
use crate::support::client::{Request, Response};
use crate::support::wasm::built;

/// The guest with a service that says what it was asked.
fn case() -> Case {
    let module = built("tests/sdk-guest");
    Case::new("guest", module, r#"{"auth": "outbound|80||auth.test"}"#).service("auth.test", |seen| {
        match seen.line.split(' ').next_back().unwrap_or_default() {
            "/second" => answer(418, &[], b""),
            "/" => answer(403, &[], b"no"),
            path => answer(200, &[("x-upstream", path)], b"asked"),
        }
    })
}

fn header<'a>(seen: &'a crate::support::upstream::Seen, name: &str) -> Option<&'a str> {
    seen.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

#[test]
fn calls_of_the_sdk_wait_and_go_on_alike() {
    let paths = ["/two", "/fail", "/nobody", "/response"];
    let requests: Vec<_> = paths.iter().map(|path| Request::get("h", path)).collect();
    let Some(answers) = case().same(&requests) else { return };
    let statuses: Vec<_> = answers.responses.iter().map(|response| response.status).collect();
    assert_eq!(statuses, [200, 403, 500, 200]);
    assert_eq!(header(&answers.upstream[0], "x-words"), Some("/one 418 /two"));
    assert_eq!(answers.responses[1].text(), "answered");
    assert_eq!(answers.responses[3].header("x-late"), Some("/late"));
}

#[test]
fn two_calls_at_once_are_both_waited_for_alike() {
    // Which of the two comes first to the service is chance, so the upstream tells what it saw.
    let case = case().upstream(|seen| answer(200, &[("x-path", header(seen, "x-path").unwrap_or("none"))], b""));
    let Some(pair) = case.start() else { return };
    for _ in 0..5 {
        assert_eq!(pair.send(&Request::get("h", "/both")).header("x-path"), Some("/both++"));
    }
}

#[test]
fn bodies_are_changed_and_held_for_calls_alike() {
    let post = |path, body: &str| Request::new("POST", "h", path).body(body);
    let requests = [post("/ask/once", "ask for more"), post("/plain", "as it is"), Request::get("h", "/upper")];
    let Some(answers) = case().same(&requests) else { return };
    assert_eq!(answers.responses[2].text(), "FROM THE UPSTREAM");
    let bodies: Vec<_> = answers.upstream.iter().map(|seen| seen.body.as_slice()).collect();
    assert_eq!(bodies, [b"/bodyask for more".as_slice(), b"as it is", b""]);
}

#[test]
fn whole_bodies_are_answered_alike() {
    // The upstream is not compared: the head has gone to it before the filter says no.
    let Some(pair) = case().start() else { return };
    for (body, status, text) in [
        ("quiet".to_owned(), 200, "QUIET"),
        ("x".repeat(1_001), 413, "the filter's limit"),
        ("y".repeat(200_000), 413, "the filter's limit"),
    ] {
        let response = pair.send(&Request::new("POST", "h", "/whole").body(body));
        assert_eq!((response.status, response.text().as_str()), (status, text));
    }
}

#[test]
fn requests_are_read_by_name_and_type_alike() {
    let request = Request::get("h:80", "/typed/a%20b?q=1&p&q=x+y%2B")
        .header("cookie", "a=1; b=2")
        .header("x-list", "a, b")
        .header("x-list", "c")
        .header("x-number", 17)
        .header("x-secret-a", "1");
    let Some(answers) = case().same(&[request]) else { return };
    let typed = header(&answers.upstream[0], "x-typed");
    assert_eq!(typed, Some("typed,a b 1,x y+ 2 a,b,c 17 h 127.0.0.1 false outbound|80||app.test"));
    assert_eq!(header(&answers.upstream[0], "x-count"), Some("1"));
    assert_eq!(answers.responses.iter().map(|Response { status, .. }| *status).collect::<Vec<_>>(), [200]);
}
