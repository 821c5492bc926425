//! Filters of the library that change messages or answer in an upstream's place.

use crate::bundled::{case, header, statuses};
use crate::pair::answer;
use crate::support::client::Request;

#[test]
fn header_edit_edits_requests_and_responses() {
    let config = r#"{
        "request": [
            {"remove": ["x-user"], "rename": {"x-old": "x-new"}, "replace": [{"header": ":path", "regex": "^/v[0-9]+", "with": ""}]},
            {"match": {"paths": [{"prefix": "/a"}]},
             "set": {"x-user": "%COOKIE(user)%", "x-from": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"},
             "add": {"x-tag": "%REQ(x-tag?x-new):3%-%QUERY_PARAM(q)%-%PROTOCOL%"}}],
        "response": [
            {"status": ["5xx"], "set": {"cache-control": "no-store"}},
            {"match": {"cookies": {"user": {"exact": "ada"}}}, "set": {"x-was": "%REQ(:path)% %COOKIE(user)%"}},
            {"removeMatching": [{"prefix": "x-internal-"}], "replace": [{"header": "location", "regex": "^http://", "with": "https://"}]}]
    }"#;
    let case = case("header-edit", config).upstream(|seen| match seen.line.as_str() {
        "GET /down" => answer(500, &[("cache-control", "public")], b"down"),
        _ => answer(200, &[("x-internal-a", "1"), ("x-internal-b", "2"), ("location", "http://h/a")], b"up"),
    });
    let requests = [
        Request::get("h", "/v2/a?q=tea")
            .header("cookie", "a=b; user=ada")
            .header("x-old", "1234")
            .header("x-user", "eve"),
        Request::get("h", "/v1/down"),
        Request::get("h", "/b").header("x-tag", "one").header("x-tag", "two"),
    ];
    let Some(answers) = case.same(&requests) else { return };
    assert_eq!(statuses(&answers), [200, 500, 200]);
    let first = &answers.upstream[0];
    assert_eq!(first.line, "GET /a?q=tea");
    assert_eq!(
        ["x-user", "x-from", "x-tag", "x-new"].map(|name| header(first, name)),
        [Some("ada"), Some("127.0.0.1"), Some("123-tea-HTTP/1.1"), Some("1234")]
    );
    assert_eq!(answers.responses[0].header("location"), Some("https://h/a"));
    assert_eq!(answers.responses[0].header("x-internal-a"), None);
    assert_eq!(answers.responses[0].header("x-was"), Some("/a?q=tea ada"));
    assert_eq!(answers.responses[2].header("x-was"), None);
    assert_eq!(answers.responses[1].header("cache-control"), Some("no-store"));
}

#[test]
fn cors_answers_preflights_and_marks_responses() {
    let config = r#"{"allowOrigins": [{"exact": "https://shop.test"}, {"regex": "https://[a-z]+\\.shop\\.test"}], "allowMethods": ["GET", "PUT"],
                     "allowHeaders": ["*"], "exposeHeaders": ["x-total"], "allowCredentials": true, "maxAge": "24h"}"#;
    let case = case("cors", config).upstream(|_| {
        answer(200, &[("access-control-allow-origin", "*"), ("access-control-allow-credentials", "true")], b"up")
    });
    let preflight = |origin: &str| {
        let request = Request::new("OPTIONS", "h", "/a").header("origin", origin);
        request.header("access-control-request-method", "PUT").header("access-control-request-headers", "x-a, x-b")
    };
    let requests = [
        preflight("https://shop.test"),
        preflight("https://evil.test"),
        Request::get("h", "/").header("origin", "https://a.shop.test"),
        Request::get("h", "/").header("origin", "https://shop.test.evil.test"),
        Request::get("h", "/"),
    ];
    let Some(answers) = case.same(&requests) else { return };
    let origin = |at: usize| answers.responses[at].header("access-control-allow-origin");
    assert_eq!((origin(0), origin(2)), (Some("https://shop.test"), Some("https://a.shop.test")));
    assert_eq!(answers.responses[0].header("access-control-allow-headers"), Some("x-a, x-b"));
    assert_eq!(answers.upstream.len(), 4);
}

#[test]
fn fault_delays_and_aborts() {
    let config = r#"{"match": {"headers": {"x-test": {"exact": "chaos"}}}, "delay": {"fixedDelay": "50ms", "percentage": 100},
                     "abort": {"httpStatus": 418, "percentage": 100, "body": "short and stout"}}"#;
    let requests = [Request::get("h", "/").header("x-test", "chaos"), Request::get("h", "/")];
    let start = std::time::Instant::now();
    let Some(answers) = case("fault", config).same(&requests) else { return };
    assert!(start.elapsed() >= std::time::Duration::from_millis(100), "each host delays");
    assert_eq!(statuses(&answers), [418, 200]);
    assert_eq!(answers.responses[0].text(), "short and stout");
    assert_eq!(answers.upstream.len(), 1);
}

