//! TLS from outside: an authority that makes certificates, Secrets that hold them, and a client that asks for what the test
//! wants.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::client::Connection;
use super::config::service_entry;
use super::gateway::{Gateway, Options};
use super::ports::Port;
use super::upstream::Upstream;

/// Signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, as PEM.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// How a certificate is unlike the others.
#[derive(Default)]
pub(crate) struct Special<'a> {
    pub(crate) uris: &'a [&'a str],
    pub(crate) subject: &'a [(DnType, &'a str)],
    pub(crate) serial: u64,
    /// Year, month and day of its end.
    pub(crate) ends: Option<(i32, u8, u8)>,
    pub(crate) rsa: bool,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// The certificate that it has signed for itself.
    pub(crate) fn pair(&self) -> Pair {
        Pair { certificate: self.pem(), key: self.0.key().serialize_pem() }
    }

    /// A certificate that says it is an authority's.
    pub(crate) fn authority(&self) -> Pair {
        let mut params = CertificateParams::new(vec!["web.test".to_owned()]).expect("names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Pair { certificate: self.sign(params, &key), key: key.serialize_pem() }
    }

    /// A certificate for these names.
    pub(crate) fn issue(&self, names: &[&str]) -> Pair {
        self.special(names, &Special::default())
    }

    pub(crate) fn special(&self, names: &[&str], special: &Special<'_>) -> Pair {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        for uri in special.uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().expect("a URI")));
        }
        if !special.subject.is_empty() {
            params.distinguished_name = rcgen::DistinguishedName::new();
        }
        for (kind, value) in special.subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if special.serial > 0 {
            params.serial_number = Some(SerialNumber::from(special.serial));
        }
        if let Some((year, month, day)) = special.ends {
            params.not_after = date_time_ymd(year, month, day);
        }
        let algorithm = if special.rsa { &rcgen::PKCS_RSA_SHA256 } else { &rcgen::PKCS_ECDSA_P256_SHA256 };
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// A certificate of version 1, as `openssl x509 -req` makes them where it is given no extensions.
    pub(crate) fn old(&self) -> Pair {
        let pair = self.special(&[], &Special { subject: &[(DnType::CommonName, "old")], ..Special::default() });
        let der = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("PEM");
        let parts = elements(value(&der));
        // Neither the version nor the extensions.
        let fields = elements(value(parts[0])).into_iter().filter(|field| field[0] < 0xa0);
        let signed = element(0x30, &fields.collect::<Vec<_>>().concat());
        let signature = rcgen::SigningKey::sign(self.0.key(), &signed).expect("a signature");
        let signature = element(0x03, &[&[0][..], &signature].concat());
        let der = element(0x30, &[&signed, parts[1], &signature].concat());
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        let certificate = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        Pair { certificate, ..pair }
    }

    /// A certificate for somebody else's key.
    pub(crate) fn sign(&self, params: CertificateParams, key: &impl rcgen::PublicKeyData) -> String {
        params.signed_by(key, &self.0).expect("a certificate").pem()
    }

    /// A list that revokes one serial number.
    pub(crate) fn revoke(&self, serial: u64) -> String {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2040, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: date_time_ymd(2024, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).expect("a list").pem().expect("PEM")
    }
}

/// What a DER element holds.
fn value(der: &[u8]) -> &[u8] {
    match der[1] {
        0x81 => &der[3..],
        0x82 => &der[4..],
        _ => &der[2..],
    }
}

/// The DER elements that follow each other here.
fn elements(mut der: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while let [_, length, rest @ ..] = der {
        let length = match length {
            0x81 => 3 + usize::from(rest[0]),
            0x82 => 4 + usize::from(rest[0]) * 256 + usize::from(rest[1]),
            length => 2 + usize::from(*length),
        };
        let (one, others) = der.split_at(length);
        found.push(one);
        der = others;
    }
    found
}

fn element(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len() as u8;
    let head = match value.len() {
        0..0x80 => vec![tag, length],
        0x80..0x100 => vec![tag, 0x81, length],
        longer => vec![tag, 0x82, (longer / 256) as u8, length],
    };
    [&head, value].concat()
}

