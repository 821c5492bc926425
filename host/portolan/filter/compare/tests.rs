//! Differences as people see them.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the test's answer")]

use portolan_config::plain;

use super::*;

fn case(expect: &str) -> Case {
    let text = format!("name: a\nexpect:\n{}", expect.lines().map(|line| format!("  {line}\n")).collect::<String>());
    let (mut read, findings) = plain::read::<Case>("a.test.yaml", &text, "a test case");
    assert!(findings.is_empty(), "{findings:?}");
    read.pop().unwrap().value
}

fn lines(pairs: &[(&str, &str)]) -> Lines {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn call(head: &str, answer: &str) -> Call {
    Call { head: head.to_owned(), whole: format!("{head}{answer}") }
}

fn observed() -> Observed {
    let seen = Seen {
        method: "GET".to_owned(),
        path: "/a".to_owned(),
        host: "example.com".to_owned(),
        headers: lines(&[("host", "example.com"), ("X-A", "1"), ("x-a", "2")]),
        body: Vec::new(),
        trailers: Vec::new(),
    };
    let got = Got {
        status: 200,
        headers: lines(&[("content-type", "application/json")]),
        body: br#"{"b": [1, {"c": 2}], "a": 1}"#.to_vec(),
        trailers: Vec::new(),
    };
    let trace = vec![
        Traced {
            callback: "on_request_headers(4, end=true) -> Continue".to_owned(),
            failed: false,
            calls: vec![call("get_header(\"x-key\")", " = none"), call("set_header(\"x-stamp\", \"a2\")", "")],
        },
        Traced { callback: "on_done() -> true".to_owned(), failed: false, calls: Vec::new() },
    ];
    Observed {
        arrived: vec![seen.clone()],
        response: Ok(got),
        callouts: vec![("auth".to_owned(), seen)],
        trace,
        log: vec!["info: hello you".to_owned()],
        metrics: BTreeMap::from([("seen".to_owned(), 2.0)]),
    }
}

/// `field: expected | got` of each difference.
fn differences(expect: &str) -> Vec<String> {
    let found = compare(&case(expect), &observed());
    found.iter().map(|found| format!("{}: {} | {}", found.field, found.expected, found.got)).collect()
}

#[test]
fn what_is_as_expected_is_not_told() {
    let expect = "\
request: {method: GET, path: {prefix: /}, host: example.com, headers: {x-a: [1, 2], x-b: {present: false}}, body: ''}
response: {status: 200, headers: {content-type: {contains: json}}, body: {json: {a: 1, b: [1, {c: 2}]}}}
calls: ['get_header(...) = none', 'set_header(\"x-stamp\", ...)']
callouts: [{to: auth, path: /a, headers: {x-a: '1, 2'}}]
log: [hello, ]
metrics: {seen: 2, other: 0}";
    assert!(differences(&expect.replace(", ]", "]")).is_empty(), "{:?}", differences(&expect.replace(", ]", "]")));
    assert!(differences("calls: {exact: ['get_header(\"x-key\")', 'set_header(...)']}").is_empty());
}

#[test]
fn each_field_tells_what_was_expected_and_what_came() {
    assert_eq!(differences("request: none"), ["request: nothing at the upstream | GET /a"]);
    assert_eq!(
        differences("request: {headers: {x-a: 1, x-b: {regex: 'b+'}}}"),
        ["request.headers.x-a: \"1\" | \"1, 2\"", "request.headers.x-b: fits b+ | absent"]
    );
    assert_eq!(differences("response: {status: 401}"), ["response.status: 401 | 200"]);
    assert_eq!(differences("response: {body: {json: {a: 1, b: [1, {c: 3}]}}}"), ["response.body.b[1].c: 3 | 2"]);
    assert_eq!(differences("response: {body: {json: {a: 1}}}"), ["response.body.b: absent | [1,{\"c\":2}]"]);
    assert_eq!(differences("callouts: []"), ["callouts: no callouts | one more: GET /a to auth"]);
    assert_eq!(differences("callouts: [{}, {}]"), ["callouts[1]: a callout | no more came"]);
    assert_eq!(differences("log: [hello, hello]"), ["log[1]: \"hello\" | info: hello you"]);
    assert_eq!(differences("metrics: {seen: 1}"), ["metrics.seen: 1 | 2"]);
    assert_eq!(differences("metrics: {sen: 1}"), ["metrics.sen: 1 | no such metric; there are seen"]);
}

#[test]
fn the_first_call_that_differs_is_marked_in_its_trace() {
    let found = compare(&case("calls: ['set_header(\"x-stamp\", \"a1\")']"), &observed());
    assert_eq!(
        (found[0].expected.as_str(), found[0].got.as_str()),
        ("set_header(\"x-stamp\", \"a1\")", "set_header(\"x-stamp\", \"a2\")")
    );
    assert_eq!(
        found[0].trace,
        [
            "  on_request_headers(4, end=true) -> Continue",
            "    get_header(\"x-key\") = none",
            ">   set_header(\"x-stamp\", \"a2\")",
            "  on_done() -> true",
        ]
    );
    assert_eq!(
        differences("calls: {exact: ['get_header(...)']}"),
        ["calls[1]: no further call | set_header(\"x-stamp\", \"a2\")"]
    );
    assert_eq!(
        differences("calls: ['set_header(...)', 'get_header(...)']"),
        ["calls[1]: get_header(...) | no such call after set_header(\"x-stamp\", \"a2\")"]
    );
}

#[test]
fn long_bodies_are_shown_from_where_they_part() {
    let (a, b) =
        (format!("{}x{}", "a".repeat(300), "b".repeat(300)), format!("{}y{}", "a".repeat(300), "b".repeat(300)));
    let (expected, got) = shown::apart(&a, &b);
    assert!(expected.starts_with("…\"aaaa") && expected.contains("axb"), "{expected}");
    assert!(got.contains("ayb") && got.ends_with("(from character 261)"), "{got}");
}
