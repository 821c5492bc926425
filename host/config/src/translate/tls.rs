//! TLS settings of servers: certificates, clients' certificates, versions, cipher suites.

use std::collections::HashMap;

use portolan_model::{ClientCertificate, DownstreamTls, Secret, SecretId, TlsVersion};

use super::credentials::Credentials;
use super::gateways::{Gateways, KnownGateway, KnownServer, Protocol};
use super::tls_defaults::TlsDefaults;
use crate::ResourceSet;
use crate::diagnostic::{Diagnostic, Severity};
use crate::resources::istio::gateway::ServerTls;

/// Suites of TLS 1.2 that are offered, by OpenSSL's names.
pub(super) const CIPHERS: &[&str] = &[
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-CHACHA20-POLY1305",
];

/// Annotation of a Gateway: certificates that are missing are signed by ACME. Its value is how the authority reaches
/// somebody, as URLs with commas between them.
const ACME: &str = "portolan.dev/acme";

/// Settings by server, and what they need.
#[derive(Default)]
pub(super) struct TlsServers {
    /// By index of the Gateway and of its server.
    pub(super) by_server: HashMap<(usize, usize), DownstreamTls>,
    pub(super) secrets: Vec<Secret>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

pub(super) fn translate(gateways: &Gateways<'_>, resources: &ResourceSet, service: Option<&str>) -> TlsServers {
    let mut credentials = Credentials::new(resources, service);
    let mut servers = TlsServers { diagnostics: TlsDefaults::diagnose(resources), ..TlsServers::default() };
    let defaults = TlsDefaults::of(resources);
    for (g, gateway) in gateways.all.iter().enumerate().filter(|(_, gateway)| gateway.selected) {
        let terminates = |server: &KnownServer| matches!(server.protocol, Protocol::Https | Protocol::Tls);
        for (s, server) in gateway.servers.iter().enumerate().filter(|(_, server)| terminates(server)) {
            let Some(tls) = &gateway.object.spec.servers[server.index].tls else { continue };
            let mut reading = Reading { gateway, server, tls, defaults: &defaults, found: &mut servers.diagnostics };
            servers.by_server.insert((g, s), reading.settings(&mut credentials));
        }
    }
    servers.secrets = credentials.secrets;
    servers
}

/// One server being read.
struct Reading<'a> {
    gateway: &'a KnownGateway<'a>,
    server: &'a KnownServer,
    tls: &'a ServerTls,
    defaults: &'a TlsDefaults,
    found: &'a mut Vec<Diagnostic>,
}

