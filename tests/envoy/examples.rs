//! The filters of `examples/`, each with the configuration of its `gateway.yaml`.

use crate::bundled::statuses;
use crate::pair::{Case, answer};
use crate::support::client::Request;
use crate::support::project::built;

/// One example behind which an upstream answers 200.
fn case(name: &str, config: &str) -> Option<Case> {
    Some(Case::new(name, built(&format!("examples/{name}"))?, config))
}

#[test]
fn filter_stamp_stamps_responses() {
    let Some(case) = case("filter-stamp", r#"{"stamp": "checked"}"#) else { return };
    let Some(answers) = case.same(&[Request::get("h", "/"), Request::new("POST", "h", "/a?b").body("abc")]) else {
        return;
    };
    for response in &answers.responses {
        assert_eq!((response.status, response.header("x-stamp")), (200, Some("checked")));
    }
    assert_eq!(answers.upstream[1].body, b"abc");
}

#[test]
fn filter_stock_stamps_responses() {
    let Some(case) = case("filter-stock", r#"{"stamp": "checked"}"#) else { return };
    let Some(answers) = case.same(&[Request::get("h", "/")]) else { return };
    assert_eq!(answers.only().header("x-stamp"), Some("checked"));
}

#[test]
fn filter_authorize_asks_its_service() {
    let Some(case) = case("filter-authorize", r#"{"cluster": "outbound|80||auth.test"}"#) else { return };
    let case = case.service("auth.test", |seen| match seen.headers.iter().find(|(name, _)| name == "authorization") {
        Some((_, token)) if token == "good" => answer(200, &[("x-user", "alice")], b""),
        Some((_, token)) if token == "silent" => Vec::new(),
        _ => answer(401, &[], b"who are you?"),
    });
    let with = |token: &str| Request::get("h", "/private?q=1").header("authorization", token);
    let requests = [with("silent"), with("good"), with("bad"), Request::get("h", "/"), with("good").body("abc")];
    let Some(answers) = case.same(&requests) else { return };
    assert_eq!(statuses(&answers), [503, 200, 401, 401, 200]);
    assert_eq!(answers.responses[2].text(), "who are you?");
    assert_eq!(answers.upstream.len(), 2);
    assert!(answers.upstream[0].headers.contains(&("x-user".to_owned(), "alice".to_owned())));
    assert_eq!(answers.services[0][0].line, "GET /private?q=1");
}

#[test]
fn filter_go_masks_fields_of_json() {
    let Some(case) = case("filter-go", r#"{"fields": ["password", "token"]}"#) else { return };
    let case = case.upstream(|seen| match seen.line.as_str() {
        "GET /json" => answer(200, &[("content-type", "application/json")], br#"{"a": 1, "password": [1, 2]}"#),
        "GET /chunks" => b"HTTP/1.1 200 OK\r\ncontent-type: application/x+json; charset=utf-8\r\n\
            transfer-encoding: chunked\r\n\r\n9\r\n{\"token\":\r\n3\r\n\"x\"\r\n1\r\n}\r\n0\r\n\r\n"
            .to_vec(),
        "GET /broken" => answer(200, &[("content-type", "application/json")], br#"{"password": "x"#),
        _ => answer(200, &[("content-type", "text/plain")], br#"{"password": "x"}"#),
    });
    let requests = ["/json", "/chunks", "/broken", "/text"].map(|path| Request::get("h", path));
    let Some(answers) = case.same(&requests) else { return };
    let texts: Vec<_> = answers.responses.iter().map(|response| response.text()).collect();
    let broken = r#"{"error":"the response is no JSON"}"#;
    assert_eq!(texts, [r#"{"a":1,"password":"***"}"#, r#"{"token":"***"}"#, broken, r#"{"password": "x"}"#]);
}

#[test]
fn filter_assemblyscript_drops_parameters_of_the_query() {
    let Some(case) = case("filter-assemblyscript", r#"{"drop": "utm_ fbclid gclid"}"#) else { return };
    let requests = ["/shop?utm_source=mail&q=tea&fbclid=1", "/shop?utm_id=7", "/shop?q=utm_", "/shop"];
    let Some(answers) = case.same(&requests.map(|path| Request::get("h", path))) else { return };
    let lines: Vec<_> = answers.upstream.iter().map(|seen| seen.line.as_str()).collect();
    assert_eq!(lines, ["GET /shop?q=tea", "GET /shop", "GET /shop?q=utm_", "GET /shop"]);
    let dropped: Vec<_> = answers.responses.iter().map(|response| response.header("x-dropped-parameters")).collect();
    assert_eq!(dropped, [Some("2"), Some("1"), None, None]);
}

#[test]
fn filter_c_answers_scanners() {
    let Some(case) = case("filter-c", r#"{"paths": ["/.env", "/.git/", "/wp-admin"]}"#) else { return };
    let requests = ["/", "/.env", "/.git/config?a", "/.github", "/wp-admin/"].map(|path| Request::get("h", path));
    let Some(answers) = case.same(&requests) else { return };
    assert_eq!(statuses(&answers), [200, 404, 404, 200, 404]);
    assert_eq!(answers.upstream.len(), 2);
}
