//! The filter as the host sees it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use portolan_sdk::Status;
use portolan_sdk::testing::TestHost;

use super::*;

fn start(config: &str) -> TestHost<HeaderEdit> {
    TestHost::start(config).unwrap()
}

#[test]
fn each_rule_that_holds_is_done_and_sees_what_the_one_before_did() {
    let host = start(
        r#"{"request": [
            {"remove": ["x-user"]},
            {"match": {"paths": [{"prefix": "/api/"}]}, "set": {"x-user": "%COOKIE(user)%", "x-q": "<%QUERY_PARAM(q)%>"}},
            {"match": {"headers": {"x-user": {"exact": "me"}}}, "add": {"x-seen": "%REQ(x-user)%@%REQ(:authority)%"}}
        ]}"#,
    );
    let mut stream = host.stream();
    let head = [(":path", "/api/a?q=1"), (":authority", "shop"), ("x-user", "forged"), ("cookie", "user=me")];
    assert_eq!(stream.request_headers(&head), Action::Continue);
    assert_eq!(stream.request_header("x-user"), ["me"]);
    assert_eq!(stream.request_header("x-q"), ["<1>"]);
    assert_eq!(stream.request_header("x-seen"), ["me@shop"]);
    let mut stream = host.stream();
    stream.request_headers(&[(":path", "/"), ("x-user", "forged"), ("cookie", "user=me")]);
    assert!(stream.request_header("x-user").is_empty() && stream.request_header("x-seen").is_empty());
}

#[test]
fn rules_for_responses_hold_by_request_as_it_came_and_by_status() {
    let host = start(
        r#"{"request": [{"set": {":path": "/new"}}],
            "response": [
              {"match": {"paths": [{"exact": "/old"}]}, "status": ["5xx", 404], "set": {"x-was": "old"}},
              {"status": ["200-299"], "set": {"x-fine": "%RESP(server)%"}}
            ]}"#,
    );
    let answer = |path, status| {
        let mut stream = host.stream();
        stream.request_headers(&[(":path", path)]);
        stream.response_headers(&[(":status", status), ("server", "s")]);
        (stream.response_header("x-was").concat(), stream.response_header("x-fine").concat())
    };
    assert_eq!(answer("/old", "503"), ("old".to_owned(), String::new()));
    assert_eq!(answer("/old", "404"), ("old".to_owned(), String::new()));
    assert_eq!(answer("/old", "204"), (String::new(), "s".to_owned()));
    assert_eq!(answer("/other", "503"), (String::new(), String::new()));
}

#[test]
fn a_request_that_never_came_this_far_is_asked_for_when_its_answer_passes() {
    let host = start(r#"{"response": [{"match": {"paths": [{"exact": "/a"}]}, "set": {"x-a": "%REQ(x-id)%"}}]}"#);
    let mut stream = host.stream();
    stream.set_property("request\0headers\0:path", b"/a?b");
    stream.set_property("request\0headers\0x-id", b"7");
    stream.response_headers(&[(":status", "403")]);
    assert_eq!(stream.response_header("x-a"), ["7"]);
}

#[test]
fn the_route_is_chosen_again_when_that_is_wanted_and_something_was_edited() {
    let host = start(r#"{"clearRouteCache": true, "request": [{"match": {"methods": ["GET"]}, "set": {"x-a": "1"}}]}"#);
    host.answer("clear_route_cache", |_| Ok(Vec::new()));
    host.stream().request_headers(&[(":method", "POST")]);
    assert!(host.foreign_calls().is_empty());
    host.stream().request_headers(&[(":method", "GET")]);
    assert_eq!(host.foreign_calls().len(), 1);
}

#[test]
fn a_request_whose_headers_cannot_be_edited_goes_no_further() {
    let host = start(r#"{"request": [{"remove": ["x-user"]}]}"#);
    host.fail("proxy_remove_header_map_value", Status::InternalFailure);
    let mut stream = host.stream();
    assert_eq!(stream.request_headers(&[("x-user", "root")]), Action::Pause);
    assert_eq!(stream.reply().unwrap().status, 500);
}

#[test]
fn a_wrong_configuration_is_refused_with_its_place() {
    let refusal = |json| TestHost::<HeaderEdit>::start(json).err().unwrap();
    for (json, reason) in [
        ("{}", "neither `request` nor `response` holds a rule"),
        (r#"{"request": [{}]}"#, "request[0]: the rule does nothing"),
        (r#"{"request": [{"remove": ["a"], "status": [200]}]}"#, "request[0].status: a request has no status yet"),
        (r#"{"request": [{"set": {"a": "%RESP(b)%"}}]}"#, "request[0]: the value of `a` asks for the response"),
        (r#"{"response": [{"remove": ["a"]}, {"set": {":status": "1"}}]}"#, "`:status` is no name of a header"),
        (r#"{"request": [{"remove": [":path"]}]}"#, "`:path` says where the message ends or goes"),
        (r#"{"response": [{"set": {"Content-Length": "1"}}]}"#, "`content-length` says where the message ends"),
        (r#"{"request": [{"set": {"a": "%NOPE%"}}]}"#, "request[0].set.a: `%NOPE%` is not known"),
        (
            r#"{"request": [{"replace": [{"header": "a", "regex": "(", "with": ""}]}]}"#,
            "request[0].replace[0].regex: `(` is no regular",
        ),
        (r#"{"response": [{"status": ["6xx"], "remove": ["a"]}]}"#, "`6xx` is no status"),
        (r#"{"request": [{"sett": {}}]}"#, "unknown field `sett`"),
    ] {
        let text = refusal(json);
        assert!(text.contains(reason), "{json}: {text}");
    }
}
