//! The filters of `examples/`, each with the configuration that its README shows.

use crate::pair::{Case, answer};
use crate::support::client::Request;
use crate::support::wasm::built;

#[test]
fn filter_stamp_stamps_responses() {
    let case = Case::new("stamp", built("examples/filter-stamp"), r#"{"stamp": "checked"}"#);
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
    let case = Case::new("stock", built("examples/filter-stock"), r#"{"stamp": "checked"}"#);
    let Some(answers) = case.same(&[Request::get("h", "/")]) else { return };
    assert_eq!(answers.only().header("x-stamp"), Some("checked"));
}

#[test]
fn filter_authorize_asks_its_service() {
    let case = Case::new("authorize", built("examples/filter-authorize"), r#"{"cluster": "outbound|80||auth.test"}"#)
        .service("auth.test", |seen| match seen.headers.iter().find(|(name, _)| name == "authorization") {
            Some((_, token)) if token == "good" => answer(200, &[("x-user", "alice")], b""),
            Some((_, token)) if token == "silent" => Vec::new(),
            _ => answer(401, &[], b"who are you?"),
        });
    let with = |token: &str| Request::get("h", "/private?q=1").header("authorization", token);
    let requests = [with("silent"), with("good"), with("bad"), Request::get("h", "/"), with("good").body("abc")];
    let Some(answers) = case.same(&requests) else { return };
    let statuses: Vec<_> = answers.responses.iter().map(|response| response.status).collect();
    assert_eq!(statuses, [503, 200, 401, 401, 200]);
    assert_eq!(answers.responses[2].text(), "who are you?");
    assert_eq!(answers.upstream.len(), 2);
    assert!(answers.upstream[0].headers.contains(&("x-user".to_owned(), "alice".to_owned())));
    assert_eq!(answers.services[0][0].line, "GET /private?q=1");
}
