//! Cases as people write them, well and badly.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is the test's answer")]

use super::*;
use portolan_config::Diagnostic;

/// The cases of one file, and `line:column: message (help)` of each finding.
fn read_text(text: &str) -> (Vec<PlacedCase>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.test.yaml"), text).unwrap();
    let Cases { cases, diagnostics, .. } = read(folder.path());
    let told = |finding: &Diagnostic| {
        let help = finding.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        format!("{}:{}: {}{help}", finding.place.line, finding.place.column, finding.message)
    };
    (cases, diagnostics.iter().map(told).collect())
}

fn only_case(text: &str) -> Case {
    let (cases, findings) = read_text(text);
    assert!(findings.is_empty(), "{findings:?}");
    let [case] = cases.try_into().unwrap();
    case.value
}

#[test]
fn a_short_case_has_defaults_for_the_rest() {
    let case = only_case("name: a\nexpect: {response: {status: 200}}\n");
    assert_eq!(case.request, Request::default());
    assert_eq!(case.upstream, Peer::Answers(Answer::default()));
    assert_eq!(case.expect.response.unwrap().status, Some(200));
    assert!(case.expect.request.is_none() && case.expect.calls.is_none());
}

#[test]
fn everything_can_be_written_in_its_forms() {
    let case = only_case(
        "name: a\nconfig: {a: [1]}\nrequest:\n  method: POST\n  path: /a?b=1\n  headers: {x-n: 3, x-t: true, x-two: [a, b]}\n  \
         body: {json: {a: 1}}\n  trailers: [[x-end, yes]]\nupstream: {status: 503, body: {base64: aGk=}, delay: 50ms}\n\
         services:\n  auth: down\nexpect:\n  request: none\n  calls: {exact: [a()]}\n  callouts: [{to: auth, path: {prefix: /c}}]\n  \
         response: {headers: {x-a: {present: false}, x-b: {regex: 'a+'}}, body: {json: {a: 1}}}\n  log: [{contains: hm}]\n",
    );
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(case.request.headers.0, [pair("x-n", "3"), pair("x-t", "true"), pair("x-two", "a"), pair("x-two", "b")]);
    assert_eq!(case.request.body.unwrap(), Content { bytes: br#"{"a":1}"#.to_vec(), is_json: true });
    assert_eq!(case.request.trailers.0, [pair("x-end", "yes")]);
    let Peer::Answers(answer) = case.upstream else { panic!() };
    assert_eq!((answer.body.unwrap().bytes, answer.delay), (b"hi".to_vec(), Duration::from_millis(50)));
    assert_eq!(case.services["auth"], Peer::Down);
    assert!(matches!(case.expect.request, Some(Arrival::Nothing)));
    assert_eq!(case.expect.calls.unwrap(), Calls { exact: true, calls: vec!["a()".to_owned()] });
}

#[test]
fn several_documents_are_several_cases() {
    let (cases, findings) = read_text("name: a\nexpect: {request: none}\n---\nname: b\nexpect: {request: {path: /}}\n");
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!((cases.len(), cases[1].place("name").line), (2, 4));
}

#[test]
fn a_case_that_cannot_be_run_has_a_code() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.test.yaml"), "name: a\n").unwrap();
    let codes: Vec<&str> = read(folder.path()).diagnostics.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["P0601"]);
}

#[test]
fn mistakes_are_told_at_their_places() {
    let findings = |text: &str| read_text(text).1;
    let expect = "expect: {request: none}\n";
    let with = |text: &str| findings(&format!("name: a\n{expect}{text}"));
    assert_eq!(with("reqest: {}\n"), ["3:1: unknown field `reqest` in a test case (did you mean `request`?)"]);
    assert_eq!(
        with("request:\n  hedaers: {}\n"),
        ["4:3: unknown field `hedaers` in a test case.request (did you mean `headers`?)"]
    );
    assert_eq!(with("upstream:\n  staus: 1\n"), ["4:3: unknown field `staus` in `upstream` (did you mean `status`?)"]);
    assert_eq!(with("upstream: up\n")[0], "3:11: `upstream`: expected an answer, or `down`, found string `up`");
    assert_eq!(with("request: {path: hello}\n"), ["3:17: `hello` is not a path: it begins with `/`"]);
    assert_eq!(with("request: {headers: {'a b': c}}\n"), ["3:28: `a b` is not a header's name"]);
    assert_eq!(with("upstream: {status: 99}\n"), ["3:20: `99` is not a status from 200 to 599"]);
    assert_eq!(findings("name: a\n").len(), 1);
    assert_eq!(findings("expect: {request: none}\n"), ["1:1: a case needs a `name`"]);
    let twice = findings(&format!("name: a\n{expect}---\nname: a\n{expect}"));
    assert!(twice[0].starts_with("4:7: a case `a` stands in ") && twice[0].ends_with("a.test.yaml:1 already"));
    let body = findings("name: a\nexpect:\n  response:\n    body: {json: 1, exact: a}\n");
    assert!(body[0].starts_with("4:12: `expect.response.body`: expected a text, or one of"), "{body:?}");
    let regex = findings("name: a\nexpect:\n  response:\n    headers: {x-a: {regex: '('}}\n");
    assert_eq!(regex, ["4:21: `expect.response.headers.x-a`: `(` is not a regular expression"]);
    let callout = findings("name: a\nexpect: {callouts: [{to: auth}]}\n");
    assert_eq!(callout, ["2:26: no service `auth` in `services`"]);
}
