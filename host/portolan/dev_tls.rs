//! [`DevTls`]: `--dev-tls`, HTTPS on one's own machine without any certificate: an authority of its own signs one for the
//! hosts that are served.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use portolan_config::Diagnostic;
use portolan_model::{
    ClientCertificate, DownstreamTls, FilterChain, Listener, Model, RouteTableId, Secret, SecretId, TlsVersion,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use time::{Duration, OffsetDateTime};

use crate::secret_files::CREDENTIAL;
use crate::state::StateFolder;

/// Files of the state folder. Clients trust the first, which holds no key.
const CA_FILE: &str = "dev-ca.crt";
const KEY_FILE: &str = "dev-ca.key";
/// From a port of HTTP to its port of HTTPS: 80 to 443, 8080 to 8443.
const PORT_STEP: u16 = 443 - 80;
/// Names of this machine, for whoever asks for no host that is served.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// More names in one certificate are left out: it must fit a handshake.
const MAX_NAMES: usize = 200;
/// Browsers take no certificate that lasts much longer than a year.
const LIFE: Duration = Duration::days(365);
const CA_LIFE: Duration = Duration::days(3650);
/// For clocks that differ.
const SLACK: Duration = Duration::days(1);

/// A local certificate authority, and what it has signed.
pub(crate) struct DevTls {
    issuer: Issuer<'static, KeyPair>,
    /// Where its certificate is; none when it lives in memory.
    file: Option<PathBuf>,
    /// `--port-map`.
    port_map: Vec<(u16, u16)>,
    /// Certificates and keys by their names: a model that has not changed must be equal to the last one.
    signed: HashMap<BTreeSet<String>, (String, String)>,
}

impl std::fmt::Debug for DevTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DevTls").field("file", &self.file).finish_non_exhaustive()
    }
}

impl DevTls {
    /// Takes the authority of the folder, or makes one; without a folder it is gone with the process.
    ///
    /// # Errors
    /// When the folder cannot be read or written, or what is in it is no key.
    pub(crate) fn new(state: Option<&StateFolder>, port_map: &[(u16, u16)]) -> anyhow::Result<Self> {
        let (key, file) = match state {
            None => (KeyPair::generate().context("cannot make a key")?, None),
            Some(state) => (authority(state)?, Some(state.file(CA_FILE))),
        };
        let issuer = Issuer::new(ca_params(), key);
        Ok(Self { issuer, file, port_map: port_map.to_vec(), signed: HashMap::new() })
    }

    /// Serves plain HTTP listeners as HTTPS as well, and gives servers whose credential is missing one. What was said of
    /// those is taken back.
    pub(crate) fn apply(&mut self, model: &mut Model, diagnostics: &mut Vec<Diagnostic>) {
        for (id, names) in missing(model) {
            let secret = &mut model.secrets[id as usize];
            let (file, line) = (secret.origin.file(), secret.origin.line());
            let is_of_it = |d: &Diagnostic| d.code == CREDENTIAL && d.place.file == file && d.place.line == line;
            if self.fill(secret, names) {
                diagnostics.retain(|diagnostic| !is_of_it(diagnostic));
            }
        }
        let plain: Vec<_> = model.listeners.iter().filter(|l| l.route_table != RouteTableId::MAX).cloned().collect();
        for listener in plain {
            self.add(model, &listener);
        }
        model.listeners.sort_by_key(|listener| listener.address);
    }

    /// How a client comes to trust it.
    pub(crate) fn say(&self, model: &Model) {
        tracing::warn!(
            "dev-tls  certificates of an authority made on this machine: for development, never for clients from outside"
        );
        let secure = model.listeners.iter().find(|listener| !listener.filter_chains.is_empty());
        let port = secure.map_or(8443, |listener| listener.address.port());
        match &self.file {
            Some(file) => {
                tracing::info!("dev-tls  curl --cacert {} https://localhost:{port}/", file.display());
            }
            None => tracing::info!("dev-tls  the authority is gone with this process; --state-dir keeps it"),
        }
    }

    fn add(&mut self, model: &mut Model, plain: &Listener) {
        let Some(address) = self.address(plain) else { return };
        if model.listeners.iter().any(|listener| listener.address == address) {
            return;
        }
        let Some(table) = model.route_tables.get(plain.route_table as usize) else { return };
        let names = table.virtual_hosts.iter().map(|host| host.domain.clone()).collect();
        let (id, origin) = (SecretId::try_from(model.secrets.len()).unwrap_or(SecretId::MAX), origin(plain));
        let name = format!("dev-tls {address}");
        let mut secret = Secret { name, entries: Vec::new(), files: Vec::new(), acme: None, origin: origin.clone() };
        if !self.fill(&mut secret, names) {
            return;
        }
        model.secrets.push(secret);
        let chain = FilterChain {
            server_names: vec!["*".to_owned()],
            tls: Some(settings(id)),
            route_table: plain.route_table,
            tcp: None,
            http3: false,
            origin,
        };
        let name = format!("{}_{}", address.ip(), address.port());
        let route_table = RouteTableId::MAX;
        model.listeners.push(Listener { name, address, route_table, filter_chains: vec![chain], ..plain.clone() });
    }

