//! `body-limit` between real sockets.

use super::{plugin, start};
use crate::support::client::Request;
use crate::support::upstream::Upstream;

const CONFIG: &str = "\
request:
  maxBytes: 10
  byContentType:
  - {types: [image/*], maxBytes: 1Ki}
response:
  maxBytes: 1000
";

#[test]
fn an_announced_body_is_refused_before_it_comes() {
    let app = Upstream::start("app");
    let gateway = start(&app, &plugin("body-limit", CONFIG));
    let mut connection = gateway.connect();
    // Not one byte of the body is sent.
    connection.send(b"POST / HTTP/1.1\r\nHost: h\r\ncontent-length: 11\r\n\r\n").unwrap();
    let response = connection.response(false).unwrap();
    assert_eq!((response.status, response.text().as_str()), (413, "body too large"));
    assert_eq!(app.requests(), 0);
    gateway.await_access("request_body_too_large");
    let post = |body: &str| Request::new("POST", "h", "/").order("sink").header("content-type", body);
    assert_eq!(gateway.send(&post("text/plain").body("x".repeat(10))).status, 200);
    assert_eq!(gateway.send(&post("image/png").body("x".repeat(1024))).status, 200);
    assert_eq!(gateway.send(&post("image/png").body("x".repeat(1025))).status, 413);
}

#[test]
fn a_body_in_chunks_is_counted_while_it_passes() {
    let app = Upstream::start("app");
    let gateway = start(&app, &plugin("body-limit", CONFIG));
    let head = b"POST / HTTP/1.1\r\nHost: h\r\nx-order: sink\r\ntransfer-encoding: chunked\r\n\r\n";
    let send = |chunks: &[u8]| {
        let mut connection = gateway.connect();
        connection.send(&[head, chunks].concat()).unwrap();
        connection.response(false).unwrap()
    };
    assert_eq!(send(b"5\r\n12345\r\n5\r\n67890\r\n0\r\n\r\n").status, 200);
    assert_eq!(send(b"5\r\n12345\r\n6\r\n678901\r\n").status, 413);
}

#[test]
fn responses_have_a_limit_of_their_own() {
    let app = Upstream::start("app");
    let gateway = start(&app, &plugin("body-limit", CONFIG));
    assert_eq!(gateway.send(&Request::get("h", "/").order("bytes 1000")).status, 200);
    let refused = gateway.send(&Request::get("h", "/").order("bytes 1001"));
    assert_eq!((refused.status, refused.text().as_str()), (502, "body too large"));
    assert_eq!(gateway.send(&Request::new("HEAD", "h", "/").order("bytes 1001")).status, 200);
}

#[test]
fn a_response_that_announces_nothing_is_cut_where_it_is_too_large() {
    let app = Upstream::start("app");
    let gateway = start(&app, &plugin("body-limit", CONFIG));
    // Ten bytes each.
    assert_eq!(gateway.send(&Request::get("h", "/").order("chunks 100")).body.len(), 1000);
    let mut connection = gateway.connect();
    assert!(connection.request(&Request::get("h", "/").order("chunks 101")).is_err(), "it seems to be whole");
    gateway.await_access("filter_reset_after_response_started");
}
