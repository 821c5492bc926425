//! [`fetch`]: one try to get one module, from a web server or from a registry, with digest and signature checked.

use portolan_model::{PullSecret, RemoteModule};
use reqwest::Url;
use reqwest::header::{ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};

use super::cache::hex_digest;
use super::client::{Client, MAX_BYTES, body};
use super::credentials::Credentials;
use super::error::FetchError;
use super::image::{self, Descriptor, Manifest};
use super::reference::Reference;
use super::registry::Registry;
use super::signature::PublicKey;

/// A detached signature or a payload of cosign's.
pub(super) const MAX_SIGNATURE: u64 = 64 * 1024;

/// So many signatures of an image are looked at.
pub(super) const MAX_SIGNATURES: usize = 20;

/// Where cosign writes the signature of its payload.
pub(super) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// What is asked for, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Wanted {
    pub(crate) module: RemoteModule,
    /// See [`portolan_model::Plugin::sha256`].
    pub(crate) sha256: Option<String>,
    /// PEM.
    pub(crate) key: Option<String>,
}

/// A module that came.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    pub(super) bytes: Vec<u8>,
    /// What tells this version from another: an image's digest, a server's ETag.
    pub(super) version: Option<String>,
    /// Fingerprint of the key that signed it.
    pub(super) signer: Option<String>,
}

/// One try. None when the version is still the one that is known.
pub(super) async fn fetch(
    client: &Client,
    wanted: &Wanted,
    known: Option<&str>,
) -> Result<Option<Fetched>, FetchError> {
    let fetched = fetch_any(client, wanted, known).await?;
    // A page of a login or of a mirror's apology has status 200 as well.
    if fetched.as_ref().is_some_and(|fetched| !fetched.bytes.starts_with(b"\0asm")) {
        return Err(FetchError::Malformed("what came is no WebAssembly".to_owned()));
    }
    Ok(fetched)
}

async fn fetch_any(client: &Client, wanted: &Wanted, known: Option<&str>) -> Result<Option<Fetched>, FetchError> {
    let key = wanted.key.as_deref().map(PublicKey::from_pem).transpose()?;
    if !wanted.module.url.starts_with("oci://") {
        return from_server(client, wanted, key.as_ref(), known).await;
    }
    let address = || FetchError::Address(wanted.module.url.clone());
    let reference = Reference::parse(&wanted.module.url).ok_or_else(address)?;
    let secret = wanted.module.pull_secret.as_ref();
    let credentials =
        secret.and_then(|secret: &PullSecret| Credentials::of(&secret.docker_config, &reference.registry));
    let registry = Registry::new(client, &reference, credentials);
    from_registry(&registry, &reference, wanted, key.as_ref(), known).await
}

async fn from_server(
    client: &Client,
    wanted: &Wanted,
    key: Option<&PublicKey>,
    known: Option<&str>,
) -> Result<Option<Fetched>, FetchError> {
    let address = || FetchError::Address(wanted.module.url.clone());
    let url = Url::parse(&wanted.module.url).map_err(|_| address())?;
    let known = known.and_then(|known| HeaderValue::from_str(known).ok());
    let headers = HeaderMap::from_iter(known.map(|known| (IF_NONE_MATCH, known)));
    let response = client.get(url.clone(), headers).await?;
    if response.status() == 304 {
        return Ok(None);
    }
    let version = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
    let bytes = body(response, url.path(), MAX_BYTES).await?;
    if let Some(wanted) = &wanted.sha256 {
        check_digest("module", hex_digest(&bytes), wanted)?;
    }
    if let Some(key) = key {
        let mut beside = url;
        beside.set_path(&format!("{}.sig", beside.path()));
        let response = client.get(beside.clone(), HeaderMap::new()).await?;
        let missing = || FetchError::Signature(format!("the module is not signed: there is no `{}`", beside.path()));
        let signature = match body(response, beside.path(), MAX_SIGNATURE).await {
            Err(FetchError::Status { status: 403 | 404 | 410, .. }) => return Err(missing()),
            answer => answer?,
        };
        check_blob(key, &bytes, &signature)?;
    }
    Ok(Some(Fetched { bytes, version, signer: signer(key) }))
}