    /// Port 443 as it is mapped for port 80; else as far above the plain port.
    fn address(&self, plain: &Listener) -> Option<SocketAddr> {
        let mapped = self.port_map.iter().find(|(from, _)| plain.server_port == 80 && *from == 443);
        let port = mapped.map(|(_, to)| *to).or_else(|| plain.address.port().checked_add(PORT_STEP))?;
        Some(SocketAddr::new(plain.address.ip(), port))
    }

    fn fill(&mut self, secret: &mut Secret, names: BTreeSet<String>) -> bool {
        match self.pair(names) {
            Ok((certificate, key)) => {
                let entry = |name: &str, text: String| (name.to_owned(), text.into_bytes());
                secret.entries = vec![entry("tls.crt", certificate), entry("tls.key", key)];
                true
            }
            Err(error) => {
                tracing::error!("dev-tls  cannot make a certificate: {error}");
                false
            }
        }
    }

    fn pair(&mut self, names: BTreeSet<String>) -> Result<(String, String), rcgen::Error> {
        if let Some(known) = self.signed.get(&names) {
            return Ok(known.clone());
        }
        let mut params = CertificateParams::default();
        let known = names.iter().map(String::as_str).filter(|name| *name != "*");
        params.subject_alt_names = LOCAL.into_iter().chain(known).take(MAX_NAMES).filter_map(san).collect();
        params.distinguished_name.push(DnType::CommonName, "portolan --dev-tls");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        lasts(&mut params, LIFE);
        let key = KeyPair::generate()?;
        let pair = (params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem());
        self.signed.insert(names, pair.clone());
        Ok(pair)
    }
}

/// Credentials of TLS servers that are not there, with the names that they are for.
fn missing(model: &Model) -> BTreeMap<SecretId, BTreeSet<String>> {
    let mut found: BTreeMap<SecretId, BTreeSet<String>> = BTreeMap::new();
    for chain in model.listeners.iter().flat_map(|listener| &listener.filter_chains) {
        for id in chain.tls.iter().flat_map(|tls| &tls.certificates) {
            if model.secrets.get(*id as usize).is_some_and(|secret| secret.entries.is_empty()) {
                found.entry(*id).or_default().extend(chain.server_names.iter().cloned());
            }
        }
    }
    found
}

/// The key of the folder's authority. Its certificate is made anew when it is gone: the key is what clients trust.
fn authority(state: &StateFolder) -> anyhow::Result<KeyPair> {
    let refused = || format!("cannot use `{}`", state.file(KEY_FILE).display());
    let known = state.read(KEY_FILE).with_context(refused)?;
    let key = match &known {
        Some(text) => KeyPair::from_pem(text).with_context(refused)?,
        None => {
            let key = KeyPair::generate().context("cannot make a key")?;
            state.write(KEY_FILE, &key.serialize_pem()).with_context(refused)?;
            key
        }
    };
    if known.is_none() || state.read(CA_FILE)?.is_none() {
        let certificate = ca_params().self_signed(&key).context("cannot make a certificate")?;
        state.write(CA_FILE, &certificate.pem())?;
    }
    Ok(key)
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Portolan development authority, not for production");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    lasts(&mut params, CA_LIFE);
    params
}

fn lasts(params: &mut CertificateParams, life: Duration) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - SLACK;
    params.not_after = now + life;
}

/// None for what no certificate can name.
fn san(name: &str) -> Option<SanType> {
    match name.parse() {
        Ok(address) => Some(SanType::IpAddress(address)),
        Err(_) => name.try_into().ok().map(SanType::DnsName),
    }
}

fn settings(certificate: SecretId) -> DownstreamTls {
    DownstreamTls {
        certificates: vec![certificate],
        client_certificate: ClientCertificate::None,
        ca: None,
        subject_alt_names: Vec::new(),
        verify_certificate_spki: Vec::new(),
        verify_certificate_hash: Vec::new(),
        min_version: TlsVersion::V1_2,
        max_version: TlsVersion::V1_3,
        cipher_suites: Vec::new(),
        ecdh_curves: Vec::new(),
    }
}

fn origin(listener: &Listener) -> portolan_model::Origin {
    listener.origins.first().cloned().unwrap_or_default()
}
