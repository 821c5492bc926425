//! Tests of reading documents.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the test's answer")]

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::resources::istio::VirtualService;
use crate::{ResourceSet, Sources, read_str};

/// `code line:column message | label | help`, one a line.
fn told(name: &str, text: &str) -> String {
    let mut out = String::new();
    for finding in read_str(name, text).1 {
        let Diagnostic { code, message, place, label, help, .. } = &finding;
        write!(out, "{code} {}:{} {message}", place.line, place.column).unwrap();
        for extra in [label, help].into_iter().flatten() {
            write!(out, " | {extra}").unwrap();
        }
        out.push('\n');
    }
    out
}

fn lines_of(text: &str) -> Vec<(u32, String)> {
    split(text).into_iter().map(|chunk| (chunk.first_line, chunk.text.into_owned())).collect()
}

const SHOP: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: shop\nspec:\n  hosts: [shop]\n  http:\n  - match:\n    - uri: {prefix: /a}\n    route:\n    - destination: {host: shop}\n";

#[test]
fn documents_keep_the_lines_of_the_file() {
    assert_eq!(lines_of("a: 1\n---\n# only a comment\n---\nb: 2\n...\n"), [(1, "a: 1\n".into()), (5, "b: 2\n".into())]);
    assert_eq!(
        lines_of("%YAML 1.2\n--- # first\na: 1\n--- {b: 2}\n"),
        [(3, "a: 1\n".into()), (4, "    {b: 2}\n".into())]
    );
    assert_eq!(lines_of("---\r\na: |\r\n  --- no\r\n"), [(2, "a: |\r\n  --- no\r\n".into())]);
    assert!(lines_of("").is_empty() && lines_of("---\n---\n#x").is_empty());
}

#[test]
fn places_are_right_in_every_document_of_a_file() {
    let text = format!("# head\n---\n{SHOP}---\n{}", SHOP.replace("name: shop", "name: other"));
    let (resources, diagnostics) = read_str("v.yaml", &text);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let lines = |path: &str| -> Vec<(u32, u32)> {
        let services = resources.virtual_services();
        services.map(|service| service.place(path)).map(|place| (place.line, place.column)).collect()
    };
    assert_eq!(lines("spec.http[0].match[0].uri.prefix"), [(23, 21), (11, 21)], "`other` comes before `shop`");
    assert_eq!(lines("spec.http[0].route[0].destination.subset"), [(25, 21), (13, 21)]);
    assert_eq!(
        resources.virtual_services().next().unwrap().origin("").to_string(),
        "virtualservice/default/other (v.yaml:16)"
    );
}

#[test]
fn all_unknown_fields_are_told_at_any_depth() {
    let text = SHOP.replace("  hosts:", "  hosst: []\n  hosts:").replace("uri:", "ury: 1\n      uri:") + "extra: 1\n";
    let text =
        text.replace("  name: shop", "  name: shop\n  lables: {}").replace("{prefix: /a}", "{prefix: /a, prefx: 1}");
    assert_eq!(
        told("a.yaml", &text),
        "P0007 5:3 unknown field `lables` in VirtualService.metadata | did you mean `labels`?\n\
         P0007 7:3 unknown field `hosst` in VirtualService.spec | did you mean `hosts`?\n\
         P0007 11:7 unknown field `ury` in VirtualService.spec.http[0].match[0] | did you mean `uri`?\n\
         P0007 12:25 unknown field `prefx` in VirtualService.spec.http[0].match[0].uri | did you mean `prefix`?\n\
         P0007 15:1 unknown field `extra` in VirtualService | known fields: apiVersion, kind, metadata, spec, status\n"
    );
}

#[test]
fn a_syntax_error_is_told_with_the_line_of_the_file_and_spares_the_others() {
    let broken = "apiVersion: v1\nkind: Service\nmetadata:\n  name: x\n name: y\n";
    let text = format!("{SHOP}---\n{broken}---\n{}", SHOP.replace("name: shop", "name: other"));
    let (resources, _) = read_str("a.yaml", &text);
    assert_eq!(resources.virtual_services().count(), 2);
    assert_eq!(told("a.yaml", &text), "P0001 17:2 did not find expected key, while parsing a block mapping\n");
}

