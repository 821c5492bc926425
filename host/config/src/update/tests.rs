//! Tests of taking in files, one after the other.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the test's answer")]

use super::*;
use crate::resources::core::Service;

const A: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports: [{port: 1}]\n";
const B: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec:\n  ports: [{port: 2}]\n";

fn update(resources: &mut ResourceSet, files: &[(&str, &str)]) -> Vec<String> {
    resources
        .update(&Sources::from_texts(files.iter().copied()))
        .iter()
        .map(|d| format!("{} {}", d.code, summary(d)))
        .collect()
}

fn ports(resources: &ResourceSet) -> Vec<(String, u16)> {
    resources.services().map(|service| (service.meta.name.clone(), service.spec.ports[0].port)).collect()
}

fn states(resources: &ResourceSet) -> Vec<(String, ObjectState)> {
    let name = |status: &ObjectStatus| status.origin.name().rsplit('/').next().unwrap_or_default().to_owned();
    resources.objects().map(|status| (name(status), status.state)).collect()
}

fn of(pairs: &[(&str, u16)]) -> Vec<(String, u16)> {
    pairs.iter().map(|(name, port)| ((*name).to_owned(), *port)).collect()
}

#[test]
fn a_changed_file_replaces_its_objects_and_a_removed_one_removes_them() {
    let mut resources = ResourceSet::default();
    assert!(update(&mut resources, &[("a.yaml", A), ("b.yaml", B)]).is_empty());
    assert_eq!(ports(&resources), of(&[("a", 1), ("b", 2)]));
    update(&mut resources, &[("a.yaml", &A.replace("port: 1", "port: 3")), ("b.yaml", B)]);
    assert_eq!(ports(&resources), of(&[("a", 3), ("b", 2)]));
    update(&mut resources, &[("b.yaml", B)]);
    assert_eq!(ports(&resources), of(&[("b", 2)]));
    assert!(resources.get::<Service>("default", "a").is_none());
}

#[test]
fn an_object_of_a_wrong_type_keeps_its_last_good_version_and_others_move_on() {
    let mut resources = ResourceSet::default();
    update(&mut resources, &[("s.yaml", &format!("{A}---\n{B}"))]);
    let broken = format!("{}---\n{}", A.replace("port: 1", "port: many"), B.replace("port: 2", "port: 4"));
    let told = update(&mut resources, &[("s.yaml", &broken)]);
    assert_eq!(
        told,
        ["P0002 s.yaml:5:18: `spec.ports[0].port`: expected a whole number that fits, found string `many`"]
    );
    assert_eq!(ports(&resources), of(&[("a", 1), ("b", 4)]));
    assert_eq!(states(&resources), [("a".into(), ObjectState::KeptOld), ("b".into(), ObjectState::Active)]);
}

#[test]
fn what_never_was_good_is_rejected() {
    let mut resources = ResourceSet::default();
    update(&mut resources, &[("s.yaml", &A.replace("port: 1", "port: many"))]);
    assert_eq!(ports(&resources), of(&[]));
    assert_eq!(states(&resources), [("a".into(), ObjectState::Rejected)]);
    assert!(resources.objects().next().unwrap().reason.as_deref().unwrap().starts_with("s.yaml:5:18: "));
}

#[test]
fn broken_yaml_keeps_every_object_of_its_file_but_not_those_that_moved() {
    let mut resources = ResourceSet::default();
    update(&mut resources, &[("s.yaml", &format!("{A}---\n{B}"))]);
    let moved = B.replace("port: 2", "port: 5");
    let told = update(&mut resources, &[("s.yaml", "kind: [\n"), ("t.yaml", &moved)]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("P0001 s.yaml:2:1: "), "{told:?}");
    assert_eq!(ports(&resources), of(&[("a", 1), ("b", 5)]));
    update(&mut resources, &[("s.yaml", "kind: [\n")]);
    assert_eq!(ports(&resources), of(&[("a", 1)]), "`b` went with t.yaml, `a` is still s.yaml's");
}

#[test]
fn a_file_that_is_half_written_keeps_what_it_had() {
    let whole = format!("{A}---\n{B}");
    for cut in 1..whole.len() {
        let mut resources = ResourceSet::default();
        update(&mut resources, &[("s.yaml", &whole)]);
        let told = update(&mut resources, &[("s.yaml", &whole[..cut])]);
        let has = |name: &str| resources.get::<Service>("default", name).is_some();
        let cut_in_first = cut < A.len();
        assert!(has("a"), "cut at {cut}: {told:?}");
        assert!(has("b") || told.is_empty(), "cut at {cut}: {told:?}");
        assert!(!cut_in_first || has("a"), "cut at {cut}");
    }
}

