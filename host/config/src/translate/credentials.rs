//! [`Credentials`]: the Secrets and files that servers take their certificates from, each once in the model.

use std::collections::HashMap;

use portolan_model::{AcmeOrder, Origin, Secret, SecretId};

use crate::ResourceSet;
use crate::resources::core::Secret as KubernetesSecret;

/// Where Istio's own gateway runs: its Secrets are there, whatever the namespace of a Gateway.
const ROOT_NAMESPACE: &str = "istio-system";

/// An OCSP response in DER beside a pair.
const STAPLE: &str = "tls.ocsp-staple";

/// Secrets of the model in the making.
pub(super) struct Credentials<'a> {
    resources: &'a ResourceSet,
    /// Namespace of the Service in front of this gateway: where Istio looks.
    own_namespace: Option<String>,
    ids: HashMap<String, SecretId>,
    pub(super) secrets: Vec<Secret>,
}

/// What is wanted of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A certificate with its key.
    Pair,
    /// A CA, and perhaps a revocation list.
    Ca,
}

impl<'a> Credentials<'a> {
    pub(super) fn new(resources: &'a ResourceSet, service: Option<&str>) -> Self {
        let own_namespace = service.and_then(|name| name.split_once('/')).map(|(namespace, _)| namespace.to_owned());
        Self { resources, own_namespace, ids: HashMap::new(), secrets: Vec::new() }
    }

    /// The pair of a Secret. What it lacks is the error; it is in the model all the same, so that what was good before
    /// serves on.
    pub(super) fn pair(&mut self, namespace: &str, name: &str, origin: Origin) -> (SecretId, Option<String>) {
        let found = self.find(namespace, name);
        let entries = found.as_ref().map_or_else(Vec::new, |(_, secret)| pair_of(secret));
        let problem = match &found {
            None => Some(format!("there is no Secret `{namespace}/{name}`")),
            Some((namespace, _)) if entries.is_empty() => {
                Some(format!("Secret `{namespace}/{name}` has no `tls.crt` with a `tls.key`"))
            }
            Some(_) => None,
        };
        let full = found.map_or_else(|| namespace.to_owned(), |(namespace, _)| namespace);
        (self.add(format!("{full}/{name}"), Wanted::Pair, entries, Vec::new(), origin), problem)
    }

    /// Has an authority asked for these names, besides those that other servers want of the same credential.
    pub(super) fn ask(&mut self, id: SecretId, names: &[String], contact: &[String]) {
        let Some(secret) = self.secrets.get_mut(id as usize) else { return };
        let order = secret.acme.get_or_insert_with(|| AcmeOrder { names: Vec::new(), contact: contact.to_vec() });
        order.names.extend_from_slice(names);
        order.names.sort_unstable();
        order.names.dedup();
    }

    /// The CA for a server with this credential: of `NAME-cacert`, or of the Secret itself.
    pub(super) fn ca(&mut self, namespace: &str, name: &str, origin: Origin) -> (SecretId, Option<String>) {
        let separate = self.find(namespace, &format!("{name}-cacert"));
        let (full, found) = match separate {
            Some(found) => (format!("{name}-cacert"), Some(found)),
            None => (name.to_owned(), self.find(namespace, name)),
        };
        let entries = found.as_ref().map_or_else(Vec::new, |(_, secret)| ca_of(secret));
        let place = found.map_or_else(|| namespace.to_owned(), |(namespace, _)| namespace);
        let lacks = || format!("neither Secret `{place}/{name}-cacert` nor `{place}/{name}` has a `ca.crt`");
        let problem = entries.is_empty().then(lacks);
        (self.add(format!("{place}/{full}"), Wanted::Ca, entries, Vec::new(), origin), problem)
    }

    /// Files, by the entry that they hold. They are read by whoever reads the configuration.
    pub(super) fn files(&mut self, files: &[(&str, &str)], origin: Origin) -> SecretId {
        let name = files.iter().map(|(_, path)| *path).collect::<Vec<_>>().join(", ");
        let files = files.iter().map(|(entry, path)| ((*entry).to_owned(), (*path).to_owned())).collect();
        self.add(name, Wanted::Pair, Vec::new(), files, origin)
    }

    fn add(
        &mut self,
        name: String,
        wanted: Wanted,
        entries: Vec<(String, Vec<u8>)>,
        files: Vec<(String, String)>,
        origin: Origin,
    ) -> SecretId {
        let next = SecretId::try_from(self.secrets.len()).unwrap_or(SecretId::MAX);
        let id = *self.ids.entry(format!("{wanted:?} {name}")).or_insert(next);
        if id == next {
            self.secrets.push(Secret { name, entries, files, acme: None, origin });
        }
        id
    }

    /// In the Gateway's namespace, else where this gateway runs.
    fn find(&self, namespace: &str, name: &str) -> Option<(String, &'a KubernetesSecret)> {
        let own = self.own_namespace.as_deref();
        let mut places = [Some(namespace), own, Some(ROOT_NAMESPACE)].into_iter().flatten();
        places.find_map(|place| Some((place.to_owned(), &self.resources.get::<KubernetesSecret>(place, name)?.spec)))
    }
}

/// The generic names come before those of the TLS type, as in Istio.
fn pair_of(secret: &KubernetesSecret) -> Vec<(String, Vec<u8>)> {
    for (certificate, key) in [("cert", "key"), ("tls.crt", "tls.key")] {
        if let (Some(certificate), Some(key)) = (secret.value(certificate), secret.value(key)) {
            let staple = secret.value(STAPLE).map(|staple| (STAPLE.to_owned(), staple));
            let pair = [("tls.crt".to_owned(), certificate), ("tls.key".to_owned(), key)];
            return pair.into_iter().chain(staple).collect();
        }
    }
    Vec::new()
}

fn ca_of(secret: &KubernetesSecret) -> Vec<(String, Vec<u8>)> {
    let Some(ca) = secret.value("cacert").or_else(|| secret.value("ca.crt")) else { return Vec::new() };
    let crl = secret.value("ca.crl").map(|crl| ("ca.crl".to_owned(), crl));
    std::iter::once(("ca.crt".to_owned(), ca)).chain(crl).collect()
}
