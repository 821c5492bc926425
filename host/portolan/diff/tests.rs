//! What is a change of meaning, and what is none.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use portolan_config::{ResourceSet, Sources, TranslateOptions, translate};
use portolan_model::{Cluster, Hidden, Pem, Transport, Trust, UpstreamTls};

use super::*;

const GATEWAY: &str = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: main}\nspec:\n  selector: {istio: \
                       ingressgateway}\n  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]\n";

fn model(rules: &str) -> Model {
    let text = format!(
        "{GATEWAY}---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: shop}}\nspec:\n  hosts: [a.test, b.test]\n  gateways: [main]\n  http:\n{rules}"
    );
    let mut resources = ResourceSet::default();
    let findings = resources.update(&Sources::from_texts([("all.yaml", text.as_str())]));
    assert!(findings.is_empty(), "{findings:?}");
    translate(&resources, &TranslateOptions::default()).model
}

fn rule(prefix: &str, host: &str) -> String {
    format!(
        "  - match: [{{uri: {{prefix: {prefix}}}}}]\n    route: [{{destination: {{host: {host}, port: {{number: 80}}}}}}]\n"
    )
}

fn told(old: &str, new: &str) -> String {
    let report = Report { schema: 1, changes: changes(&model(old), &model(new)), traffic: None };
    text::render(&report)
}

#[test]
fn comments_and_moved_lines_are_no_change() {
    let rules = rule("/a", "x") + &rule("/b", "y");
    assert_eq!(told(&rules, &format!("  # said\n{rules}")), "no change in meaning\n");
}

#[test]
fn an_order_that_no_request_can_tell_is_no_change() {
    let (a, b) = (rule("/a", "x"), rule("/b", "y"));
    assert_eq!(told(&(a.clone() + &b), &(b + &a)), "no change in meaning\n");
}

#[test]
fn an_order_that_matters_is_a_move() {
    let (wide, narrow) = (rule("/a", "x"), rule("/a/b", "y"));
    let text = told(&(narrow.clone() + &wide), &(wide + &narrow));
    assert!(text.starts_with("> rule"), "{text}");
    assert!(text.contains("uri prefix \"/a/b\", now after uri prefix \"/a\"  for a.test, b.test"), "{text}");
    assert!(text.ends_with("1 change: 1 moved\n"), "{text}");
}

#[test]
fn added_removed_and_changed_rules_are_told_once_for_all_hosts() {
    let old = rule("/a", "x") + &rule("/b", "y");
    let new = rule("/a", "z") + &rule("/c", "w");
    let text = told(&old, &new);
    assert!(text.contains("~ rule         uri prefix \"/a\"  for a.test, b.test"), "{text}");
    assert!(text.contains("    destination: x -> z\n"), "{text}");
    assert!(text.contains("+ rule         uri prefix \"/c\" -> w"), "{text}");
    assert!(text.contains("- rule         uri prefix \"/b\" -> y"), "{text}");
    assert!(text.ends_with("3 changes: 1 added, 1 removed, 1 changed\n"), "{text}");
}

#[test]
fn a_rule_that_does_the_same_for_other_requests_has_another_match() {
    let text = told(&rule("/a", "x"), &rule("/b", "x"));
    assert!(text.contains("    match: uri prefix \"/a\" -> uri prefix \"/b\"\n"), "{text}");
}

/// One cluster with a Secret's authorities.
fn trusting(bytes: &str) -> Model {
    let pem = Pem::Secret {
        name: "default/backend".to_owned(),
        entry: "ca.crt".to_owned(),
        bytes: Hidden(bytes.as_bytes().to_vec()),
    };
    let tls = UpstreamTls {
        sni: None,
        subject_alt_names: Vec::new(),
        verify_host: true,
        trust: Trust::Authorities(pem),
        crl: None,
        cipher_suites: Vec::new(),
        ecdh_curves: Vec::new(),
        identity: None,
        origin: Default::default(),
    };
    let transport = Transport { tls: Some(Box::new(tls)), ..Transport::default() };
    Model { clusters: vec![Cluster { transport, ..tell::plain(1) }], ..Model::default() }
}

#[test]
fn certificates_are_compared_where_both_sides_have_them() {
    let told = |old: &str, new: &str| {
        let report = Report { schema: 1, changes: changes(&trusting(old), &trusting(new)), traffic: None };
        text::render(&report)
    };
    assert_eq!(told("one", "one"), "no change in meaning\n");
    assert!(told("one", "two").contains("    certificates: changed\n"), "{}", told("one", "two"));
    // A live gateway does not show what a Secret holds.
    assert_eq!(told("", "two"), "no change in meaning\n");
}

#[test]
fn what_becomes_of_ambiguous_paths_is_told() {
    let (was, mut is) = (model(&rule("/a", "x")), model(&rule("/a", "x")));
    is.paths.refuse_ambiguous = false;
    let text = text::render(&Report { schema: 1, changes: changes(&was, &is), traffic: None });
    assert!(text.contains("    ambiguous: refused -> served\n"), "{text}");
}