#[test]
fn wrong_types_are_told_in_words_of_yaml() {
    let wrong = |from: &str, to: &str| told("a.yaml", &SHOP.replace(from, to));
    assert_eq!(wrong("[shop]", "shop"), "P0002 6:10 `spec.hosts`: expected a list, found string `shop`\n");
    assert_eq!(wrong("{prefix: /a}", "[]"), "P0002 9:12 `spec.http[0].match[0].uri`: expected a map, found a list\n");
    assert_eq!(
        wrong("{prefix: /a}", "{prefix: /a}\n      ignoreUriCase: on"),
        "P0002 10:22 `spec.http[0].match[0].ignoreUriCase`: expected a boolean, found string `on` | booleans are `true` \
         and `false`\n"
    );
}

#[test]
fn keys_that_stand_twice_are_told_at_the_second() {
    let text = SHOP.replace("    route:", "    match: []\n    route:");
    assert_eq!(told("a.yaml", &text), "P0006 10:5 key `match` stands twice in one map | first given in line 8\n");
    let text = SHOP.replace("  name: shop", "  name: shop\n  labels: {a: 1, a: 2}");
    assert_eq!(told("a.yaml", &text), "P0006 5:18 key `a` stands twice in one map | first given in line 5\n");
}

#[test]
fn merge_keys_are_refused_rather_than_passed_over() {
    let text = SHOP.replace("- uri: {prefix: /a}", "- <<: &x {uri: {prefix: /a}}");
    assert!(told("a.yaml", &text).starts_with("P0002 9:7 merge keys (`<<`) are not supported | write"));
    assert_eq!(read_str("a.yaml", &text).0.virtual_services().count(), 0);
}

#[test]
fn what_is_missing_or_of_a_wrong_version_is_told() {
    assert_eq!(
        told("a.yaml", "just text\n"),
        "P0003 1:1 this is no resource: expected `apiVersion`, `kind` and `metadata`\n"
    );
    assert_eq!(
        told("compose.yaml", "services:\n  web: {}\n"),
        "P0003 1:1 this is no resource and is ignored: it has neither `apiVersion` nor `kind`\n"
    );
    assert_eq!(told("a.yaml", "kind: Service\n"), "P0003 1:7 `apiVersion` is missing\n");
    assert_eq!(
        told("a.yaml", "apiVersion: v1\nkind: Service\nmetadata:\n  labels: {}\n"),
        "P0003 4:3 `metadata.name` of this Service is missing\n"
    );
    assert_eq!(
        told("a.yaml", &SHOP.replace("istio.io/v1", "istio.io/v2")),
        "P0004 1:13 `networking.istio.io/v2` is no API version of VirtualService | known: `networking.istio.io/v1`, \
         `networking.istio.io/v1beta1`, `networking.istio.io/v1alpha3`\n"
    );
    let foreign = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g}\n";
    assert_eq!(
        told("a.yaml", foreign),
        "P0009 2:7 object of kind `Gateway` (`gateway.networking.k8s.io/v1`) ignored\n"
    );
}

#[test]
fn items_of_a_list_are_objects_with_their_own_places() {
    let item = |name: &str| {
        format!(
            "- apiVersion: v1\n  kind: Service\n  metadata:\n    name: {name}\n    creationTimestamp: null\n  spec:\n    ports:\n    - port: 1\n  status:\n    loadBalancer: {{}}\n"
        )
    };
    let text =
        format!("apiVersion: v1\nitems:\n{}{}kind: List\nmetadata:\n  resourceVersion: \"\"\n", item("a"), item("b"));
    let (resources, diagnostics) = read_str("list.yaml", &text);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let lines: Vec<_> = resources.services().map(|service| service.place("spec.ports[0].port").line).collect();
    assert_eq!(lines, [10, 20]);
    assert_eq!(told("list.yaml", &text.replace("port: 1", "port: x")).lines().count(), 2);
    assert!(told("list.yaml", &text.replace("port: 1", "prot: 1")).contains("P0007 20:7 "));
}

