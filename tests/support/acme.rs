//! A small ACME server (RFC 8555) over plain HTTP: it checks signatures, nonces and addresses of requests, looks at hosts
//! as they are served, by HTTP-01 or TLS-ALPN-01, and signs.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, date_time_ymd};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::client::{self, Request};
use super::tls::Authority;

/// What every P-256 key of a request begins with, before its point of 65 bytes.
const KEY_PREFIX: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Where hosts are looked at: whatever their name, for nobody resolves it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hosts {
    pub(crate) http: SocketAddr,
    pub(crate) tls: SocketAddr,
}

/// An ACME server; its threads end with the test.
pub(crate) struct AcmeServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    authority: Authority,
    hosts: Option<Hosts>,
    /// Of certificates, in years of our era.
    begins_and_ends: (i32, i32),
    nonces: HashSet<String>,
    serial: usize,
    /// Keys by the account's URL, as JWK.
    accounts: HashMap<String, Value>,
    orders: Vec<Order>,
    /// Requests that broke the protocol.
    faults: Vec<String>,
    contacts: Vec<Value>,
}

#[derive(Default)]
struct Order {
    names: Vec<String>,
    proved: HashMap<usize, Result<String, String>>,
    chain: Option<String>,
}

impl AcmeServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let state = State {
            authority: Authority::new("acme"),
            hosts: None,
            begins_and_ends: (2024, 2090),
            nonces: HashSet::new(),
            serial: 0,
            accounts: HashMap::new(),
            orders: Vec::new(),
            faults: Vec::new(),
            contacts: Vec::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || serve(socket, &state, address));
            }
        });
        Self { address, state }
    }

    pub(crate) fn directory(&self) -> String {
        format!("http://{}/directory", self.address)
    }

    /// Where hosts are served.
    pub(crate) fn look_at(&self, hosts: Hosts) {
        self.state.lock().unwrap().hosts = Some(hosts);
    }

    /// Certificates begin and end with these years from now on.
    pub(crate) fn sign_for(&self, begins: i32, ends: i32) {
        self.state.lock().unwrap().begins_and_ends = (begins, ends);
    }

    pub(crate) fn ca(&self) -> String {
        self.state.lock().unwrap().authority.pem()
    }

    /// Certificates that were signed.
    pub(crate) fn signed(&self) -> usize {
        self.state.lock().unwrap().orders.iter().filter(|order| order.chain.is_some()).count()
    }

    pub(crate) fn orders(&self) -> usize {
        self.state.lock().unwrap().orders.len()
    }

    pub(crate) fn accounts(&self) -> usize {
        self.state.lock().unwrap().accounts.len()
    }

    /// What accounts said of themselves.
    pub(crate) fn contacts(&self) -> Vec<Value> {
        self.state.lock().unwrap().contacts.clone()
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        self.state.lock().unwrap().faults.clone()
    }
}

