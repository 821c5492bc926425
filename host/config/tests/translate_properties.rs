//! What holds for every translation: weights, determinism, and a size at which a scan of everything would show.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is the test's answer")]

use std::fmt::Write as _;

use portolan_config::translate::{TranslateOptions, Translation, Translator, translate};
use portolan_config::{ResourceSet, Severity, Sources, read_str};
use portolan_model::{Forward, RouteAction};
use proptest::prelude::*;

const GATEWAY: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: main}
spec: {servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}
";

fn translated(text: &str) -> Translation {
    let (resources, found) = read_str("in.yaml", text);
    assert!(found.iter().all(|d| d.severity != Severity::Error), "{found:?}");
    translate(&resources, &TranslateOptions::default())
}

fn split(weights: &[u32]) -> Forward {
    let mut text = format!(
        "{GATEWAY}---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: vs}}
spec:
  hosts: [a.test]
  gateways: [main]
  http:
  - route:
"
    );
    for (i, weight) in weights.iter().enumerate() {
        let _ = writeln!(text, "    - {{destination: {{host: d{i}.test, port: {{number: 1}}}}, weight: {weight}}}");
    }
    let model = translated(&text).model;
    match &model.routes[0].action {
        RouteAction::Forward(forward) => (**forward).clone(),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Of several destinations those of weight 0 are left out; the others keep weight and order, each a known cluster.
    #[test]
    fn weights_are_kept(weights in proptest::collection::vec(0u32..5, 2..6)) {
        prop_assume!(weights.iter().sum::<u32>() > 0);
        let forward = split(&weights);
        let kept: Vec<u32> = forward.destinations.iter().map(|d| d.weight).collect();
        let expected: Vec<u32> = weights.iter().copied().filter(|weight| *weight > 0).collect();
        prop_assert_eq!(kept, expected);
        prop_assert!(forward.destinations.iter().all(|d| d.is_known()));
    }

    /// Rules of one host are those of its VirtualServices by age, name and namespace, each in its own order, and catch-alls
    /// follow all others in the same order.
    #[test]
    fn rules_of_one_host_are_merged_by_age_name_and_namespace(
        services in proptest::collection::vec((0u8..3, 0usize..3, any::<bool>()), 6),
    ) {
        let keys = [("a", "x"), ("b", "x"), ("c", "x"), ("a", "y"), ("b", "y"), ("c", "y")];
        let mut text = GATEWAY.to_owned();
        let mut expected = Vec::new();
        for ((name, namespace), (age, rules, catch_all)) in keys.iter().zip(&services) {
            let label = |rule: usize| format!("{name}.{namespace}.{rule}");
            let answer = |rule| format!("directResponse: {{status: 200, body: {{string: {}}}}}", label(rule));
            let _ = write!(
                text,
                "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: {namespace}, \
                 creationTimestamp: '202{age}-01-01T00:00:00Z'}}\nspec:\n  hosts: [a.test]\n  gateways: [default/main]\n  http:\n"
            );
            for rule in 0..=*rules {
                let _ = writeln!(text, "  - match: [{{uri: {{prefix: /{rule}}}}}]\n    {}", answer(rule));
                expected.push((false, *age, *name, *namespace, rule));
            }
            if *catch_all {
                let _ = writeln!(text, "  - {}", answer(rules + 1));
                expected.push((true, *age, *name, *namespace, rules + 1));
            }
        }
        expected.sort_unstable();
        let model = translated(&text).model;
        let host = model.route_tables[0].virtual_hosts.iter().find(|host| host.domain == "a.test").unwrap();
        let label = |id: &u32| match &model.routes[*id as usize].action {
            RouteAction::DirectResponse(direct) => String::from_utf8(direct.body.clone()).unwrap(),
            other => panic!("{other:?}"),
        };
        let merged: Vec<String> = host.routes.iter().map(label).collect();
        let expected: Vec<String> =
            expected.iter().map(|(_, _, name, namespace, rule)| format!("{name}.{namespace}.{rule}")).collect();
        prop_assert_eq!(merged, expected);
    }

    /// The order of documents does not matter where age, name and namespace say the order.
    #[test]
    fn documents_may_stand_in_any_order(order in Just((0..6).collect::<Vec<usize>>()).prop_shuffle()) {
        let document = |i: &usize| format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: vs-{i}}}\nspec:\n  hosts: [a.test]\n  gateways: [main]\n  http:\n  - match: [{{uri: {{prefix: /{i}}}}}]\n    directResponse: {{status: 200}}\n  - directResponse: {{status: 20{i}}}\n"
        );
        let shuffled: String = order.iter().map(document).collect();
        let sorted: String = (0..6).map(|i| document(&i)).collect();
        let one = translated(&format!("{GATEWAY}{shuffled}")).model;
        let other = translated(&format!("{GATEWAY}{sorted}")).model;
        prop_assert_eq!(one, other);
    }
}