/// A Secret with plain entries.
pub(crate) fn secret(name: &str, entries: &[(&str, &str)]) -> String {
    let mut text = format!("---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\nstringData:\n");
    for (entry, value) in entries {
        text.push_str(&format!("  {entry}: |\n"));
        value.lines().for_each(|line| text.push_str(&format!("    {line}\n")));
    }
    text
}

/// A Secret of type `kubernetes.io/tls`.
pub(crate) fn tls_secret(name: &str, pair: &Pair) -> String {
    secret(name, &[("tls.crt", &pair.certificate), ("tls.key", &pair.key)])
}

/// A Gateway `tls` with a plain server on port 80, and these servers, each in one line.
pub(crate) fn gateway(servers: &[String]) -> String {
    let mut text = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: tls}\nspec:\n  servers:\n  \
                    - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}\n"
        .to_owned();
    servers.iter().for_each(|server| text.push_str(&format!("  - {server}\n")));
    text
}

/// A server of HTTPS on port 443; `tls` are its settings, in one line.
pub(crate) fn https(number: usize, host: &str, tls: &str) -> String {
    format!("{{port: {{number: 443, name: https-{number}, protocol: HTTPS}}, hosts: ['{host}'], tls: {{{tls}}}}}")
}

/// A VirtualService of [`gateway`] that sends all of a host to one service.
pub(crate) fn virtual_service(host: &str, service: &str) -> String {
    let name = host.replace('*', "any").replace('.', "-");
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec:\n  \
         hosts: ['{host}']\n  gateways: [tls]\n  http:\n  - route: [{{destination: {{host: {service}}}}}]\n"
    )
}

/// A gateway whose port 443 is mapped to a free one.
pub(crate) struct Tls {
    pub(crate) gateway: Gateway,
    pub(crate) port: Port,
}

impl Tls {
    /// Serves `a.test` by TLS from this upstream.
    pub(crate) fn of_one_host(authority: &Authority, upstream: &Upstream) -> Self {
        let files = [
            gateway(&[https(1, "a.test", "mode: SIMPLE, credentialName: a")]),
            virtual_service("a.test", "a.backend"),
            format!("---\n{}", service_entry("a.backend", &[("v1", upstream.address())])),
            tls_secret("a", &authority.issue(&["a.test"])),
        ];
        Self::start(&files.concat())
    }

    pub(crate) fn start(files: &str) -> Self {
        Self::start_with(Options::new().file("tls.yaml", files))
    }

    pub(crate) fn start_with(options: Options) -> Self {
        let port = Port::free();
        let map = format!("443={}", port.number());
        Self { gateway: options.argument("--port-map").argument(map).start(), port }
    }

    pub(crate) fn client(&self, authority: &Authority) -> Client {
        Client::new(self.port.address(), &authority.pem())
    }
}

/// A client that is not yet connected.
#[derive(Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    roots: RootCertStore,
    certificate: Option<Pair>,
    versions: Vec<&'static SupportedProtocolVersion>,
    alpn: Vec<Vec<u8>>,
    rsa_only: bool,
    kept: Option<Arc<ClientConfig>>,
}

/// TLS over a socket.
pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

