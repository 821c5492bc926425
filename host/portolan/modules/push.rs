//! [`push`]: an image and its signature into a registry; what is there already is not sent again.

use serde_json::{Value, json};

use super::client::{Client, ClientOptions};
use super::credentials::Credentials;
use super::error::FetchError;
use super::fetch::{MAX_SIGNATURE, MAX_SIGNATURES, SIGNATURE};
use super::image::{Descriptor, Manifest};
use super::once;
use super::package::{Blob, Package};
use super::reference::Reference;
use super::registry::Registry;
use super::signing::SigningKey;

/// The type of cosign's payload as a layer.
const PAYLOAD_LAYER: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// What became of a push.
#[derive(Debug)]
pub(crate) struct Pushed {
    /// Of the image, in hex.
    pub(crate) digest: String,
    /// What the tag named before, in hex.
    pub(crate) before: Option<String>,
    /// Blobs that the registry did not have.
    pub(crate) sent: usize,
    /// Blobs that it had.
    pub(crate) kept: usize,
    /// Whether a signature was added; none when no key was given.
    pub(crate) signed: Option<bool>,
}

/// Sends what the registry does not have: blobs, then the manifest under the tag, then the signature.
pub(crate) fn push(
    options: &ClientOptions,
    reference: &Reference,
    credentials: Option<Credentials>,
    package: &Package,
    key: Option<&SigningKey>,
) -> Result<Pushed, FetchError> {
    let client = Client::for_uploads(options)?;
    let registry = Registry::new(&client, reference, credentials);
    once::run(async {
        let (tag, digest) = (reference.tag.clone().unwrap_or_default(), package.digest());
        let before = registry.tagged(&tag).await?;
        let (mut sent, mut kept) = (0, 0);
        if before.as_ref() != Some(&digest) {
            (sent, kept) = put(&registry, &tag, package).await?;
        }
        let signed = match key {
            Some(key) => Some(sign(&registry, reference, &digest, key).await?),
            None => None,
        };
        Ok(Pushed { digest, before, sent, kept, signed })
    })
}

/// Numbers of blobs sent and not sent.
async fn put(registry: &Registry<'_>, tag: &str, package: &Package) -> Result<(usize, usize), FetchError> {
    let mut sent = 0;
    for blob in &package.blobs {
        sent += usize::from(registry.put_blob(blob).await?);
    }
    registry.put_manifest(tag, package.media_type, &package.manifest, &package.digest()).await?;
    Ok((sent, package.blobs.len() - sent))
}

/// Adds a signature where cosign looks for it, beside those of others. False when this key's is there.
async fn sign(
    registry: &Registry<'_>,
    reference: &Reference,
    digest: &str,
    key: &SigningKey,
) -> Result<bool, FetchError> {
    let tag = format!("sha256-{digest}.sig");
    let text = match registry.manifest(&tag).await {
        Ok((text, _)) => text,
        Err(FetchError::Status { status: 404, .. }) => b"{}".to_vec(),
        Err(error) => return Err(error),
    };
    let public = key.public()?;
    let layers = Manifest::parse(&text)?.layers;
    for layer in layers.iter().take(MAX_SIGNATURES) {
        let Some(signature) = layer.annotations.get(SIGNATURE) else { continue };
        let payload = registry.blob(layer, MAX_SIGNATURE).await?;
        if public.has_signed_image(&payload, signature, digest) {
            return Ok(false);
        }
    }
    let (payload, signature) = key.sign_image(reference, digest)?;
    let blob = Blob::new(payload);
    let mut layer = blob.described(PAYLOAD_LAYER);
    layer["annotations"] = json!({ SIGNATURE: signature });
    let others = layers.iter().map(written);
    let package = Package::of_signatures(&others.chain([layer]).collect::<Vec<_>>(), vec![blob]);
    put(registry, &tag, &package).await?;
    Ok(true)
}

/// A layer as it was read.
fn written(layer: &Descriptor) -> Value {
    let Descriptor { media_type, digest, size, annotations, .. } = layer;
    json!({ "mediaType": media_type, "digest": digest, "size": size, "annotations": annotations })
}