#[test]
fn one_destination_is_kept_whatever_its_weight() {
    assert_eq!(split(&[0]).destinations.len(), 1);
    assert_eq!(split(&[7]).destinations.len(), 1);
}

#[test]
fn ten_thousand_virtual_services_are_no_burden() {
    let mut resources = ResourceSet::default();
    let (gateway, _) = read_str("gateway.yaml", GATEWAY);
    resources.insert(gateway.gateways().next().unwrap().clone());
    let (one, _) = read_str(
        "vs.yaml",
        "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: vs}, spec: {hosts: [a.test], gateways: [main], http: [{match: [{uri: {prefix: /}}], route: [{destination: {host: app, port: {number: 1}}}]}]}}",
    );
    let one = one.virtual_services().next().unwrap();
    for i in 0..10_000 {
        let mut object = one.clone();
        let meta = std::sync::Arc::make_mut(&mut object.meta);
        meta.name = format!("vs-{i}");
        object.spec.hosts = vec![format!("host-{i}.test"), format!("*.host-{i}.test")];
        object.spec.http[0].route[0].destination.as_mut().unwrap().host = format!("app-{i}");
        resources.insert(object);
    }
    let translation = translate(&resources, &TranslateOptions::default());
    assert_eq!(translation.model.routes.len(), 10_000);
    assert_eq!(translation.model.clusters.len(), 10_000);
    assert_eq!(translation.model.route_tables[0].virtual_hosts.len(), 20_000);
}

/// Which VirtualService others delegate to.
const DELEGATE: usize = 4;