#[test]
fn a_file_that_became_unreadable_keeps_its_objects() {
    let dir = tempfile::tempdir().unwrap();
    let (path, paths) = (dir.path().join("s.yaml"), [dir.path().to_owned()]);
    std::fs::write(&path, A).unwrap();
    let mut resources = ResourceSet::default();
    assert!(resources.update(&Sources::read(&paths)).is_empty());
    std::fs::write(&path, b"\xff\xfe").unwrap();
    assert_eq!(resources.update(&Sources::read(&paths))[0].code, "P0008");
    assert_eq!(ports(&resources), of(&[("a", 1)]));
    let gone = [dir.path().join("gone")];
    assert_eq!(ResourceSet::default().update(&Sources::read(&gone)).len(), 1);
    std::fs::remove_file(&path).unwrap();
    resources.update(&Sources::read(&paths));
    assert_eq!(ports(&resources), of(&[]));
}

#[test]
fn of_two_definitions_the_first_stays_and_the_second_is_an_error() {
    let mut resources = ResourceSet::default();
    let again = A.replace("port: 1", "port: 9");
    let told = update(&mut resources, &[("a.yaml", A), ("b.yaml", &again)]);
    assert_eq!(told, ["P0005 b.yaml:2:7: Service `default/a` is defined twice"]);
    assert_eq!(ports(&resources), of(&[("a", 1)]));
}

#[test]
fn ignored_kinds_are_listed_once_each() {
    let deployment = |name: &str| format!("apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\n");
    let mut resources = ResourceSet::default();
    let text = format!("{}---\n{}---\n{}", deployment("x"), deployment("y"), A.replace("Service", "Servce"));
    let told = resources.update(&Sources::from_texts([("a.yaml", text.as_str())]));
    let told: Vec<_> = told.iter().map(|d| (d.severity, d.message.as_str(), d.help.as_deref())).collect();
    assert_eq!(
        told,
        [
            (Severity::Note, "2 objects of kind `Deployment` (`apps/v1`) ignored", None),
            (Severity::Warning, "object of kind `Servce` (`v1`) ignored", Some("did you mean `Service`?")),
        ]
    );
    assert_eq!(states(&resources)[0].1, ObjectState::Ignored);
}

#[test]
fn unknown_fields_are_errors_that_reject_nothing() {
    let mut resources = ResourceSet::default();
    let told = update(&mut resources, &[("a.yaml", &A.replace("spec:", "spec:\n  prots: []"))]);
    assert_eq!(told, ["P0007 a.yaml:5:3: unknown field `prots` in Service.spec"]);
    assert_eq!(states(&resources), [("a".into(), ObjectState::Active)]);
}

#[test]
fn an_emptied_file_keeps_its_objects_until_it_is_deleted() {
    let mut resources = ResourceSet::default();
    update(&mut resources, &[("a.yaml", A), ("b.yaml", B)]);
    let told = update(&mut resources, &[("a.yaml", "\n"), ("b.yaml", B)]);
    assert!(told.len() == 1 && told[0].starts_with("P0010 "), "{told:?}");
    assert!(told[0].contains("the file is empty: its object keeps the last version"), "{told:?}");
    assert_eq!(resources.objects().filter(|object| object.state == ObjectState::KeptOld).count(), 1);
    assert!(update(&mut resources, &[("b.yaml", B)]).is_empty());
    assert_eq!(resources.objects().count(), 1);
}

#[test]
fn what_only_moves_within_its_file_is_not_read_again() {
    let service = |name: &str| {
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 1}}]}}\n")
    };
    let mut resources = ResourceSet::default();
    let mut update = |text: &str| {
        resources.update(&Sources::from_texts([("a.yaml", text)]));
        let told = |object: &crate::object::Object<Service>| {
            (object.meta.name.clone(), std::ptr::from_ref(object).addr(), object.place("spec").line)
        };
        let statuses: Vec<_> = resources.objects().map(|status| status.origin.line()).collect();
        (resources.services().map(told).collect::<Vec<_>>(), statuses)
    };
    let (a, b) = (service("a"), service("b"));
    let (before, lines) = update(&format!("{a}---\n{b}"));
    assert_eq!((before[0].2, before[1].2, lines), (4, 9, vec![2, 7]));
    let (after, lines) = update(&format!("# moved\n---\n{b}---\n{a}---\n{b}"));
    assert_eq!((after[0].2, after[1].2, lines), (11, 6, vec![4, 9, 14]));
    assert_eq!((before[0].1, before[1].1), (after[0].1, after[1].1));
}

#[test]
fn files_without_their_texts_say_what_they_said() {
    let mut resources = ResourceSet::default();
    let sources = Sources::from_texts([("a.yaml", A), ("b.yaml", "")]);
    resources.update(&sources);
    let dropped = sources.without_texts();
    assert_eq!(dropped.hash(), sources.hash());
    assert_eq!(dropped.text("a.yaml"), Some(""));
    assert!(resources.update(&dropped).is_empty());
    assert_eq!(ports(&resources), of(&[("a", 1)]));
    // Who has not taken them in keeps what there is.
    let mut other = ResourceSet::default();
    update(&mut other, &[("a.yaml", B)]);
    other.update(&dropped);
    assert_eq!(ports(&other), of(&[("b", 2)]));
}
