//! Certificates made in the test, and backends that speak TLS and HTTP/2: each answers with what it saw.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

/// An authority that signs certificates.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate chain with its key, in PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).expect("an authority").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate with these names: `spiffe://` ones are URIs, addresses are addresses.
    pub(crate) fn issue(&self, names: &[&str]) -> Pair {
        self.sign(params_with(names))
    }

    /// One that says it is an authority's.
    pub(crate) fn issue_authority(&self, names: &[&str]) -> Pair {
        let mut params = params_with(names);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self.sign(params)
    }

    /// One whose time is over.
    pub(crate) fn issue_expired(&self, names: &[&str]) -> Pair {
        let mut params = params_with(names);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        self.sign(params)
    }

    /// One with this serial number, for [`Self::revoke`].
    pub(crate) fn issue_numbered(&self, names: &[&str], serial: u64) -> Pair {
        let mut params = params_with(names);
        params.serial_number = Some(SerialNumber::from(serial));
        self.sign(params)
    }

    /// A list that revokes these serial numbers.
    pub(crate) fn revoke(&self, serials: &[u64]) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2090, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("a list").pem().expect("its PEM")
    }

    fn sign(&self, params: CertificateParams) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Pair { certificate, key: key.serialize_pem() }
    }
}

/// A certificate that has signed itself.
pub(crate) fn self_signed(names: &[&str]) -> Pair {
    let key = KeyPair::generate().expect("a key");
    let mut params = params_with(names);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Pair { certificate: params.self_signed(&key).expect("a certificate").pem(), key: key.serialize_pem() }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn params_with(names: &[&str]) -> CertificateParams {
    let mut params = named(names.first().copied().unwrap_or("nobody"));
    params.subject_alt_names = names.iter().map(|name| san(name)).collect();
    params
}

fn san(name: &str) -> SanType {
    if let Ok(ip) = name.parse() {
        return SanType::IpAddress(ip);
    }
    let text = name.to_owned().try_into().expect("a name in ASCII");
    if name.contains("://") { SanType::URI(text) } else { SanType::DnsName(text) }
}

/// Writes PEM beside a configuration.
pub(crate) fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a file of certificates");
    path
}

/// What a backend of a test is.
#[derive(Clone, Default)]
pub(crate) struct Options {
    tls: Option<Arc<ServerConfig>>,
    http2: bool,
    tunnels: bool,
    echo: bool,
}

impl Options {
    /// Plain HTTP/1.1.
    pub(crate) fn plain() -> Self {
        Self::default()
    }

    /// TLS with this certificate; `clients` must have signed the client's, when given. ALPN knows both versions.
    pub(crate) fn tls(pair: &Pair, clients: Option<&str>) -> Self {
        Self { tls: Some(server_config(pair, clients, &[b"h2", b"http/1.1"])), ..Self::default() }
    }

    /// HTTP/2 only.
    pub(crate) fn http2(self) -> Self {
        Self { http2: true, ..self }
    }

    /// Allows extended CONNECT over HTTP/2, and answers it, and plain CONNECT, as [`tunnel`] does.
    pub(crate) fn tunnels(self) -> Self {
        Self { tunnels: true, ..self }
    }

    /// Sends bytes back, instead of HTTP.
    pub(crate) fn echo(self) -> Self {
        Self { echo: true, ..self }
    }

    pub(crate) fn start(self) -> Backend {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port for the backend");
        listener.set_nonblocking(true).expect("a socket that does not block");
        let address = listener.local_addr().expect("its address");
        let seen = Arc::new(Seen::default());
        let shared = seen.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(accept(listener, self, shared));
        });
        Backend { address, seen }
    }
}

/// What a server of TLS is set up with; `clients` signs for those that it takes.
pub(crate) fn server_config(pair: &Pair, clients: Option<&str>, alpn: &[&[u8]]) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.expect("versions of TLS");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("an authority")).expect("an authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        }
    };
    let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes()).collect::<Result<_, _>>().expect("a chain");
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
    let mut config = builder.with_single_cert(chain, key).expect("a certificate with its key");
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// A backend on a port of its own; its thread ends with the test.
pub(crate) struct Backend {
    address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    handshakes: AtomicUsize,
    requests: AtomicUsize,
}

impl Backend {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that came as far as HTTP.
    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// Connections that came as far as TCP.
    pub(crate) fn handshakes(&self) -> usize {
        self.seen.handshakes.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }
}

async fn accept(listener: std::net::TcpListener, options: Options, seen: Arc<Seen>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    let acceptor = options.tls.clone().map(TlsAcceptor::from);
    while let Ok((socket, _)) = listener.accept().await {
        seen.handshakes.fetch_add(1, Ordering::SeqCst);
        let (acceptor, seen, options) = (acceptor.clone(), seen.clone(), options.clone());
        tokio::spawn(async move {
            match acceptor {
                None => serve(socket, (options.http2, options.tunnels), String::new(), seen).await,
                Some(acceptor) => {
                    let Ok(stream) = acceptor.accept(socket).await else { return };
                    if options.echo {
                        let (mut from, mut to) = tokio::io::split(stream);
                        let _ = tokio::io::copy(&mut from, &mut to).await;
                        let _ = to.shutdown().await;
                        return;
                    }
                    let told = told(stream.get_ref().1);
                    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    serve(stream, (is_http2, options.tunnels), told, seen).await;
                }
            }
        });
    }
}

/// What TLS says of a connection, in lines as of a head.
fn told(connection: &ServerConnection) -> String {
    let alpn = connection.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
    format!(
        "sni: {}\nalpn: {}\nclient-certificates: {}\n",
        connection.server_name().unwrap_or("-"),
        alpn.as_deref().unwrap_or("-"),
        connection.peer_certificates().map_or(0, <[_]>::len),
    )
}

