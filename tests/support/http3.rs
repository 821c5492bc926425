//! A client of HTTP/3: h3's over QUIC, and streams whose bytes a test writes itself.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use h3::client::{RequestStream, SendRequest};
use h3::error::StreamError;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, VarInt};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::DEADLINE;
use super::client::{Request, Response};

/// One connection of HTTP/3, driven by a thread of its own.
pub(crate) struct Http3 {
    runtime: Runtime,
    endpoint: Endpoint,
    pub(crate) connection: quinn::Connection,
    sender: SendRequest<h3_quinn::OpenStreams, Bytes>,
}

/// A request whose answer is read part by part.
pub(crate) type Exchange = RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

impl Http3 {
    /// A client that trusts this authority and asks for this server; its name goes with the hello unless it is an address.
    pub(crate) fn connect(address: SocketAddr, ca: &str, server: &str) -> Result<Self, quinn::ConnectionError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let connected = runtime.block_on(async {
            let mut endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            endpoint.set_default_client_config(config(ca));
            let connecting = endpoint.connect(address, server).unwrap();
            let connection = timeout(DEADLINE, connecting).await.unwrap_or(Err(quinn::ConnectionError::TimedOut))?;
            Ok::<_, quinn::ConnectionError>((endpoint, connection))
        });
        let (endpoint, connection) = connected?;
        let sender = runtime.block_on(async {
            let (mut driver, sender) = h3::client::new(h3_quinn::Connection::new(connection.clone())).await.unwrap();
            tokio::spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
            sender
        });
        Ok(Self { runtime, endpoint, connection, sender })
    }

    /// Waits for what a client does, for as long as anything may take.
    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { timeout(DEADLINE, future).await.expect("in time") })
    }

    /// Begins a request: its head, without its end.
    pub(crate) fn begin(&mut self, request: http::Request<()>) -> Result<Exchange, StreamError> {
        let mut sender = self.sender.clone();
        self.wait(async move { sender.send_request(request).await })
    }

    /// Sends a request and reads the whole answer.
    pub(crate) fn request(&mut self, request: &Request) -> Result<Response, StreamError> {
        let mut exchange = self.begin(head(request))?;
        let body = Bytes::from(request.body.clone());
        self.wait(async move {
            if !body.is_empty() {
                exchange.send_data(body).await?;
            }
            exchange.finish().await?;
            answer(&mut exchange).await
        })
    }

    /// Sends these bytes as one stream, and waits for what it is reset with.
    pub(crate) fn reset_of(&self, bytes: &[u8]) -> Option<u64> {
        self.wait(async {
            let (mut sending, mut receiving) = self.connection.open_bi().await.unwrap();
            sending.write_all(bytes).await.unwrap();
            let _ = sending.finish();
            match receiving.read_to_end(usize::MAX).await {
                Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(code))) => Some(code.into_inner()),
                _ => None,
            }
        })
    }

    /// Sends these bytes as one stream, and waits for all that comes back on it.
    pub(crate) fn answer_of(&self, bytes: &[u8]) -> Vec<u8> {
        self.wait(async {
            let (mut sending, mut receiving) = self.connection.open_bi().await.unwrap();
            // Who has answered before the end may have stopped the rest.
            let _ = sending.write_all(bytes).await;
            let _ = sending.finish();
            receiving.read_to_end(usize::MAX).await.unwrap()
        })
    }

    /// Waits for the connection's end: the code that the gateway has closed it with.
    pub(crate) fn closed(&self) -> Option<u64> {
        match self.wait(self.connection.closed()) {
            quinn::ConnectionError::ApplicationClosed(closed) => Some(VarInt::into_inner(closed.error_code)),
            _ => None,
        }
    }
}

impl Drop for Http3 {
    fn drop(&mut self) {
        self.connection.close(VarInt::from_u32(0x100), b"");
        let _ = self.runtime.block_on(async { timeout(Duration::from_secs(1), self.endpoint.wait_idle()).await });
    }
}

/// A way to a gateway that answers do not take: they end here.
pub(crate) struct OneWay {
    address: SocketAddr,
    retries: Arc<AtomicUsize>,
}

/// Handshakes that come to no end while this lives.
pub(crate) struct Unanswered {
    _runtime: Runtime,
    _endpoint: Endpoint,
    _connecting: Vec<quinn::Connecting>,
}

impl OneWay {
    pub(crate) fn to(gateway: SocketAddr) -> Self {
        let near = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let far = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        far.connect(gateway).unwrap();
        let (address, retries) = (near.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let (answers, seen) = (far.try_clone().unwrap(), retries.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, _)) = near.recv_from(&mut buffer) {
                let _ = far.send(&buffer[..length]);
            }
        });
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while answers.recv(&mut buffer).is_ok() {
                // A long head of the type for Retry.
                seen.fetch_add(usize::from(buffer[0] >> 4 == 0xf), Ordering::SeqCst);
            }
        });
        Self { address, retries }
    }

    /// True when a client was asked to prove its address.
    pub(crate) fn has_retry(&self) -> bool {
        self.retries.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn begin_handshakes(&self, count: usize, ca: &str, server: &str) -> Unanswered {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (endpoint, connecting) = runtime.block_on(async {
            let mut endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            endpoint.set_default_client_config(config(ca));
            let connecting = (0..count).map(|_| endpoint.connect(self.address, server).unwrap()).collect();
            (endpoint, connecting)
        });
        Unanswered { _runtime: runtime, _endpoint: endpoint, _connecting: connecting }
    }
}

fn config(ca: &str) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(certificate.expect("PEM")).expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    let mut tls = builder.with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let mut transport = quinn::TransportConfig::default();
    transport.max_idle_timeout(Some(Duration::from_secs(30).try_into().unwrap()));
    config.transport_config(Arc::new(transport));
    config
}

/// A request's head as h3 takes it.
pub(crate) fn head(request: &Request) -> http::Request<()> {
    let (host, others) = request.headers.split_first().expect("Host comes first");
    let uri = format!("https://{}{}", host.1, request.target);
    let mut head = http::Request::builder().method(request.method.as_str()).uri(uri);
    for (name, value) in others {
        head = head.header(name, value);
    }
    head.body(()).unwrap()
}

/// The whole answer.
pub(crate) async fn answer(exchange: &mut Exchange) -> Result<Response, StreamError> {
    let (parts, ()) = exchange.recv_response().await?.into_parts();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let mut body = Vec::new();
    while let Some(mut part) = exchange.recv_data().await? {
        body.extend_from_slice(&part.copy_to_bytes(part.remaining()));
    }
    Ok(Response { status: parts.status.as_u16(), headers, body })
}

/// A frame of HTTP/3.
pub(crate) fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap() | 0x8000_0000;
    [&[kind], &length.to_be_bytes()[..], payload].concat()
}

/// HEADERS with these fields, as literals.
pub(crate) fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0, 0];
    for (name, value) in fields {
        number(&mut block, 0x20, 3, name.len());
        block.extend_from_slice(name.as_bytes());
        number(&mut block, 0, 7, value.len());
        block.extend_from_slice(value.as_bytes());
    }
    frame(1, &block)
}

/// RFC 7541 section 5.1.
fn number(block: &mut Vec<u8>, first: u8, bits: u32, mut number: usize) {
    let most = (1_usize << bits) - 1;
    if number < most {
        return block.push(first | number as u8);
    }
    block.push(first | most as u8);
    number -= most;
    while number >= 128 {
        block.push((number % 128) as u8 | 128);
        number /= 128;
    }
    block.push(number as u8);
}