impl Reading<'_> {
    fn settings(&mut self, credentials: &mut Credentials<'_>) -> DownstreamTls {
        let client_certificate = match self.tls.mode.as_deref() {
            Some("MUTUAL") => ClientCertificate::Required,
            Some("OPTIONAL_MUTUAL") => ClientCertificate::Optional,
            _ => ClientCertificate::None,
        };
        let asks = client_certificate != ClientCertificate::None;
        let of_clients = |list: &[String]| if asks { list.to_vec() } else { Vec::new() };
        let (min_version, max_version) = self.versions();
        DownstreamTls {
            certificates: self.certificates(credentials),
            client_certificate,
            ca: if asks { self.ca(credentials) } else { None },
            subject_alt_names: of_clients(&self.tls.subject_alt_names),
            verify_certificate_spki: of_clients(&self.tls.verify_certificate_spki),
            verify_certificate_hash: of_clients(&self.tls.verify_certificate_hash),
            min_version,
            max_version,
            cipher_suites: self.ciphers(),
            ecdh_curves: self.defaults.ecdh_curves.clone(),
        }
    }

    fn certificates(&mut self, credentials: &mut Credentials<'_>) -> Vec<SecretId> {
        let names = self.tls.credential_name.iter().filter(|name| !name.is_empty()).map(|name| (name, None));
        let more = self.tls.credential_names.iter().enumerate().map(|(i, name)| (name, Some(i)));
        let named: Vec<_> = if self.tls.credential_names.is_empty() { names.collect() } else { more.collect() };
        let mut ids = Vec::new();
        for (name, index) in named {
            let field = index.map_or_else(|| "credentialName".to_owned(), |i| format!("credentialNames[{i}]"));
            let (id, problem) = credentials.pair(&self.namespace(), plain(name), self.origin(&field));
            if problem.is_none() || !self.ask(credentials, id) {
                self.credential(&field, problem);
            }
            ids.push(id);
        }
        if !ids.is_empty() {
            return ids;
        }
        let pairs = self.tls.tls_certificates.iter().map(|pair| (&pair.server_certificate, &pair.private_key));
        let single = [(&self.tls.server_certificate, &self.tls.private_key)];
        let all: Vec<_> = if self.tls.tls_certificates.is_empty() { single.to_vec() } else { pairs.collect() };
        for (i, pair) in all.into_iter().enumerate() {
            let (Some(certificate), Some(key)) = pair else { continue };
            let listed = !self.tls.tls_certificates.is_empty();
            let field = if listed { format!("tlsCertificates[{i}]") } else { "serverCertificate".to_owned() };
            ids.push(credentials.files(&[("tls.crt", certificate), ("tls.key", key)], self.origin(&field)));
        }
        ids
    }

    /// False when no authority is to be asked for what is missing, or it could not sign for any of the hosts.
    fn ask(&mut self, credentials: &mut Credentials<'_>, id: SecretId) -> bool {
        let Some(contact) = self.gateway.object.meta.annotations.get(ACME) else { return false };
        let contact: Vec<_> =
            contact.split(',').map(|url| url.trim().to_owned()).filter(|url| !url.is_empty()).collect();
        let (wildcards, names): (Vec<_>, Vec<_>) =
            self.server.hosts.hosts().map(str::to_owned).partition(|host| host.contains('*'));
        if let Some(host) = wildcards.first() {
            let place = self.gateway.object.place(&format!("{}.hosts", self.server.path));
            let text = format!("ACME signs for exact hosts only: `{host}` is left out of the certificate");
            self.found.push(Diagnostic::warning("P0236", place, text));
        }
        if names.is_empty() {
            return false;
        }
        credentials.ask(id, &names, &contact);
        true
    }

    fn ca(&mut self, credentials: &mut Credentials<'_>) -> Option<SecretId> {
        let of_files = self.tls.tls_certificates.iter().find_map(|pair| pair.ca_certificates.as_ref());
        if let Some(file) = self.tls.ca_certificates.as_ref().or(of_files) {
            let crl = self.tls.ca_crl.as_ref().map(|crl| ("ca.crl", crl.as_str()));
            let files: Vec<_> = std::iter::once(("ca.crt", file.as_str())).chain(crl).collect();
            return Some(credentials.files(&files, self.origin("caCertificates")));
        }
        let first = self.tls.credential_name.as_ref().or(self.tls.credential_names.first());
        let (name, field) = match &self.tls.ca_cert_credential_name {
            Some(name) => (name, "caCertCredentialName"),
            None => (first?, "credentialName"),
        };
        let (id, problem) = credentials.ca(&self.namespace(), plain(name), self.origin(field));
        self.credential(field, problem);
        Some(id)
    }

    fn versions(&mut self) -> (TlsVersion, TlsVersion) {
        let lowest = match self.tls.min_protocol_version.as_deref() {
            Some("TLSV1_3") => TlsVersion::V1_3,
            Some(old @ ("TLSV1_0" | "TLSV1_1")) => {
                let text = format!("{old} is not served: the minimum is TLSV1_2");
                self.say(Severity::Warning, "P0234", "minProtocolVersion", text);
                TlsVersion::V1_2
            }
            Some("TLSV1_2") => TlsVersion::V1_2,
            _ => self.defaults.min_version.unwrap_or(TlsVersion::V1_2),
        };
        let highest = match self.tls.max_protocol_version.as_deref() {
            Some("TLSV1_2") => Some(TlsVersion::V1_2),
            Some("TLSV1_0" | "TLSV1_1") => None,
            _ => Some(TlsVersion::V1_3),
        };
        match highest.filter(|highest| *highest >= lowest) {
            Some(highest) => (lowest, highest),
            None => {
                let text = "no version that is served is left: TLS handshakes for these hosts fail";
                self.say(Severity::Error, "P0234", "maxProtocolVersion", text.to_owned());
                // Above the maximum, which whoever builds the chain takes for none at all.
                (TlsVersion::V1_3, TlsVersion::V1_2)
            }
        }
    }

    fn ciphers(&mut self) -> Vec<String> {
        if self.tls.cipher_suites.is_empty() {
            return self.defaults.cipher_suites.clone();
        }
        let mut taken: Vec<String> = Vec::new();
        for (i, name) in self.tls.cipher_suites.iter().enumerate() {
            let reason = match name {
                doubled if taken.contains(doubled) => "is written twice",
                known if CIPHERS.contains(&known.as_str()) => {
                    taken.push(known.clone());
                    continue;
                }
                _ => "is not offered",
            };
            self.say(Severity::Warning, "P0233", &format!("cipherSuites[{i}]"), format!("`{name}` {reason}"));
        }
        taken
    }

    fn credential(&mut self, field: &str, problem: Option<String>) {
        if let Some(problem) = problem {
            let text = format!("{problem}: TLS handshakes for these hosts fail");
            self.say(Severity::Error, "P0231", field, text);
        }
    }

    fn say(&mut self, severity: Severity, code: &'static str, field: &str, text: String) {
        let place = self.gateway.object.place(&format!("{}.tls.{field}", self.server.path));
        self.found.push(Diagnostic { severity, ..Diagnostic::warning(code, place, text) });
    }

    fn namespace(&self) -> String {
        self.gateway.object.meta.namespace.clone()
    }

    fn origin(&self, field: &str) -> portolan_model::Origin {
        self.gateway.object.origin(&format!("{}.tls.{field}", self.server.path))
    }
}

/// The name without Istio's optional scheme.
fn plain(name: &str) -> &str {
    name.strip_prefix("kubernetes://").unwrap_or(name)
}
