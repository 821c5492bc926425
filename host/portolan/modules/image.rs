//! [`Manifest`]: which layer of an image holds the module, and the module out of it: the layouts that Istio's agent takes.

use std::io::Read;

use flate2::read::GzDecoder;
use serde::Deserialize;

use super::client::MAX_BYTES;
use super::error::FetchError;

/// What a registry is asked for, in the order of preference.
pub(super) const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";

/// The module as it is, as tools for WebAssembly artifacts push it.
pub(super) const PLAIN: [&str; 2] = ["application/vnd.module.wasm.content.layer.v1+wasm", "application/wasm"];

/// The file of the module in a layer that is an archive.
pub(super) const FILE: &str = "plugin.wasm";

/// So many files of a layer are looked at.
const MAX_FILES: usize = 100_000;

/// An image, or an index of images.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    #[serde(default)]
    pub(super) layers: Vec<Descriptor>,
    /// Of an index: one for each platform, or the referrers of an image.
    #[serde(default)]
    pub(super) manifests: Vec<Descriptor>,
}

/// A blob or manifest that another names.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: String,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default)]
    pub(super) artifact_type: Option<String>,
    #[serde(default)]
    pub(super) annotations: std::collections::HashMap<String, String>,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Clone, Debug, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

impl Manifest {
    pub(super) fn parse(text: &[u8]) -> Result<Self, FetchError> {
        serde_json::from_slice(text).map_err(|error| FetchError::Malformed(format!("not a manifest: {error}")))
    }

    /// The image of an index that holds WebAssembly, or could: by platform `wasm`, else what Docker would take here.
    pub(super) fn for_wasm(&self) -> Option<&Descriptor> {
        let is = |wanted: &'static str| {
            move |entry: &&Descriptor| {
                entry.platform.as_ref().is_some_and(|p| p.architecture == wanted && p.os != "unknown")
            }
        };
        let mut all = self.manifests.iter();
        all.clone().find(is("wasm")).or_else(|| all.clone().find(is("amd64"))).or_else(|| all.next())
    }

    /// The layer that holds the module: one that is nothing else, else the last archive, which Docker puts on top.
    pub(super) fn module_layer(&self) -> Result<&Descriptor, FetchError> {
        let plain = self.layers.iter().find(|layer| PLAIN.contains(&layer.media_type.as_str()));
        let archive = || self.layers.iter().rev().find(|layer| layer.media_type.contains(".tar"));
        plain.or_else(archive).ok_or_else(|| {
            let found: Vec<_> = self.layers.iter().map(|layer| layer.media_type.as_str()).collect();
            let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
            FetchError::Malformed(format!("the image has no layer with a module; its layers are {found}"))
        })
    }
}

/// The module in the bytes of its layer.
pub(super) fn module_of(layer: &Descriptor, bytes: Vec<u8>) -> Result<Vec<u8>, FetchError> {
    if PLAIN.contains(&layer.media_type.as_str()) {
        return Ok(bytes);
    }
    // Tools disagree on whether a media type says how the layer is packed; its first bytes do.
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return from_archive(GzDecoder::new(bytes.as_slice()));
    }
    from_archive(bytes.as_slice())
}

fn from_archive(archive: impl Read) -> Result<Vec<u8>, FetchError> {
    let broken = |error: std::io::Error| FetchError::Malformed(format!("the layer cannot be unpacked: {error}"));
    // Small archives may unpack to anything.
    let mut archive = tar::Archive::new(archive.take(MAX_BYTES + 1024 * 1024));
    for entry in archive.entries().map_err(broken)?.take(MAX_FILES) {
        let mut entry = entry.map_err(broken)?;
        let path = entry.path_bytes();
        let name = path.strip_prefix(b"./").unwrap_or(&path);
        if name != FILE.as_bytes() || !entry.header().entry_type().is_file() {
            continue;
        }
        if entry.size() > MAX_BYTES {
            return Err(FetchError::TooLarge(MAX_BYTES));
        }
        let mut module = Vec::new();
        entry.read_to_end(&mut module).map_err(broken)?;
        return Ok(module);
    }
    Err(FetchError::Malformed(format!("the image's layer holds no file `{FILE}`")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::io::Write;

    use super::*;

    fn layer(media_type: &str) -> Descriptor {
        let json = format!(r#"{{"mediaType":"{media_type}","digest":"sha256:00","size":1}}"#);
        serde_json::from_str(&json).unwrap()
    }

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, *content).unwrap();
        }
        archive.into_inner().unwrap()
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_module_comes_out_of_every_layout() {
        let tar = archive(&[("readme", b"x"), ("plugin.wasm", b"\0asm")]);
        for (media_type, bytes) in [
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", packed(&tar)),
            ("application/vnd.oci.image.layer.v1.tar+gzip", packed(&tar)),
            ("application/vnd.oci.image.layer.v1.tar", tar),
            ("application/vnd.module.wasm.content.layer.v1+wasm", b"\0asm".to_vec()),
            ("application/wasm", b"\0asm".to_vec()),
        ] {
            assert_eq!(module_of(&layer(media_type), bytes).unwrap(), b"\0asm", "{media_type}");
        }
    }

    #[test]
    fn an_archive_without_the_file_and_a_broken_one_are_said() {
        let of =
            |bytes| module_of(&layer("application/vnd.oci.image.layer.v1.tar+gzip"), bytes).unwrap_err().to_string();
        assert!(of(packed(&archive(&[("filter.wasm", b"x")]))).contains("plugin.wasm"));
        assert!(of(packed(b"no archive at all")).contains("cannot be unpacked"));
        assert!(of(vec![0x1f, 0x8b, 1, 2, 3]).contains("cannot be unpacked"));
    }

    #[test]
    fn the_layer_of_the_module_goes_before_archives() {
        let manifest = |layers: &[&str]| Manifest {
            layers: layers.iter().map(|media_type| layer(media_type)).collect(),
            manifests: Vec::new(),
        };
        let wasm = "application/vnd.module.wasm.content.layer.v1+wasm";
        let tar = "application/vnd.oci.image.layer.v1.tar+gzip";
        assert_eq!(manifest(&[tar, wasm]).module_layer().unwrap().media_type, wasm);
        assert_eq!(manifest(&["application/x", tar]).module_layer().unwrap().media_type, tar);
        assert!(manifest(&["application/x"]).module_layer().unwrap_err().to_string().contains("application/x"));
    }

    #[test]
    fn of_an_index_the_wasm_image_is_taken() {
        let json = br#"{"manifests": [
            {"digest": "sha256:a", "platform": {"architecture": "unknown", "os": "unknown"}},
            {"digest": "sha256:b", "platform": {"architecture": "amd64", "os": "linux"}},
            {"digest": "sha256:c", "platform": {"architecture": "wasm", "os": "wasip1"}}]}"#;
        assert_eq!(Manifest::parse(json).unwrap().for_wasm().unwrap().digest, "sha256:c");
    }
}
