//! A real registry (Debian's `docker-registry`) on a free port, and images pushed to it as other tools push them.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::client::{self, Request, Response};
use super::tokens::TokenServer;
use super::{await_true, ports::Port};

/// User and password of a guarded registry, and bcrypt's hash of the password.
pub(crate) const USER: &str = "reader";
pub(crate) const PASSWORD: &str = "secret";
const PASSWORD_HASH: &str = "$2b$04$.H5LAmrfZeFlakAgdYMPo.Ogklby/g3WXFrw64oxgAvuI2XXVVtQO";

/// How an image holds its module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Docker's, an archive with `plugin.wasm`.
    Docker,
    /// OCI's form of the same.
    Compat,
    /// The module as a layer of its own, beside a configuration layer.
    Artifact,
    /// The module as a layer of type `application/wasm`.
    Wasm,
}

/// A registry; ended when dropped.
pub(crate) struct Registry {
    child: Child,
    port: Port,
    _folder: TempDir,
    authorization: Option<String>,
}

impl Registry {
    /// One that serves everybody. None where it is not installed, which CI must not be.
    pub(crate) fn start() -> Option<Self> {
        Self::with(|_| String::new(), false)
    }

    /// One that wants a user and a password.
    pub(crate) fn start_guarded() -> Option<Self> {
        let users = |folder: &Path| {
            let file = folder.join("users");
            std::fs::write(&file, format!("{USER}:{PASSWORD_HASH}\n")).expect("the users");
            format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", file.display())
        };
        Self::with(users, true)
    }

    /// One that believes this server's tokens.
    pub(crate) fn start_with(tokens: &TokenServer) -> Option<Self> {
        Self::with(|folder| tokens.auth(folder), false)
    }

    fn with(auth: impl FnOnce(&Path) -> String, guarded: bool) -> Option<Self> {
        if !Path::new("/usr/bin/docker-registry").exists() {
            assert!(std::env::var_os("CI").is_none(), "CI must install docker-registry");
            println!("skipped: docker-registry is not installed");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder for the registry");
        let port = Port::free();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let auth = auth(folder.path());
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{}'}}\n{auth}",
            path("data"),
            port.address()
        );
        std::fs::write(folder.path().join("config.yml"), config).expect("the registry's configuration");
        let child = Command::new("/usr/bin/docker-registry")
            .args(["serve", &path("config.yml")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the registry's process");
        let authorization = guarded.then(|| format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}"))));
        let registry = Self { child, port, _folder: folder, authorization };
        await_true("the registry to answer", || client::send(registry.address(), &Request::get("r", "/v2/")).is_ok());
        Some(registry)
    }

    fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// `HOST:PORT`.
    pub(crate) fn host(&self) -> String {
        self.address().to_string()
    }

    /// `oci://HOST:PORT/REFERENCE`.
    pub(crate) fn url(&self, reference: &str) -> String {
        format!("oci://{}/{reference}", self.host())
    }

    /// A Docker configuration with the user of a guarded registry.
    pub(crate) fn docker_config(&self) -> String {
        let auth = STANDARD.encode(format!("{USER}:{PASSWORD}"));
        format!("{{\"auths\": {{\"{}\": {{\"auth\": \"{auth}\"}}}}}}", self.host())
    }

    /// Pushes a module as an image; tells the digest of its manifest in hex.
    pub(crate) fn push(&self, name: &str, tag: &str, layout: Layout, module: &[u8]) -> String {
        let config = self.push_blob(name, b"{}");
        let layer = |media_type: &str, bytes: &[u8]| {
            let digest = self.push_blob(name, bytes);
            format!("{{\"mediaType\":\"{media_type}\",\"digest\":\"{digest}\",\"size\":{}}}", bytes.len())
        };
        let oci = "application/vnd.oci.image.manifest.v1+json";
        let docker = "application/vnd.docker.distribution.manifest.v2+json";
        let (media_type, config_type, layers) = match layout {
            Layout::Docker => {
                let archive = layer("application/vnd.docker.image.rootfs.diff.tar.gzip", &archive(module));
                (docker, "application/vnd.docker.container.image.v1+json", archive)
            }
            Layout::Compat => {
                let archive = layer("application/vnd.oci.image.layer.v1.tar+gzip", &archive(module));
                (oci, "application/vnd.oci.image.config.v1+json", archive)
            }
            Layout::Artifact => {
                let runtime = layer("application/vnd.module.wasm.config.v1+json", b"{\"type\":\"envoy_proxy\"}");
                let content = layer("application/vnd.module.wasm.content.layer.v1+wasm", module);
                (oci, "application/vnd.module.wasm.config.v1+json", format!("{runtime},{content}"))
            }
            Layout::Wasm => (oci, "application/vnd.wasm.config.v0+json", layer("application/wasm", module)),
        };
        let manifest = format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{media_type}\",\"config\":{{\"mediaType\":\"{config_type}\",\
             \"digest\":\"{config}\",\"size\":2}},\"layers\":[{layers}]}}"
        );
        self.push_manifest(name, tag, media_type, &manifest);
        hex(manifest.as_bytes())
    }

    /// Signs an image as `cosign sign --key` does.
    pub(crate) fn sign(&self, name: &str, digest: &str, signer: &Signer) {
        let payload = format!(
            "{{\"critical\":{{\"identity\":{{\"docker-reference\":\"{}/{name}\"}},\
             \"image\":{{\"docker-manifest-digest\":\"sha256:{digest}\"}},\
             \"type\":\"cosign container image signature\"}},\"optional\":null}}",
            self.host()
        );
        let (config, blob) = (self.push_blob(name, b"{}"), self.push_blob(name, payload.as_bytes()));
        let oci = "application/vnd.oci.image.manifest.v1+json";
        let manifest = format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{oci}\",\"config\":{{\"mediaType\":\
             \"application/vnd.oci.image.config.v1+json\",\"digest\":\"{config}\",\"size\":2}},\"layers\":[{{\"mediaType\":\
             \"application/vnd.dev.cosign.simplesigning.v1+json\",\"digest\":\"{blob}\",\"size\":{},\"annotations\":\
             {{\"dev.cosignproject.cosign/signature\":\"{}\"}}}}]}}",
            payload.len(),
            signer.sign(payload.as_bytes())
        );
        self.push_manifest(name, &format!("sha256-{digest}.sig"), oci, &manifest);
    }