/// A detached signature, as `cosign sign-blob` writes it.
pub(super) fn check_blob(key: &PublicKey, bytes: &[u8], signature: &[u8]) -> Result<(), FetchError> {
    if std::str::from_utf8(signature).is_ok_and(|signature| key.has_signed(bytes, signature)) {
        return Ok(());
    }
    Err(FetchError::Signature("the module is not signed by `verificationKey`: its signature is of another".to_owned()))
}

async fn from_registry(
    registry: &Registry<'_>,
    reference: &Reference,
    wanted: &Wanted,
    key: Option<&PublicKey>,
    known: Option<&str>,
) -> Result<Option<Fetched>, FetchError> {
    let (text, digest) = registry.manifest(&reference.version()).await?;
    if known == Some(digest.as_str()) {
        return Ok(None);
    }
    let mut manifest = Manifest::parse(&text)?;
    let mut digests = vec![digest];
    if let Some(entry) = manifest.for_wasm() {
        let (text, digest) = registry.manifest(&entry.digest).await?;
        manifest = Manifest::parse(&text)?;
        digests.push(digest);
    }
    // An index and its image have a digest each; Docker's tools show the one, Istio's agent checks the other.
    if let Some(wanted) = wanted.sha256.as_ref().filter(|wanted| !digests.contains(wanted)) {
        check_digest("image", digests[0].clone(), wanted)?;
    }
    if let Some(key) = key {
        check_image(registry, &digests, key).await?;
    }
    let layer = manifest.module_layer()?.clone();
    let bytes = registry.blob(&layer, MAX_BYTES).await?;
    let unpacked = tokio::task::spawn_blocking(move || image::module_of(&layer, bytes)).await;
    let bytes = unpacked.map_err(|_| FetchError::Malformed("the layer cannot be unpacked".to_owned()))??;
    Ok(Some(Fetched { bytes, version: digests.first().cloned(), signer: signer(key) }))
}

/// Looks for a signature of the image: where cosign puts it, and among what refers to the image.
async fn check_image(registry: &Registry<'_>, digests: &[String], key: &PublicKey) -> Result<(), FetchError> {
    let mut seen = 0;
    for digest in digests {
        let by_tag = match registry.manifest(&format!("sha256-{digest}.sig")).await {
            Err(FetchError::Status { status: 404, .. }) => None,
            answer => Some(answer?.0),
        };
        let mut manifests: Vec<Vec<u8>> = by_tag.into_iter().collect();
        // Registries before OCI 1.1 know no referrers and answer 404, or anything.
        if let Ok(referrers) = registry.referrers(digest).await {
            let of_cosign = |entry: &&Descriptor| entry.artifact_type.as_ref().is_some_and(|t| t.contains("cosign"));
            let entries = Manifest::parse(&referrers).map(|index| index.manifests).unwrap_or_default();
            for entry in entries.iter().filter(of_cosign).take(MAX_SIGNATURES) {
                manifests.push(registry.manifest(&entry.digest).await?.0);
            }
        }
        for manifest in manifests {
            for layer in Manifest::parse(&manifest)?.layers.iter().take(MAX_SIGNATURES) {
                let Some(signature) = layer.annotations.get(SIGNATURE) else { continue };
                seen += 1;
                let payload = registry.blob(layer, MAX_SIGNATURE).await?;
                if key.has_signed_image(&payload, signature, digest) {
                    return Ok(());
                }
            }
        }
    }
    Err(FetchError::Signature(match seen {
        0 => "the image is not signed: the registry has no signature of cosign's for it".to_owned(),
        _ => "the image is not signed by `verificationKey`: its signatures are of others".to_owned(),
    }))
}

fn check_digest(what: &'static str, found: String, wanted: &str) -> Result<(), FetchError> {
    if found == wanted { Ok(()) } else { Err(FetchError::Digest { what, found, wanted: wanted.to_owned() }) }
}

fn signer(key: Option<&PublicKey>) -> Option<String> {
    key.map(|key| key.fingerprint().to_owned())
}