#[test]
fn the_mesh_configuration_is_a_text_within_a_config_map() {
    let map = |mesh: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    {mesh}\n"
        )
    };
    let (resources, diagnostics) = read_str("m.yaml", &map("accessLogFile: /dev/stdout"));
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    assert_eq!(resources.mesh_config().unwrap().spec.access_log_file.as_deref(), Some("/dev/stdout"));
    assert!(told("m.yaml", &map("accessLogFile: [")).starts_with("P0001 5:3 key `mesh` is no mesh configuration: "));
}

#[test]
fn values_of_secrets_are_not_told() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: hunter2\n";
    assert_eq!(told("a.yaml", text), "P0002 4:7 `data`: expected a map, found something else\n");
}

#[test]
fn json_is_read_with_tabs() {
    let text = "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Service\",\n\t\"metadata\": {\"name\": \"a\"},\n\t\"spec\": {\"ports\": [{\"port\": \"x\"}]}\n}\n";
    assert_eq!(
        told("a.json", text),
        "P0002 5:30 `spec.ports[0].port`: expected a whole number that fits, found string `x`\n"
    );
}

#[test]
fn bombs_and_endless_nesting_are_refused() {
    let mut bomb = String::from("status:\n  a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let below = format!("*a{}", level - 1);
        writeln!(bomb, "  a{level}: &a{level} [{}]", [below.as_str(); 9].join(", ")).unwrap();
    }
    let text = format!("{SHOP}{bomb}");
    assert!(told("a.yaml", &text).contains("repetition limit exceeded"), "{}", told("a.yaml", &text));
    assert!(told("a.yaml", &format!("a: {}", "[".repeat(100_000))).starts_with("P0001"));
}

/// Text that looks like YAML often enough to get somewhere.
fn yaml_like() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "apiVersion: ",
        "networking.istio.io/v1",
        "v1",
        "kind: ",
        "VirtualService",
        "Service",
        "List",
        "metadata:",
        "name: ",
        "spec:",
        "items:",
        "http:",
        "ports:",
        "- ",
        "  ",
        "\n",
        "\n  ",
        "\n---\n",
        "{",
        "}",
        "[",
        "]",
        ", ",
        ": ",
        "&a ",
        "*a",
        "<<: ",
        "\"",
        "'",
        "|",
        ">",
        "#",
        "!t ",
        "? ",
        "\t",
        "é",
        "\u{0}",
        "~",
        "\r\n",
        "%YAML 1.2\n",
        "...",
        "x",
    ]);
    prop::collection::vec(word, 0..60).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in prop_oneof![yaml_like(), ".*"], json in any::<bool>()) {
        let name = if json { "a.json" } else { "a.yaml" };
        let (_, diagnostics) = read_str(name, &text);
        for finding in diagnostics {
            prop_assert!(finding.place.line >= 1 && finding.place.column >= 1 && finding.place.length >= 1);
        }
    }

    #[test]
    fn a_broken_document_hurts_no_other(noise in yaml_like()) {
        prop_assume!(!noise.contains("---"));
        let (resources, _) = read_str("a.yaml", &format!("{SHOP}---\n{noise}\n---\n{}", SHOP.replace("name: shop", "name: z")));
        prop_assert_eq!(resources.all::<VirtualService>().count(), 2);
    }

    #[test]
    fn cutting_a_file_never_panics_and_comes_back(cut in 0..SHOP.len()) {
        let mut resources = ResourceSet::default();
        resources.update(&Sources::from_texts([("a.yaml", SHOP)]));
        resources.update(&Sources::from_texts([("a.yaml", &SHOP[..cut])]));
        prop_assert!(resources.update(&Sources::from_texts([("a.yaml", SHOP)])).is_empty());
        prop_assert_eq!(resources.virtual_services().count(), 1);
    }
}
