//! TLS towards a cluster: what `trafficPolicy.tls` asks for, with certificates from files or Secrets.

use std::path::Path;

use portolan_model::{Hidden, Pem, Trust, UpstreamTls};

use super::policies::InForce;
use super::transport::Mesh;
use crate::ResourceSet;
use crate::diagnostic::Diagnostic;
use crate::object::Object;
use crate::resources::core::Secret;
use crate::resources::istio::DestinationRule;
use crate::resources::istio::destination_rule::ClientTls;

/// Where Istio's own gateways and their Secrets are.
const ROOT_NAMESPACE: &str = "istio-system";

/// What a `tls` block is read with.
struct Reading<'a> {
    written: &'a ClientTls,
    rule: &'a Object<DestinationRule>,
    resources: &'a ResourceSet,
}

/// None without TLS. `alt_names` are those of the ServiceEntry, for a block that has none.
pub(super) fn translate(
    blocks: &InForce<'_>,
    alt_names: &[String],
    mesh: &Mesh,
    resources: &ResourceSet,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Box<UpstreamTls>> {
    let (written, rule, path) = blocks.tls.as_ref()?;
    let is_mutual = match written.mode.as_deref() {
        Some("SIMPLE") => false,
        Some("MUTUAL") => true,
        _ => return None,
    };
    let reading = Reading { written, rule, resources };
    let sni = written.sni.clone().filter(|sni| !sni.is_empty());
    let insecure = written.insecure_skip_verify == Some(true);
    let trust = if insecure { Trust::Anybody } else { reading.trust(mesh) };
    let verified = trust != Trust::Anybody;
    let own = &written.subject_alt_names;
    let wanted = if own.is_empty() { alt_names } else { own };
    let tls = UpstreamTls {
        verify_host: verified && sni.is_none() && own.is_empty(),
        subject_alt_names: if verified { wanted.to_vec() } else { Vec::new() },
        sni,
        trust,
        crl: given(&written.ca_crl).filter(|_| verified).map(|file| reading.file(file)),
        cipher_suites: mesh.tls.cipher_suites.clone(),
        ecdh_curves: mesh.tls.ecdh_curves.clone(),
        identity: is_mutual.then(|| reading.identity()),
        origin: rule.origin(path),
    };
    for missing in tls.pems().filter_map(|pem| match pem {
        Pem::Missing { what } => Some(what),
        Pem::File { .. } | Pem::Secret { .. } => None,
    }) {
        let place = rule.place(&format!("{path}.credentialName"));
        let text = format!("{missing}: requests to this host get 503, unless a good one was there before");
        diagnostics.push(Diagnostic::error("P0230", place, text));
    }
    Some(Box::new(tls))
}

fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

impl Reading<'_> {
    /// Without authorities of its own a block trusts those of the system; with `verifyCertificateAtClient: false` anybody.
    fn trust(&self, mesh: &Mesh) -> Trust {
        if let Some(name) = given(&self.written.credential_name) {
            return Trust::Authorities(self.authorities(name));
        }
        match given(&self.written.ca_certificates) {
            Some("system") => Trust::System,
            Some(file) => Trust::Authorities(self.file(file)),
            None if mesh.verify => Trust::System,
            None => Trust::Anybody,
        }
    }

    fn identity(&self) -> (Pem, Pem) {
        if let Some(name) = given(&self.written.credential_name) {
            return (self.entry(name, &["tls.crt", "cert"]), self.entry(name, &["tls.key", "key"]));
        }
        let file =
            |path: &Option<String>| given(path).map_or(Pem::Missing { what: String::new() }, |path| self.file(path));
        (file(&self.written.client_certificate), file(&self.written.private_key))
    }

    /// Relative to the folder of the rule's file.
    fn file(&self, path: &str) -> Pem {
        let folder = Path::new(&**self.rule.places.file()).parent().unwrap_or(Path::new(""));
        Pem::File { path: folder.join(path) }
    }

    /// `ca.crt` or `cacert` of the Secret, else of the one with `-cacert` after its name.
    fn authorities(&self, name: &str) -> Pem {
        let own = self.entry(name, &["ca.crt", "cacert"]);
        if let Pem::Missing { .. } = own {
            let apart = self.entry(&format!("{name}-cacert"), &["ca.crt", "cacert"]);
            if matches!(apart, Pem::Secret { .. }) {
                return apart;
            }
        }
        own
    }

    fn entry(&self, name: &str, keys: &[&str]) -> Pem {
        let Some(secret) = self.secret(name) else {
            return Pem::Missing { what: format!("there is no Secret `{}/{name}`", self.rule.meta.namespace) };
        };
        let full = format!("{}/{}", secret.meta.namespace, secret.meta.name);
        let read = |key: &&str| Some(((*key).to_owned(), secret.spec.value(key)?));
        match keys.iter().find_map(read) {
            Some((entry, bytes)) => Pem::Secret { name: full, entry, bytes: Hidden(bytes) },
            None => Pem::Missing { what: format!("Secret `{full}` has no entry `{}`", keys.join("` or `")) },
        }
    }

    /// In the rule's namespace, then in those where gateways are.
    fn secret(&self, name: &str) -> Option<&Object<Secret>> {
        let name = name.strip_prefix("kubernetes://").unwrap_or(name);
        if let Some((namespace, name)) = name.split_once('/') {
            return self.resources.get(namespace, name);
        }
        let gateways = self.resources.gateways().map(|gateway| gateway.meta.namespace.as_str());
        let mut namespaces = [self.rule.meta.namespace.as_str(), ROOT_NAMESPACE].into_iter().chain(gateways);
        namespaces.find_map(|namespace| self.resources.get(namespace, name))
    }
}