/// Status, more header lines, body.
type Answer = (u16, Vec<(&'static str, String)>, String);

fn serve(socket: TcpStream, state: &Mutex<State>, address: SocketAddr) {
    let mut reader = BufReader::new(socket.try_clone().expect("a second handle"));
    let mut socket = socket;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut length = 0;
        loop {
            let mut field = String::new();
            reader.read_line(&mut field).expect("a header line");
            match field.trim().to_lowercase().strip_prefix("content-length:") {
                Some(value) => length = value.trim().parse().expect("a length"),
                None if field.trim().is_empty() => break,
                None => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
        let (status, fields, body_text) = answer(&method, &path, &body, state, address);
        let nonce = {
            let mut state = state.lock().unwrap();
            state.serial += 1;
            let nonce = format!("nonce-{}", state.serial);
            state.nonces.insert(nonce.clone());
            nonce
        };
        let mut text = format!("HTTP/1.1 {status} x\r\nreplay-nonce: {nonce}\r\n");
        fields.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
        text.push_str(&format!("content-length: {}\r\n\r\n", body_text.len()));
        if method != "HEAD" {
            text.push_str(&body_text);
        }
        if socket.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

fn answer(method: &str, path: &str, body: &[u8], state: &Mutex<State>, address: SocketAddr) -> Answer {
    let url = |path: &str| format!("http://{address}{path}");
    match (method, path) {
        ("GET", "/directory") => {
            let directory =
                json!({"newNonce": url("/nonce"), "newAccount": url("/account"), "newOrder": url("/order")});
            (200, Vec::new(), directory.to_string())
        }
        ("HEAD" | "GET", "/nonce") => (200, Vec::new(), String::new()),
        ("POST", _) => match verified(&url(path), body, state) {
            Ok((account, payload)) => post(path, &account, &payload, state, &url),
            Err(fault) => {
                state.lock().unwrap().faults.push(format!("{path}: {fault}"));
                let problem = json!({"type": "urn:ietf:params:acme:error:malformed", "detail": fault});
                (400, Vec::new(), problem.to_string())
            }
        },
        _ => (404, Vec::new(), String::new()),
    }
}

/// The key of the account, and what it says.
fn verified(url: &str, body: &[u8], state: &Mutex<State>) -> Result<(Value, Value), String> {
    let jws: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let text = |name: &str| jws[name].as_str().ok_or(format!("no {name}"));
    let decoded = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|error| error.to_string());
    let (protected, payload) = (text("protected")?, text("payload")?);
    let header: Value = serde_json::from_slice(&decoded(protected)?).map_err(|error| error.to_string())?;
    if header["alg"] != "ES256" || header["url"] != url {
        return Err(format!("a wrong header: {header}"));
    }
    let mut state = state.lock().unwrap();
    if !state.nonces.remove(header["nonce"].as_str().unwrap_or_default()) {
        return Err("an unknown nonce".to_owned());
    }
    let key = match header["kid"].as_str() {
        Some(id) => state.accounts.get(id).ok_or("an unknown account")?.clone(),
        None => header["jwk"].clone(),
    };
    let coordinate = |name: &str| decoded(key[name].as_str().unwrap_or_default());
    let point = [vec![4], coordinate("x")?, coordinate("y")?].concat();
    let signed = format!("{protected}.{payload}");
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        .verify(signed.as_bytes(), &decoded(text("signature")?)?)
        .map_err(|_| "a signature that does not fit".to_owned())?;
    let payload = decoded(payload)?;
    let payload = if payload.is_empty() { Value::Null } else { serde_json::from_slice(&payload).unwrap_or_default() };
    Ok((key, payload))
}

fn post(path: &str, key: &Value, payload: &Value, state: &Mutex<State>, url: &dyn Fn(&str) -> String) -> Answer {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let number = |at: usize| parts.get(at).and_then(|part| part.parse::<usize>().ok()).unwrap_or_default();
    match parts[0] {
        "account" => {
            let mut state = state.lock().unwrap();
            let id = url(&format!("/account/{}", state.accounts.len()));
            state.accounts.insert(id.clone(), key.clone());
            state.contacts.push(payload["contact"].clone());
            (201, vec![("location", id)], json!({"status": "valid"}).to_string())
        }
        "order" if parts.len() == 1 => {
            let names = payload["identifiers"].as_array().cloned().unwrap_or_default();
            let names = names.iter().map(|name| name["value"].as_str().unwrap_or_default().to_owned()).collect();
            let mut locked = state.lock().unwrap();
            locked.orders.push(Order { names, ..Order::default() });
            let number = locked.orders.len() - 1;
            let location = vec![("location", url(&format!("/order/{number}")))];
            (201, location, shown(&locked.orders[number], number, url))
        }
        "order" => (200, Vec::new(), shown(&state.lock().unwrap().orders[number(1)], number(1), url)),
        "authorization" => {
            let locked = state.lock().unwrap();
            (200, Vec::new(), authorization(&locked.orders[number(1)], number(1), number(2), url).to_string())
        }
        "challenge" => {
            let (order, host) = (number(2), number(3));
            let name = state.lock().unwrap().orders[order].names[host].clone();
            let hosts = state.lock().unwrap().hosts.expect("where hosts are");
            let proof = format!("{}.{}", token(order, host), thumbprint(key));
            let looked = match parts[1] {
                "http" => by_http(&name, &token(order, host), &proof, hosts.http),
                _ => by_tls(&name, &proof, hosts.tls),
            };
            let looked = looked.map(|()| parts[1].to_owned());
            state.lock().unwrap().orders[order].proved.insert(host, looked);
            (200, Vec::new(), challenge(parts[1], order, host, None, url).to_string())
        }
        "finalize" => {
            let csr = URL_SAFE_NO_PAD.decode(payload["csr"].as_str().unwrap_or_default()).unwrap_or_default();
            let mut locked = state.lock().unwrap();
            let signed = sign(&csr, &locked.orders[number(1)].names, locked.begins_and_ends, &locked.authority);
            locked.orders[number(1)].chain = Some(signed);
            (200, Vec::new(), shown(&locked.orders[number(1)], number(1), url))
        }
        "certificate" => {
            let chain = state.lock().unwrap().orders[number(1)].chain.clone().unwrap_or_default();
            (200, vec![("content-type", "application/pem-certificate-chain".to_owned())], chain)
        }
        _ => (404, Vec::new(), String::new()),
    }
}

fn shown(order: &Order, number: usize, url: &dyn Fn(&str) -> String) -> String {
    let proved = |host: usize| matches!(order.proved.get(&host), Some(Ok(_)));
    let status = match order {
        Order { chain: Some(_), .. } => "valid",
        order if order.proved.values().any(Result::is_err) => "invalid",
        order if (0..order.names.len()).all(proved) => "ready",
        _ => "pending",
    };
    let identifiers: Vec<_> = order.names.iter().map(|name| json!({"type": "dns", "value": name})).collect();
    let authorizations: Vec<_> =
        (0..order.names.len()).map(|host| url(&format!("/authorization/{number}/{host}"))).collect();
    let mut shown = json!({"status": status, "identifiers": identifiers, "authorizations": authorizations,
        "finalize": url(&format!("/finalize/{number}"))});
    if order.chain.is_some() {
        shown["certificate"] = url(&format!("/certificate/{number}")).into();
    }
    shown.to_string()
}

fn authorization(order: &Order, number: usize, host: usize, url: &dyn Fn(&str) -> String) -> Value {
    let (status, error) = match order.proved.get(&host) {
        None => ("pending", None),
        Some(Ok(_)) => ("valid", None),
        Some(Err(error)) => ("invalid", Some(error.as_str())),
    };
    let challenges = ["http", "tls"].map(|kind| challenge(kind, number, host, error, url));
    json!({"status": status, "identifier": {"type": "dns", "value": order.names[host]}, "challenges": challenges})
}

fn challenge(kind: &str, order: usize, host: usize, error: Option<&str>, url: &dyn Fn(&str) -> String) -> Value {
    let name = if kind == "http" { "http-01" } else { "tls-alpn-01" };
    let address = url(&format!("/challenge/{kind}/{order}/{host}"));
    let mut shown = json!({"type": name, "url": address, "token": token(order, host), "status": "pending"});
    if let Some(error) = error {
        shown["error"] = json!({"type": "urn:ietf:params:acme:error:unauthorized", "detail": error});
    }
    shown
}

fn token(order: usize, host: usize) -> String {
    format!("token-{order}-{host}")
}

/// RFC 7638.
fn thumbprint(key: &Value) -> String {
    let text = |name: &str| key[name].as_str().unwrap_or_default().to_owned();
    let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, text("x"), text("y"));
    URL_SAFE_NO_PAD.encode(Sha256::digest(canonical))
}

fn by_http(name: &str, token: &str, proof: &str, address: SocketAddr) -> Result<(), String> {
    let path = format!("/.well-known/acme-challenge/{token}");
    let answer = client::send(address, &Request::get(name, &path)).map_err(|error| error.to_string())?;
    match (answer.status, answer.text().trim_end()) {
        (200, text) if text == proof => Ok(()),
        (status, text) => Err(format!("HTTP-01 sees {status} {text}")),
    }
}

fn by_tls(name: &str, proof: &str, address: SocketAddr) -> Result<(), String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config =
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody::default())).with_no_client_auth();
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let server_name = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
    let mut session = ClientConnection::new(Arc::new(config), server_name).map_err(|error| error.to_string())?;
    let mut socket = TcpStream::connect(address).map_err(|error| error.to_string())?;
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    while session.is_handshaking() {
        session.complete_io(&mut socket).map_err(|error| format!("TLS-ALPN-01 sees {error}"))?;
    }
    let certificate = session.peer_certificates().and_then(|chain| chain.first()).ok_or("no certificate")?;
    // The extension is critical: its OID, true, and an octet string of an octet string of the digest.
    let oid = [6, 8, 0x2b, 6, 1, 5, 5, 7, 1, 31, 1, 1, 0xff, 4, 34, 4, 32];
    let wanted = [&oid[..], &Sha256::digest(proof)[..]].concat();
    let has = certificate.windows(wanted.len()).any(|window| window == wanted);
    let agreed = session.alpn_protocol() == Some(b"acme-tls/1");
    if has && agreed { Ok(()) } else { Err(format!("TLS-ALPN-01: extension {has}, protocol {agreed}")) }
}

/// The key of a request.
struct Requested(Vec<u8>);

impl PublicKeyData for Requested {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

fn sign(csr: &[u8], names: &[String], (begins, ends): (i32, i32), authority: &Authority) -> String {
    let find = |part: &[u8]| csr.windows(part.len()).position(|window| window == part);
    names.iter().for_each(|name| assert!(find(name.as_bytes()).is_some(), "{name} is in the request"));
    let at = find(KEY_PREFIX).expect("a key of P-256") + KEY_PREFIX.len();
    let mut params = CertificateParams::new(names.to_vec()).expect("names");
    params.not_before = date_time_ymd(begins, 1, 1);
    params.not_after = date_time_ymd(ends, 1, 1);
    authority.sign(params, &Requested(csr[at..at + 65].to_vec()))
}

/// Takes any certificate: who looks at it is the test. Keeps the OCSP response that came with it.
#[derive(Debug, Default)]
pub(crate) struct Anybody(Mutex<Vec<u8>>);

impl Anybody {
    pub(crate) fn staple(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = ocsp.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
