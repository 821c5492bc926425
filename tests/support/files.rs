//! A web server for modules, over plain HTTP or TLS, that misbehaves on order.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What is answered for a path.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// 200 with these bytes and an ETag of their length.
    File(Vec<u8>),
    /// This status, these header lines, no body.
    Status(u16, Vec<String>),
    /// The head, then nothing until the server is dropped.
    Stalled,
    /// 200 with these bytes for requests with this `authorization`, else 401 with this `www-authenticate`.
    Guarded { authorization: String, challenge: String, bytes: Vec<u8>, media_type: String },
}

/// A server on a free port of the loopback; it ends when dropped.
pub(crate) struct FileServer {
    address: SocketAddr,
    inner: Arc<Inner>,
    ca: Option<String>,
}

struct Inner {
    answers: Mutex<HashMap<String, Answer>>,
    requests: AtomicUsize,
    ended: AtomicBool,
    tls: Option<Arc<ServerConfig>>,
}

impl FileServer {
    /// Over plain HTTP.
    pub(crate) fn start() -> Self {
        Self::with(None, None)
    }

    /// Over TLS, with a certificate for `localhost` of an authority of its own.
    pub(crate) fn start_tls() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("TLS");
        let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).expect("a key");
        Self::with(Some(Arc::new(config)), Some(made.cert.pem()))
    }

    fn with(tls: Option<Arc<ServerConfig>>, ca: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let inner = Inner { answers: Mutex::default(), requests: AtomicUsize::new(0), ended: false.into(), tls };
        let inner = Arc::new(inner);
        let serving = inner.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.ended.load(SeqCst) {
                    return;
                }
                let inner = serving.clone();
                thread::spawn(move || inner.serve(stream));
            }
        });
        Self { address, inner, ca }
    }

    /// `HOST:PORT`.
    pub(crate) fn host(&self) -> String {
        let host = if self.ca.is_some() { "localhost" } else { "127.0.0.1" };
        format!("{host}:{}", self.address.port())
    }

    /// The address of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", if self.ca.is_some() { "https" } else { "http" }, self.host())
    }

    /// PEM of the authority.
    pub(crate) fn ca(&self) -> &str {
        self.ca.as_deref().unwrap_or_default()
    }

    /// Answers so from now on; 404 where nothing is set.
    pub(crate) fn set(&self, path: &str, answer: Answer) {
        self.inner.answers.lock().expect("the answers").insert(path.to_owned(), answer);
    }

    /// How many requests came.
    pub(crate) fn requests(&self) -> usize {
        self.inner.requests.load(SeqCst)
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        self.inner.ended.store(true, SeqCst);
        // Wakes the thread that accepts, which then closes the socket.
        let _ = TcpStream::connect(self.address);
    }
}

impl Inner {
    fn serve(&self, stream: TcpStream) {
        match &self.tls {
            None => self.answer(stream),
            Some(config) => {
                let Ok(connection) = ServerConnection::new(config.clone()) else { return };
                self.answer(StreamOwned::new(connection, stream));
            }
        }
    }

    /// One request; the connection ends after it.
    fn answer(&self, mut stream: impl Read + Write) {
        let mut head = Vec::new();
        let mut reader = BufReader::new(&mut stream);
        while !head.ends_with(b"\r\n\r\n") {
            if reader.read_until(b'\n', &mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        self.requests.fetch_add(1, SeqCst);
        let path = head.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
        let answer = self.answers.lock().expect("the answers").get(&path).cloned();
        let _ = stream.write_all(&self.response(answer, &head));
        let _ = stream.flush();
    }

    fn response(&self, answer: Option<Answer>, head: &str) -> Vec<u8> {
        let header = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(':'));
            lines.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
        };
        match answer {
            None => response(404, &[], &[]),
            Some(Answer::File(bytes)) => {
                let etag = format!("\"{}\"", bytes.len());
                if header("if-none-match").as_ref() == Some(&etag) {
                    return response(304, &[], &[]);
                }
                response(200, &[format!("etag: {etag}")], &bytes)
            }
            Some(Answer::Status(status, headers)) => response(status, &headers, &[]),
            Some(Answer::Stalled) => {
                while !self.ended.load(SeqCst) {
                    thread::yield_now();
                    thread::sleep(std::time::Duration::from_millis(5));
                }
                Vec::new()
            }
            Some(Answer::Guarded { authorization, challenge, bytes, media_type }) => {
                if header("authorization").as_ref() == Some(&authorization) {
                    return response(200, &[format!("content-type: {media_type}")], &bytes);
                }
                response(401, &[format!("www-authenticate: {challenge}")], &[])
            }
        }
    }
}

fn response(status: u16, headers: &[String], body: &[u8]) -> Vec<u8> {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n{lines}\r\n", body.len());
    [head.as_bytes(), body].concat()
}