    fn push_manifest(&self, name: &str, tag: &str, media_type: &str, manifest: &str) {
        let put = Request::new("PUT", &self.host(), &format!("/v2/{name}/manifests/{tag}"));
        let response = self.send(put.header("content-type", media_type).body(manifest.as_bytes()));
        assert_eq!(response.status, 201, "{}", response.text());
    }

    /// Its digest, with `sha256:`.
    fn push_blob(&self, name: &str, bytes: &[u8]) -> String {
        let digest = format!("sha256:{}", hex(bytes));
        let post = Request::new("POST", &self.host(), &format!("/v2/{name}/blobs/uploads/"));
        let started = self.send(post.body(Vec::new()));
        let location = started.header("location").expect("where to upload to").to_owned();
        let target = location.split_once(&self.host()).map_or(location.as_str(), |(_, target)| target);
        let put = Request::new("PUT", &self.host(), &format!("{target}&digest={digest}"));
        let response = self.send(put.header("content-type", "application/octet-stream").body(bytes));
        assert_eq!(response.status, 201, "{}", response.text());
        digest
    }

    fn send(&self, request: Request) -> Response {
        let request = match &self.authorization {
            Some(value) => request.header("authorization", value),
            None => request,
        };
        client::send(self.address(), &request).expect("an answer of the registry")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A key pair as `cosign generate-key-pair` makes it.
pub(crate) struct Signer(EcdsaKeyPair);

impl Signer {
    /// A new one.
    pub(crate) fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key pair"))
    }

    /// A signature in base64.
    pub(crate) fn sign(&self, message: &[u8]) -> String {
        STANDARD.encode(self.0.sign(&SystemRandom::new(), message).expect("a signature"))
    }

    /// The private key in PEM, PKCS#8 without a password.
    pub(crate) fn private_pem(&self) -> String {
        let der = STANDARD.encode(self.0.to_pkcs8v1().expect("a key in PKCS#8").as_ref());
        format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n")
    }

    /// The public key in PEM, as `cosign.pub` has it.
    pub(crate) fn public_pem(&self) -> String {
        let head = STANDARD.decode("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgA=").expect("the head of a P-256 key");
        let der = STANDARD.encode([head.as_slice(), self.0.public_key().as_ref()].concat());
        format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
    }

    /// The field `verificationKey`, in YAML.
    pub(crate) fn field(&self) -> String {
        format!("verificationKey: \"{}\"", self.public_pem().replace('\n', "\\n"))
    }
}

fn archive(module: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(module.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, "plugin.wasm", module).expect("an archive");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&archive.into_inner().expect("an archive")).expect("a packed archive");
    packed.finish().expect("a packed archive")
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