/// One VirtualService of the sequence below: `state` 0 is none; higher ones are versions.
fn version(i: usize, state: u8) -> Option<(String, String)> {
    let rules = |n: u8| -> String {
        (0..n).map(|r| format!("  - match: [{{uri: {{prefix: /r{r}}}}}]\n    route: [{{destination: {{host: app-{r}, port: {{number: 1}}}}}}]\n")).collect()
    };
    let text = match state {
        0 => return None,
        1 => rules(1),
        2 => rules(2),
        // Two hosts that share routes, a match for one port, a destination whose port the listener says, one without DNS.
        3 => "  - match: [{uri: {prefix: /x}, port: 81}, {uri: {prefix: /y}}]\n    route: [{destination: {host: b.test}}]\n  - route: [{destination: {host: app-1, subset: v9, port: {number: 1}}}]\n".to_owned(),
        _ => "  - delegate: {name: other}\n  - directResponse: {status: 204}\n".to_owned(),
    };
    if i == DELEGATE {
        let export = if state == 3 { "exportTo: ['~']" } else { "exportTo: ['*']" };
        let head = format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: other}}\nspec:\n  {export}\n  http:\n"
        );
        return Some(("other.yaml".to_owned(), head + &text));
    }
    let hosts = if i.is_multiple_of(2) { "[shared.test]".to_owned() } else { format!("[h{i}.test, '*.h{i}.test']") };
    let head = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: vs-{i}}}\nspec:\n  hosts: {hosts}\n  gateways: [main]\n  http:\n"
    );
    Some((format!("vs-{i}.yaml"), head + &text))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever changes in whatever order: what is taken from the last translation is what a new one would make.
    #[test]
    fn a_translator_that_remembers_says_what_one_without_memory_says(
        steps in proptest::collection::vec((0usize..5, 0u8..5, any::<bool>()), 1..10),
    ) {
        let options = TranslateOptions::default();
        let (mut resources, mut translator) = (ResourceSet::default(), Translator::new(options.clone()));
        let (mut states, mut two_ports) = ([1u8; 5], false);
        for (i, state, port) in steps {
            states[i] = state;
            two_ports ^= port;
            let second = if two_ports { "- {port: {number: 81, name: alt, protocol: HTTP}, hosts: ['*']}" } else { "" };
            let gateway = format!("apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: main}}\nspec:\n  servers:\n  - {{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['*']}}\n  {second}\n");
            let services = (0..5).filter_map(|i| version(i, states[i]));
            let files: Vec<(String, String)> = std::iter::once(("gateway.yaml".to_owned(), gateway)).chain(services).collect();
            let sources = Sources::from_texts(files.iter().map(|(name, text)| (name.as_str(), text.as_str())));
            resources.update(&sources);
            let (kept, fresh) = (translator.translate(&resources), translate(&resources, &options));
            prop_assert_eq!(kept.model, fresh.model);
            prop_assert_eq!(kept.diagnostics, fresh.diagnostics);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Objects that move within their file are not read again, and everything is told at the lines where they stand.
    #[test]
    fn objects_that_move_within_their_file_are_told_at_their_new_lines(
        steps in proptest::collection::vec((0usize..5, 0u8..5, 0usize..4), 1..10),
    ) {
        let options = TranslateOptions::default();
        let (mut resources, mut translator) = (ResourceSet::default(), Translator::new(options.clone()));
        let mut states = [1u8; 5];
        for (i, state, comments) in steps {
            states[i] = state;
            let services = (0..5).filter_map(|i| version(i, states[i])).map(|(_, text)| text);
            let texts: Vec<String> = std::iter::once(GATEWAY.to_owned()).chain(services).collect();
            let text = "# moved\n".repeat(comments) + &texts.join("---\n");
            let sources = Sources::from_texts([("all.yaml", text.as_str())]);
            let mut anew = ResourceSet::default();
            let findings = anew.update(&sources);
            // Of what is wrong the old version stays, at its old lines.
            let is_good = findings.iter().all(|finding| finding.severity < Severity::Error);
            prop_assert_eq!(resources.update(&sources), findings);
            let (kept, fresh) = (translator.translate(&resources), translate(if is_good { &anew } else { &resources }, &options));
            // Two origins are always equal: in a dump they have their lines.
            let dump = |model| serde_json::to_value(model).unwrap();
            prop_assert_eq!(dump(&kept.model), dump(&fresh.model));
            prop_assert_eq!(kept.diagnostics, fresh.diagnostics);
        }
    }
}

#[test]
fn routes_of_what_has_not_changed_stay_where_they_are() {
    let options = TranslateOptions::default();
    let (mut resources, mut translator) = (ResourceSet::default(), Translator::new(options));
    let mut model = |state| {
        let files: Vec<_> = [version(1, 2), version(3, state)].into_iter().flatten().collect();
        let files = files.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        resources.update(&Sources::from_texts(files.chain([("gateway.yaml", GATEWAY)])));
        translator.translate(&resources).model
    };
    let (before, after) = (model(1), model(2));
    let shared = |route| before.routes.iter().any(|known| std::sync::Arc::ptr_eq(known, route));
    assert_eq!(after.routes.iter().filter(|route| shared(route)).count(), 2);
    assert_eq!(after.routes.len(), 4);
}