async fn serve(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    (is_http2, tunnels): (bool, bool),
    told: String,
    seen: Arc<Seen>,
) {
    seen.connections.fetch_add(1, Ordering::SeqCst);
    let service = service_fn(move |request: Request<Incoming>| {
        let told = told.clone();
        seen.requests.fetch_add(1, Ordering::SeqCst);
        let is_tunnel = tunnels && request.method() == http::Method::CONNECT;
        async move { if is_tunnel { Ok(tunnel(request)) } else { answer(request, told).await } }
    });
    if is_http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        if tunnels {
            builder.enable_connect_protocol();
        }
        let _ = builder.max_concurrent_streams(50).serve_connection(TokioIo::new(io), service).await;
    } else {
        let _ = http1::Builder::new().serve_connection(TokioIo::new(io), service).with_upgrades().await;
    }
}

/// The head as lines; `/echo` gives the body back, `/big/N` N bytes, `/grpc` trailers after a message, `/grpc-only` nothing
/// else, `/ws` becomes a pipe, `/slow/MS` waits.
async fn answer(request: Request<Incoming>, told: String) -> Result<Response<Reply>, Infallible> {
    if request.headers().contains_key("upgrade") && request.uri().path() == "/ws" {
        return Ok(upgraded(request));
    }
    let path = request.uri().path().to_owned();
    let number = path.rsplit('/').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or_default();
    let mut response = Response::new(Reply::Bytes(Bytes::new(), None));
    let headers = response.headers_mut();
    match path.split('/').nth(1).unwrap_or_default() {
        "echo" => *response.body_mut() = Reply::Echo(request.into_body()),
        "big" => *response.body_mut() = Reply::Zeros(number),
        "grpc" => {
            headers.insert("content-type", HeaderValue::from_static("application/grpc"));
            let trailers =
                HeaderMap::from_iter([("grpc-status".parse().expect("a name"), HeaderValue::from_static("0"))]);
            *response.body_mut() = Reply::Bytes(Bytes::from(seen_head(&request, &told)), Some(trailers));
        }
        "grpc-only" => {
            headers.insert("content-type", HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from_static("7"));
        }
        kind => {
            if kind == "slow" {
                tokio::time::sleep(Duration::from_millis(number)).await;
            }
            *response.body_mut() = Reply::Bytes(Bytes::from(seen_head(&request, &told)), None);
        }
    }
    Ok(response)
}

/// A pipe that sends back what it gets.
fn upgraded(request: Request<Incoming>) -> Response<Reply> {
    tokio::spawn(async move {
        let Ok(pipe) = hyper::upgrade::on(request).await else { return };
        let (mut from, mut to) = tokio::io::split(TokioIo::new(pipe));
        let _ = tokio::io::copy(&mut from, &mut to).await;
        let _ = to.shutdown().await;
    });
    let mut response = Response::new(Reply::Bytes(Bytes::new(), None));
    *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
    response.headers_mut().insert("upgrade", HeaderValue::from_static("websocket"));
    response
}

/// A pipe after a 200, which tells in fields what was asked for: target, `:protocol`, the WebSocket's key. `/no` is a 403, as is
/// a target of that name.
fn tunnel(request: Request<Incoming>) -> Response<Reply> {
    if request.uri().path() == "/no" || request.uri().host() == Some("no") {
        let mut response = Response::new(Reply::Bytes(Bytes::from_static(b"no"), None));
        *response.status_mut() = http::StatusCode::FORBIDDEN;
        return response;
    }
    let protocol = request.extensions().get::<hyper::ext::Protocol>().map_or("-", hyper::ext::Protocol::as_str);
    let key = request.headers().get("sec-websocket-key").and_then(|key| key.to_str().ok()).unwrap_or("-");
    let told = [
        ("x-target", request.uri().to_string()),
        ("x-protocol", protocol.to_owned()),
        ("x-key", key.to_owned()),
        ("x-upgrade", format!("{:?}", request.headers().get("upgrade"))),
        ("x-version", format!("{:?}", request.version())),
    ];
    let mut response = upgraded(request);
    *response.status_mut() = http::StatusCode::OK;
    response.headers_mut().clear();
    for (name, value) in told {
        response.headers_mut().insert(name, HeaderValue::try_from(value).expect("a value"));
    }
    response
}

fn seen_head(request: &Request<Incoming>, told: &str) -> String {
    let authority = request.uri().authority().map_or("-", |authority| authority.as_str());
    let scheme = request.uri().scheme_str().unwrap_or("-");
    let mut text = format!(
        "{} {}\nversion: {:?}\nauthority: {authority}\nscheme: {scheme}\n{told}",
        request.method(),
        request.uri().path(),
        request.version()
    );
    for (name, value) in request.headers() {
        text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    }
    text
}

enum Reply {
    Bytes(Bytes, Option<HeaderMap>),
    Zeros(u64),
    Echo(Incoming),
}

impl Body for Reply {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Bytes(bytes, _) if !bytes.is_empty() => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Bytes(_, trailers) => Poll::Ready(trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
            Self::Zeros(0) => Poll::Ready(None),
            Self::Zeros(left) => {
                let size = (*left).min(16 * 1024);
                *left -= size;
                Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![0; size as usize])))))
            }
            Self::Echo(incoming) => Pin::new(incoming).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Bytes(bytes, trailers) => bytes.is_empty() && trailers.is_none(),
            Self::Zeros(left) => *left == 0,
            Self::Echo(incoming) => incoming.is_end_stream(),
        }
    }
}
