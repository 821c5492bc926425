//! Upstreams that do not speak HTTP as they should: the client gets 502, or sees that an answer is cut; nobody else is harmed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::client::Request;
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};

const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood";

/// A server that answers its n-th request, from 0, with these bytes; an empty answer closes. It counts what it reads.
fn raw(answer: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (count, answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(answer));
    let seen = count.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (count, answer) = (count.clone(), answer.clone());
            std::thread::spawn(move || serve(stream, &count, &*answer));
        }
    });
    (address, seen)
}

/// The same, but each connection counts its own requests.
fn raw_by_connection(answer: fn(usize) -> Vec<u8>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let seen = connections.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            connections.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || serve(stream, &AtomicUsize::new(0), &answer));
        }
    });
    (address, seen)
}

fn serve(mut stream: TcpStream, count: &AtomicUsize, answer: &dyn Fn(usize) -> Vec<u8>) {
    let (mut all, mut block) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut block) {
        all.extend_from_slice(&block[..read]);
        if !all.windows(4).any(|end| end == b"\r\n\r\n") {
            continue;
        }
        all.clear();
        let bytes = answer(count.fetch_add(1, Ordering::SeqCst));
        if bytes.is_empty() || stream.write_all(&bytes).is_err() {
            return;
        }
    }
}

fn gateway(address: SocketAddr) -> Gateway {
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", address)]))
        .start()
}

#[test]
fn an_answer_that_is_no_http_is_502_and_its_connection_is_not_used_again() {
    for bad in [
        "HTTP/1.1 99 Low\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 600 High\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 1000 Higher\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\ngood",
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: -4\r\n\r\ngood",
        "HTTP/1.1 200 OK\r\ncontent-length: +4\r\n\r\ngood",
        "HTTP/1.1 200 OK\r\nx bad: 1\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 0\r\n\r\n",
        "nonsense\r\n\r\n",
        "HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\ngood",
        "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n",
    ] {
        let (address, _) = raw(move |n| if n == 0 { bad.into() } else { GOOD.into() });
        let gateway = gateway(address);
        let response = gateway.send(&Request::new("POST", "h", "/").body("x"));
        assert_eq!(response.status, 502, "{bad:?}: {}", response.text());
        assert!(gateway.await_access("POST /").contains(" UPE "), "{bad:?}");
        for _ in 0..4 {
            assert_eq!(gateway.get("h", "/").text(), "good", "{bad:?}");
        }
    }
}

#[test]
fn a_head_that_is_too_long_is_502_and_one_of_80_kib_is_not() {
    let head = |size: usize| format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 4\r\n\r\ngood", "a".repeat(size));
    let (address, _) = raw(move |n| head(if n == 0 { 70_000 } else { 300_000 }).into());
    let gateway = gateway(address);
    assert_eq!(gateway.get("h", "/").text(), "good");
    assert_eq!(gateway.get("h", "/").status, 502);
}

#[test]
fn a_connection_that_ends_within_a_head_is_502_and_its_request_is_not_sent_again() {
    for half in ["HTTP/1.1 20", "HTTP/1.1 200 OK\r\ncontent-len"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(AtomicUsize::new(0));
        let count = seen.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                // The second request of a connection: one that dies before any byte of an answer may be asked for again.
                for answer in [GOOD, half.as_bytes()] {
                    let _ = stream.read(&mut [0; 4096]);
                    count.fetch_add(1, Ordering::SeqCst);
                    let _ = stream.write_all(answer);
                }
            }
        });
        let gateway = gateway(address);
        let mut connection = gateway.connect();
        assert_eq!(connection.request(&Request::get("h", "/")).unwrap().text(), "good");
        assert_eq!(connection.request(&Request::get("h", "/half")).unwrap().status, 502);
        let line = gateway.await_access("GET /half");
        assert!(line.contains(" UPE upstream_reset_before_response_started{protocol_error} "), "{line}");
        assert_eq!(seen.load(Ordering::SeqCst), 2, "{half}");
    }
}

#[test]
fn bytes_after_an_answer_reach_nobody() {
    let poison = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngoodHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
    let (address, _) = raw(move |n| if n % 2 == 0 { poison.to_vec() } else { GOOD.into() });
    let gateway = gateway(address);
    let mut connection = gateway.connect();
    for _ in 0..20 {
        let response = connection.request(&Request::get("h", "/")).unwrap();
        assert_eq!((response.status, response.text().as_str()), (200, "good"));
    }
}

#[test]
fn interim_answers_do_not_take_the_place_of_the_answer() {
    let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood";
    let (address, _) = raw(move |_| interim.to_vec());
    let gateway = gateway(address);
    let mut connection = gateway.connect();
    for _ in 0..3 {
        connection.send(&Request::get("h", "/").to_bytes()).unwrap();
        let mut response = connection.response(false).unwrap();
        while response.status < 200 {
            response = connection.response(false).unwrap();
        }
        assert_eq!((response.status, response.text().as_str()), (200, "good"));
    }
}

#[test]
fn a_post_on_a_kept_connection_that_dies_is_never_sent_twice() {
    // Every second request of a connection is read, and then the connection is closed.
    let (address, seen) = raw(|n| if n % 2 == 0 { GOOD.into() } else { Vec::new() });
    let gateway = gateway(address);
    let mut connection = gateway.connect();
    let mut posts = 0;
    for _ in 0..10 {
        assert_eq!(connection.request(&Request::get("h", "/")).unwrap().status, 200);
        let before = seen.load(Ordering::SeqCst);
        let response = connection.request(&Request::new("POST", "h", "/").body("once")).unwrap();
        posts += seen.load(Ordering::SeqCst) - before;
        assert_eq!(response.status, 503);
    }
    assert_eq!(posts, 10);
}

#[test]
fn idempotent_requests_that_meet_a_dead_kept_connection_go_again() {
    // Every second request of a connection is read, and then the connection is closed without an answer.
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        let (address, _) = raw_by_connection(|n| if n == 0 { GOOD.into() } else { Vec::new() });
        let gateway = gateway(address);
        let mut connection = gateway.connect();
        for round in 0..10 {
            let request = Request::new(method, "h", "/");
            let request = if method == "PUT" { request.body(vec![b'x'; 100 * round]) } else { request };
            connection.send(&request.to_bytes()).unwrap();
            let response = connection.response(method == "HEAD").unwrap();
            assert_eq!(response.status, 200, "{method} {round}: {}", response.text());
        }
    }
}

#[test]
fn no_get_is_lost_to_a_backend_that_closes_as_soon_as_it_has_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // The answer says nothing of the close.
            if stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                let _ = stream.write_all(GOOD);
            }
        }
    });
    let gateway = gateway(address);
    let mut connection = gateway.connect();
    for round in 0..150 {
        let response = connection.request(&Request::get("h", "/")).unwrap();
        assert_eq!(response.status, 200, "{round}: {}", response.text());
    }
}

#[test]
fn bodies_that_end_early_look_cut() {
    for half in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(half);
            }
        });
        let gateway = gateway(address);
        let mut connection = TcpStream::connect(gateway.address()).unwrap();
        connection.write_all(&Request::get("h", "/").to_bytes()).unwrap();
        let mut bytes = Vec::new();
        connection.read_to_end(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && !text.ends_with("0\r\n\r\n"), "{text}");
        let line = gateway.await_access("GET /");
        assert!(line.contains(" 200 UPE upstream_reset_after_response_started{protocol_error} "), "{line}");
    }
}