impl Client {
    pub(crate) fn new(address: SocketAddr, ca: &str) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
            roots.add(certificate.expect("PEM")).expect("an authority");
        }
        let versions = vec![&rustls::version::TLS13, &rustls::version::TLS12];
        Self { address, roots, certificate: None, versions, alpn: Vec::new(), rsa_only: false, kept: None }
    }

    /// Shows this certificate when it is asked for one.
    pub(crate) fn with(&self, pair: &Pair) -> Self {
        Self { certificate: Some(pair.clone()), ..self.clone() }
    }

    pub(crate) fn version(&self, version: &'static SupportedProtocolVersion) -> Self {
        Self { versions: vec![version], ..self.clone() }
    }

    pub(crate) fn alpn(&self, protocol: &str) -> Self {
        Self { alpn: vec![protocol.as_bytes().to_vec()], ..self.clone() }
    }

    /// Verifies nothing but RSA.
    pub(crate) fn rsa_only(&self) -> Self {
        Self { rsa_only: true, ..self.version(&rustls::version::TLS12) }
    }

    /// Keeps its sessions over connections.
    pub(crate) fn keeping(&self) -> Self {
        Self { kept: Some(self.config(true)), ..self.clone() }
    }

    pub(crate) fn config(&self, with_name: bool) -> Arc<ClientConfig> {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        if self.rsa_only {
            provider.cipher_suites.retain(|suite| format!("{suite:?}").contains("ECDHE_RSA"));
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&self.versions)
            .expect("versions")
            .with_root_certificates(self.roots.clone());
        let mut config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes());
                let chain = chain.collect::<Result<Vec<_>, _>>().expect("PEM");
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("PEM");
                let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).expect("a key");
                // Unlike `with_client_auth_cert` it does not read the certificate.
                let shown = rustls::sign::SingleCertAndKey::from(rustls::sign::CertifiedKey::new(chain, key));
                builder.with_client_cert_resolver(Arc::new(shown))
            }
        };
        config.enable_sni = with_name;
        config.alpn_protocols = self.alpn.clone();
        Arc::new(config)
    }

    /// Connects, asks for a server by name, and shakes hands.
    pub(crate) fn connect(&self, name: &str) -> io::Result<Stream> {
        self.shake(name, true)
    }

    /// The same without saying the name.
    pub(crate) fn connect_without_name(&self, name: &str) -> io::Result<Stream> {
        self.shake(name, false)
    }

    /// HTTP over a connection for this name that begins with other bytes.
    pub(crate) fn behind(&self, name: &str, bytes: &[u8]) -> io::Result<Connection> {
        self.shake_behind(name, true, bytes).map(Connection::over)
    }

    fn shake(&self, name: &str, with_name: bool) -> io::Result<Stream> {
        self.shake_behind(name, with_name, b"")
    }

    fn shake_behind(&self, name: &str, with_name: bool, bytes: &[u8]) -> io::Result<Stream> {
        let mut socket = TcpStream::connect(self.address)?;
        socket.write_all(bytes)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(15)))?;
        let config = self.kept.clone().unwrap_or_else(|| self.config(with_name));
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let session = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(session, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }

    /// The OCSP response that comes with the certificate of this name; empty without one.
    pub(crate) fn staple(&self, name: &str) -> io::Result<Vec<u8>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let keeper = Arc::new(super::acme::Anybody::default());
        let builder = builder.map_err(io::Error::other)?.dangerous().with_custom_certificate_verifier(keeper.clone());
        Self { kept: Some(Arc::new(builder.with_no_client_auth())), ..self.clone() }.connect(name)?;
        Ok(keeper.staple())
    }

    /// HTTP over a connection for this name.
    pub(crate) fn http(&self, name: &str) -> io::Result<Connection> {
        self.connect(name).map(Connection::over)
    }

    /// Why no request can be made for this name; a server of TLS 1.3 refuses a client's certificate only after the
    /// client's handshake is over.
    pub(crate) fn refusal(&self, name: &str) -> String {
        let refused = self.connect(name).and_then(|mut stream| {
            stream.write_all(format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n").as_bytes())?;
            stream.read_exact(&mut [0])
        });
        refused.expect_err("a refusal").to_string()
    }
}

/// `a.test` and `*.b.test`, with certificates and backends of their own.
pub(crate) fn two_hosts(authority: &Authority, a: &Upstream, b: &Upstream) -> String {
    let server =
        |number, host: &str, secret: &str| https(number, host, &format!("mode: SIMPLE, credentialName: {secret}"));
    let servers = [server(1, "a.test", "a"), server(2, "*.b.test", "b")];
    [
        gateway(&servers),
        virtual_service("a.test", "a.backend"),
        virtual_service("*.b.test", "b.backend"),
        format!("---\n{}", service_entry("a.backend", &[("v1", a.address())])),
        format!("---\n{}", service_entry("b.backend", &[("v1", b.address())])),
        tls_secret("a", &authority.issue(&["a.test"])),
        tls_secret("b", &authority.issue(&["x.b.test", "y.b.test"])),
    ]
    .concat()
}
