//! [`Package`]: a module as an image, in the layouts that Istio's agent takes. The same module and annotations give the
//! same bytes, so that pushing twice changes nothing.

use std::collections::BTreeMap;
use std::io::{self, Write};

use clap::ValueEnum;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::cache::hex_digest;
use super::image::{FILE, PLAIN};

/// How an image holds its module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layout {
    /// The module as a layer of its own
    #[default]
    Artifact,
    /// An archive with plugin.wasm, as OCI has it: for registries that take container images only
    Compat,
    /// An archive with plugin.wasm, as Docker has it
    Docker,
}

/// An image that is ready to be sent.
#[derive(Debug)]
pub(crate) struct Package {
    pub(super) media_type: &'static str,
    pub(super) manifest: Vec<u8>,
    pub(super) blobs: Vec<Blob>,
}

/// Bytes that the manifest names.
#[derive(Clone, Debug)]
pub(super) struct Blob {
    /// With `sha256:`.
    pub(super) digest: String,
    pub(super) bytes: Vec<u8>,
}

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const WASM_CONFIG: &str = "application/vnd.module.wasm.config.v1+json";

impl Package {
    /// Of a module that speaks this version of proxy-wasm.
    pub(crate) fn new(
        module: &[u8],
        layout: Layout,
        abi: &str,
        annotations: &BTreeMap<String, String>,
    ) -> io::Result<Self> {
        let mut annotations = annotations.clone();
        let (media_type, config, layers) = match layout {
            Layout::Artifact => {
                let runtime = json!({ "type": "envoy_proxy", "abiVersions": [abi] }).to_string().into_bytes();
                let layers = vec![(WASM_CONFIG, Blob::new(runtime.clone())), (PLAIN[0], Blob::new(module.to_vec()))];
                (OCI, (WASM_CONFIG, Blob::new(runtime)), layers)
            }
            Layout::Compat => {
                // What the specification of such images wants, and buildah writes.
                annotations.insert("module.wasm.image/variant".to_owned(), "compat".to_owned());
                let (config, layer) = archived(module)?;
                (OCI, (OCI_CONFIG, config), vec![("application/vnd.oci.image.layer.v1.tar+gzip", layer)])
            }
            Layout::Docker => {
                let (config, layer) = archived(module)?;
                let layers = vec![("application/vnd.docker.image.rootfs.diff.tar.gzip", layer)];
                (DOCKER, (DOCKER_CONFIG, config), layers)
            }
        };
        Ok(Self::of(media_type, &config, &layers, &annotations))
    }

    /// A signature of cosign's form: its payload as the only layer.
    pub(super) fn of_signatures(layers: &[Value], blobs: Vec<Blob>) -> Self {
        let config = Blob::new(b"{}".to_vec());
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": OCI, "config": config.described(OCI_CONFIG), "layers": layers });
        let blobs = [vec![config], blobs].concat();
        Self { media_type: OCI, manifest: manifest.to_string().into_bytes(), blobs }
    }

    fn of(
        media_type: &'static str,
        (config_type, config): &(&str, Blob),
        layers: &[(&str, Blob)],
        annotations: &BTreeMap<String, String>,
    ) -> Self {
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": config.described(config_type),
            "layers": layers.iter().map(|(kind, blob)| blob.described(kind)).collect::<Vec<_>>(),
        });
        // Docker's form knows no annotations.
        if media_type == OCI {
            manifest["annotations"] = json!(annotations);
        }
        let mut blobs = vec![config.clone()];
        for (_, blob) in layers {
            if !blobs.iter().any(|known| known.digest == blob.digest) {
                blobs.push(blob.clone());
            }
        }
        Self { media_type, manifest: manifest.to_string().into_bytes(), blobs }
    }

    /// SHA-256 of the manifest in hex: the image's digest.
    pub(crate) fn digest(&self) -> String {
        hex_digest(&self.manifest)
    }
}

impl Blob {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { digest: format!("sha256:{}", hex_digest(&bytes)), bytes }
    }

    /// As a manifest names it.
    pub(super) fn described(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest, "size": self.bytes.len() })
    }
}

/// Configuration and layer of an image that is nothing but the module, without times or owners.
fn archived(module: &[u8]) -> io::Result<(Blob, Blob)> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(module.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, FILE, module)?;
    let archive = archive.into_inner()?;
    let config = json!({
        "architecture": "wasm",
        "os": "wasip1",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex_digest(&archive))] },
    });
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&archive)?;
    Ok((Blob::new(config.to_string().into_bytes()), Blob::new(packed.finish()?)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::super::image::{Manifest, module_of};
    use super::*;

    fn package(layout: Layout) -> Package {
        let annotations = BTreeMap::from([("org.opencontainers.image.title".to_owned(), "stamp".to_owned())]);
        Package::new(b"\0asm module", layout, "0.2.1", &annotations).unwrap()
    }

    #[test]
    fn every_layout_gives_the_module_back() {
        for layout in [Layout::Artifact, Layout::Compat, Layout::Docker] {
            let package = package(layout);
            let manifest = Manifest::parse(&package.manifest).unwrap();
            let layer = manifest.module_layer().unwrap();
            let blob = package.blobs.iter().find(|blob| blob.digest == layer.digest).unwrap();
            assert_eq!(layer.size, blob.bytes.len() as u64);
            assert_eq!(module_of(layer, blob.bytes.clone()).unwrap(), b"\0asm module", "{layout:?}");
        }
    }

    #[test]
    fn the_same_module_is_the_same_image() {
        for layout in [Layout::Artifact, Layout::Compat, Layout::Docker] {
            assert_eq!(package(layout).digest(), package(layout).digest(), "{layout:?}");
        }
    }

    #[test]
    fn istio_s_agent_wants_two_layers_of_an_artifact_and_the_variant_of_an_archive() {
        let artifact: Value = serde_json::from_slice(&package(Layout::Artifact).manifest).unwrap();
        assert_eq!(artifact["layers"].as_array().unwrap().len(), 2);
        assert_eq!(artifact["annotations"]["org.opencontainers.image.title"], "stamp");
        let compat: Value = serde_json::from_slice(&package(Layout::Compat).manifest).unwrap();
        assert_eq!(compat["annotations"]["module.wasm.image/variant"], "compat");
    }
}
