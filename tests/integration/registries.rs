//! Modules from a real registry: layouts, digests, credentials and cosign's signatures.

use crate::modules::{await_module, cache, options, plugin};
use crate::support::files::{Answer, FileServer};
use crate::support::gateway::{Gateway, Options};
use crate::support::registry::{Layout, Registry, Signer};
use crate::support::upstream::Upstream;
use crate::support::wasm::naming;

fn insecure(options: Options, host: &str) -> Options {
    options.argument("--insecure-registry").argument(host)
}

fn refused(gateway: &Gateway, reason: &str) {
    gateway.await_log(reason);
    assert_eq!(gateway.get("h", "/").status, 503);
}

#[test]
fn images_of_every_layout_are_taken_and_pinned_by_their_manifest() {
    let Some(registry) = Registry::start() else { return };
    let (app, cache) = (Upstream::start("app"), cache());
    let gateway = insecure(options(&app, cache.path()), &registry.host()).start();
    for (tag, layout) in
        [("docker", Layout::Docker), ("compat", Layout::Compat), ("artifact", Layout::Artifact), ("wasm", Layout::Wasm)]
    {
        let digest = registry.push("filters/naming", tag, layout, &naming(tag));
        let url = registry.url(&format!("filters/naming:{tag}"));
        gateway.replace("a.yaml", plugin("a", &url, &format!("sha256: {digest}")));
        await_module(&gateway, tag);
        gateway.replace("a.yaml", plugin("a", &registry.url(&format!("filters/naming@sha256:{digest}")), ""));
        await_module(&gateway, tag);
    }
    let wrong = format!("sha256: {}", "0".repeat(64));
    gateway.replace("a.yaml", plugin("a", &registry.url("filters/naming:wasm"), &wrong));
    gateway.await_log("SHA-256 of the image");
    assert_eq!(gateway.get("h", "/").header("x-module"), Some("wasm"), "the old one serves on");
}

#[test]
fn a_tag_that_moves_is_followed_with_always_only() {
    let Some(registry) = Registry::start() else { return };
    let (app, cache) = (Upstream::start("app"), cache());
    registry.push("f", "1", Layout::Compat, &naming("one"));
    let url = registry.url("f:1");
    let gateway = insecure(options(&app, cache.path()), &registry.host()).file("a.yaml", plugin("a", &url, "")).start();
    await_module(&gateway, "one");
    registry.push("f", "1", Layout::Compat, &naming("two"));
    gateway.signal("HUP");
    gateway.await_log("no change in meaning");
    assert_eq!(gateway.get("h", "/").header("x-module"), Some("one"));
    gateway.replace("a.yaml", plugin("a", &url, "imagePullPolicy: Always"));
    await_module(&gateway, "two");
    registry.push("f", "1", Layout::Compat, &naming("three"));
    gateway.signal("HUP");
    await_module(&gateway, "three");
}

#[test]
fn a_guarded_registry_opens_to_the_pull_secret() {
    let Some(registry) = Registry::start_guarded() else { return };
    let (app, cache) = (Upstream::start("app"), cache());
    registry.push("f", "1", Layout::Compat, &naming("one"));
    let options = insecure(options(&app, cache.path()), &registry.host());
    let gateway = options.file("a.yaml", plugin("a", &registry.url("f:1"), "")).start();
    refused(&gateway, "answers 401");
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: pull}}\ntype: kubernetes.io/dockerconfigjson\n\
         stringData: {{.dockerconfigjson: '{}'}}\n",
        registry.docker_config()
    );
    gateway.write("secret.yaml", &secret);
    gateway.replace("a.yaml", plugin("a", &registry.url("f:1"), "imagePullSecret: pull"));
    await_module(&gateway, "one");
    let dump = gateway.admin("/config_dump").text();
    assert!(dump.contains("default/pull") && !dump.contains("auths"), "credentials are not shown");
    assert!(!gateway.log().contains("auths"));
}

#[test]
fn a_token_is_fetched_where_the_registry_says() {
    let (app, cache) = (Upstream::start("app"), cache());
    let server = FileServer::start();
    let module = naming("one");
    let digest: String = <sha2::Sha256 as sha2::Digest>::digest(&module).iter().map(|b| format!("{b:02x}")).collect();
    let manifest = format!(
        "{{\"schemaVersion\":2,\"layers\":[{{\"mediaType\":\"application/wasm\",\"digest\":\"sha256:{digest}\",\"size\":{}}}]}}",
        module.len()
    );
    let guarded = |bytes: Vec<u8>| Answer::Guarded {
        authorization: "Bearer ticket".to_owned(),
        challenge: format!("Bearer realm=\"{}\",service=\"r\",scope=\"repository:f:pull\"", server.url("/token")),
        bytes,
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
    };
    server.set("/v2/f/manifests/1", guarded(manifest.into_bytes()));
    server.set(&format!("/v2/f/blobs/sha256:{digest}"), guarded(module));
    server.set("/token", Answer::File(b"{\"token\": \"ticket\"}".to_vec()));
    let url = format!("oci://{}/f:1", server.host());
    let options = insecure(options(&app, cache.path()), &server.host()).file("a.yaml", plugin("a", &url, ""));
    await_module(&options.start(), "one");
}

#[test]
fn only_images_that_the_key_signed_are_run() {
    let Some(registry) = Registry::start() else { return };
    let (app, cache, signer, other) = (Upstream::start("app"), cache(), Signer::new(), Signer::new());
    let one = registry.push("f", "one", Layout::Compat, &naming("one"));
    let gateway = insecure(options(&app, cache.path()), &registry.host())
        .file("a.yaml", plugin("a", &registry.url("f:one"), &signer.field()))
        .start();
    refused(&gateway, "the image is not signed: the registry has no signature");
    registry.sign("f", &one, &other);
    gateway.signal("HUP");
    refused(&gateway, "not signed by `verificationKey`");
    registry.sign("f", &one, &signer);
    gateway.signal("HUP");
    await_module(&gateway, "one");
    // A signature of another image is none, and what served before serves on.
    let two = registry.push("f", "two", Layout::Compat, &naming("two"));
    registry.sign("f", &two, &other);
    gateway.replace("a.yaml", plugin("a", &registry.url("f:two"), &signer.field()));
    gateway.await_log("f:two");
    gateway.await_log("the one before serves on");
    assert_eq!(gateway.get("h", "/").header("x-module"), Some("one"));
}

#[test]
fn a_file_and_a_download_are_signed_beside_themselves() {
    let (app, cache, signer) = (Upstream::start("app"), cache(), Signer::new());
    let module = naming("one");
    let server = FileServer::start();
    server.set("/a.wasm", Answer::File(module.clone()));
    let gateway =
        options(&app, cache.path()).file("a.yaml", plugin("a", &server.url("/a.wasm"), &signer.field())).start();
    refused(&gateway, "there is no `/a.wasm.sig`");
    server.set("/a.wasm.sig", Answer::File(signer.sign(&module).into_bytes()));
    gateway.signal("HUP");
    await_module(&gateway, "one");
    let (file, signature) = (cache.path().join("b.wasm"), cache.path().join("b.wasm.sig"));
    std::fs::write(&file, naming("two")).unwrap();
    std::fs::write(&signature, signer.sign(&module)).unwrap();
    gateway.replace("a.yaml", plugin("a", &format!("file://{}", file.display()), &signer.field()));
    gateway.await_log("its signature is of another");
    assert_eq!(gateway.get("h", "/").header("x-module"), Some("one"));
    std::fs::write(&signature, signer.sign(&naming("two"))).unwrap();
    await_module(&gateway, "two");
}