#[test]
fn maintenance_answers_as_the_client_likes_it() {
    let config = r#"{"retryAfter": "120s", "html": "<p>soon</p>", "json": "{\"error\":\"soon\"}",
                     "allow": {"requests": [{"paths": [{"exact": "/healthz"}]}, {"cookies": {"tester": {"exact": "yes"}}}]},
                     "switch": {"path": "/switch", "token": "0123456789abcdef"}, "enabled": true}"#;
    let switch = |method: &str| Request::new(method, "h", "/switch").header("authorization", "Bearer 0123456789abcdef");
    let requests = [
        Request::get("h", "/").header("accept", "text/html"),
        Request::get("h", "/").header("accept", "application/json"),
        Request::get("h", "/").header("accept", "image/png"),
        Request::new("POST", "h", "/").header("content-type", "application/grpc").body("x"),
        Request::get("h", "/healthz"),
        Request::get("h", "/").header("cookie", "tester=yes"),
        switch("GET"),
        switch("PUT").body(""),
        switch("GET"),
        Request::get("h", "/switch"),
    ];
    let Some(answers) = case("maintenance", config).same(&requests) else { return };
    assert_eq!(statuses(&answers)[..6], [503, 503, 503, 200, 200, 200]);
    assert_eq!(answers.responses[0].text(), "<p>soon</p>");
    assert_eq!(answers.responses[1].header("retry-after"), Some("120"));
    assert_eq!(answers.responses[9].status, 403);
    assert_eq!(answers.upstream.len(), 2);
}

#[test]
fn body_limit_bounds_bodies_by_what_they_announce() {
    let config = r#"{"request": {"maxBytes": 8, "byContentType": [{"types": ["image/*"], "maxBytes": "1Ki"}]}, "response": {"maxBytes": 20}}"#;
    let case = case("body-limit", config).upstream(|seen| answer(200, &[], &vec![b'b'; seen.line.len()]));
    let post = |body: &str| Request::new("POST", "h", "/").body(body);
    let requests = [
        post("12345678"),
        post("123456789"),
        post("123456789").header("content-type", "image/png"),
        Request::get("h", "/a/path/that/is/long"),
    ];
    let Some(answers) = case.same(&requests) else { return };
    assert_eq!(statuses(&answers), [200, 413, 200, 502]);
    assert_eq!(answers.upstream.len(), 3);
}

#[test]
fn sticky_canary_marks_the_same_users_in_each_host() {
    let config = r#"{"percent": 30, "sticky": {"header": "x-user"}, "secret": "some text of 16 bytes or more",
                     "header": {"name": "x-canary", "canary": "yes", "stable": "no"},
                     "force": [{"header": "x-tester", "value": "sesame", "variant": "CANARY"}]}"#;
    let mut requests: Vec<_> =
        (0..40).map(|user| Request::get("h", "/").header("x-user", format!("user-{user}"))).collect();
    requests.push(Request::get("h", "/").header("x-canary", "yes"));
    requests.push(Request::get("h", "/").header("x-tester", "sesame"));
    let Some(answers) = case("sticky-canary", config).same(&requests) else { return };
    let marks: Vec<_> = answers.upstream.iter().map(|seen| header(seen, "x-canary")).collect();
    let canaries = marks[..40].iter().filter(|mark| **mark == Some("yes")).count();
    assert!((4..=20).contains(&canaries), "{marks:?}");
    assert_eq!(marks[40..], [Some("no"), Some("yes")]);
}

#[test]
fn compress_compresses_what_the_client_can_read() {
    let config = r#"{"minContentLength": 100, "encodings": ["gzip"], "decompressRequests": {"maxBytes": 1000}}"#;
    let case = case("compress", config).upstream(|seen| match seen.line.as_str() {
        "GET /small" => answer(200, &[("content-type", "text/plain")], b"small"),
        "GET /image" => answer(200, &[("content-type", "image/png")], &[b'i'; 1000]),
        _ => answer(200, &[("content-type", "text/plain"), ("etag", "\"1\"")], "text ".repeat(200).as_bytes()),
    });
    let get = |path: &str, accept: &str| Request::get("h", path).header("accept-encoding", accept);
    let requests =
        [get("/", "gzip"), get("/", "identity"), get("/", "gzip;q=0"), get("/small", "gzip"), get("/image", "gzip")];
    let Some(answers) = case.same(&requests) else { return };
    let codings: Vec<_> = answers.responses.iter().map(|response| response.header("content-encoding")).collect();
    assert_eq!(codings, [Some("gzip"), None, None, None, None]);
    let mut text = String::new();
    let mut unpacked = flate2::read::GzDecoder::new(answers.responses[0].body.as_slice());
    std::io::Read::read_to_string(&mut unpacked, &mut text).unwrap();
    assert_eq!(text, "text ".repeat(200));
    assert_eq!(answers.responses[0].header("etag"), Some("W/\"1\""));
}
