//! The filters of `examples/`: each is built by `portolan filter build`, runs with its `gateway.yaml` as it stands, and
//! does what its README says. Those whose toolchain is not installed are skipped, and missed under `CI`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what went wrong by panicking")]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::process::Command;

use support::client::Request;
use support::gateway::{Gateway, Options};
use support::project;

/// A gateway with an example; none where its toolchain is not installed.
fn start(example: &str) -> Option<Gateway> {
    let name = format!("examples/{example}");
    project::built(&name)?;
    let gateway = Options::of(project::folder(&name).join("gateway.yaml"), 8080).start();
    gateway.await_filters();
    Some(gateway)
}

#[test]
fn every_example_has_what_a_reader_looks_for() {
    let index = fs::read_to_string(project::folder("examples/README.md")).unwrap();
    let folders = fs::read_dir(project::folder("examples")).unwrap().flatten().map(|entry| entry.file_name());
    let names: Vec<_> = folders.map(|name| name.into_string().unwrap()).filter(|n| n.starts_with("filter-")).collect();
    assert!(names.len() >= 6, "{names:?}");
    for name in names {
        let folder = project::folder("examples").join(&name);
        for file in ["README.md", "filter.yaml", "gateway.yaml", "tests/filter.test.yaml"] {
            assert!(folder.join(file).exists(), "{name} has no {file}");
        }
        let readme = fs::read_to_string(folder.join("README.md")).unwrap();
        for command in ["filter build", "run --config", "filter dev", "filter test"] {
            assert!(
                readme.contains(&format!("portolan {command} examples/{name}")),
                "{name}: no `portolan {command}` in its README"
            );
        }
        assert!(index.contains(&format!("]({name}/README.md)")), "examples/README.md does not lead to {name}");
    }
}

#[test]
fn small_examples_pass_their_cases() {
    for example in ["filter-assemblyscript", "filter-c"] {
        let name = format!("examples/{example}");
        if project::built(&name).is_none() {
            continue;
        }
        let mut test = Command::new(env!("CARGO_BIN_EXE_portolan"));
        let output = test.args(["filter", "test", &name]).current_dir(project::folder("")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
}

#[test]
fn filter_stamp_and_filter_stock_stamp_responses() {
    for example in ["filter-stamp", "filter-stock"] {
        let Some(gateway) = start(example) else { return };
        let response = gateway.get("localhost", "/");
        assert_eq!((response.text().as_str(), response.header("x-stamp")), ("hello\n", Some("checked")), "{example}");
    }
}

#[test]
fn filter_authorize_lets_those_pass_who_say_the_word() {
    let Some(module) = project::built("examples/filter-authorize") else { return };
    // As it stands but for the port, on which the gateway asks itself.
    let yaml = fs::read_to_string(project::folder("examples/filter-authorize/gateway.yaml")).unwrap();
    let gateway = Options::new().start();
    let yaml = yaml
        .replace("number: 8080", "number: 80")
        .replace("http: 8080", &format!("http: {}", gateway.address().port()));
    let relative = "../../target/wasm32-wasip1/release/filter_authorize.wasm";
    assert!(yaml.contains(relative));
    gateway.write("gateway.yaml", &yaml.replace(relative, &format!("file://{}", module.display())));
    let request = Request::get("localhost", "/");
    support::await_true("the listener", || support::client::send(gateway.address(), &request).is_ok());
    gateway.await_filters();
    let refused = gateway.send(&request);
    assert_eq!((refused.status, refused.text().as_str()), (401, "say the word\n"));
    let allowed = gateway.send(&request.header("authorization", "open-sesame"));
    assert_eq!((allowed.status, allowed.text().as_str()), (200, "hello\n"));
}

#[test]
fn filter_go_masks_fields_of_json() {
    let Some(gateway) = start("filter-go") else { return };
    let response = gateway.get("localhost", "/");
    let masked = r#"{"user":"ada","password":"***","sessions":[{"token":"***","since":1815}]}"#;
    assert_eq!((response.status, response.text().as_str()), (200, masked));
    let mut test = Command::new("go");
    let output = test.args(["test", "./..."]).current_dir(project::folder("examples/filter-go")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn filter_assemblyscript_drops_parameters_of_the_query() {
    let Some(gateway) = start("filter-assemblyscript") else { return };
    let response = gateway.get("localhost", "/shop?utm_source=mail&q=tea&fbclid=1");
    assert_eq!(response.header("x-dropped-parameters"), Some("2"));
    assert_eq!(gateway.get("localhost", "/shop?q=tea").header("x-dropped-parameters"), None);
}

#[test]
fn filter_c_answers_scanners_and_counts_them() {
    let Some(gateway) = start("filter-c") else { return };
    assert_eq!(gateway.get("localhost", "/shop").text(), "hello\n");
    for path in ["/.env", "/.git/config", "/wp-admin/install.php?a=b"] {
        let response = gateway.get("localhost", path);
        assert_eq!((response.status, response.text().as_str()), (404, "not found\n"), "{path}");
    }
    support::await_true("three hits", || gateway.metric("tripwire_hits", &[]) == 3.0);
}

#[test]
fn a_configuration_that_an_example_refuses_is_told_in_its_own_words() {
    for (example, good, bad, words) in [
        ("filter-c", "paths: [/.env, /.git/, /wp-admin]", "paths: [wp-admin]", "strings that start with /"),
        ("filter-go", "fields: [password, token]", "fields: []", "`fields` names no field"),
        ("filter-assemblyscript", "drop: utm_ fbclid gclid", "drop: ''", "`drop` is missing, empty or no plain string"),
    ] {
        let name = format!("examples/{example}");
        let Some(module) = project::built(&name) else { continue };
        let yaml = fs::read_to_string(project::folder(&name).join("gateway.yaml")).unwrap();
        assert!(yaml.contains(good), "{example}");
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}", module.display());
        let yaml = yaml.replace(good, bad).replace(&format!("./build/{example}.wasm"), &url);
        fs::write(folder.path().join("gateway.yaml"), yaml).unwrap();
        let mut check = Command::new(env!("CARGO_BIN_EXE_portolan"));
        let output = check.args(["check", "--config"]).arg(folder.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(words), "{example}: {said}");
    }
}
