//! Edits on a list of lines.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::cell::RefCell;

use super::*;

struct List(RefCell<Vec<(String, String)>>);

impl List {
    fn of(lines: &[(&str, &str)]) -> Self {
        Self(RefCell::new(lines.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()))
    }

    fn text(&self) -> String {
        let lines = self.0.borrow();
        lines.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    }
}

impl Lines for List {
    fn lines(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, HostError> {
        Ok(self.0.borrow().iter().map(|(name, value)| (name.clone().into(), value.clone().into())).collect())
    }

    fn set(&self, name: &str, value: &[u8]) -> Result<(), HostError> {
        self.remove(name)?;
        self.add(name, value)
    }

    fn add(&self, name: &str, value: &[u8]) -> Result<(), HostError> {
        self.0.borrow_mut().push((name.to_owned(), String::from_utf8(value.to_vec()).unwrap()));
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), HostError> {
        self.0.borrow_mut().retain(|(known, _)| known != name);
        Ok(())
    }
}

fn name(text: &str) -> HeaderName {
    HeaderName::new(text).unwrap()
}

fn apply(edits: &Edits, lines: &[(&str, &str)]) -> String {
    let list = List::of(lines);
    edits.apply(&list, |_| Ok(None)).unwrap();
    list.text()
}

#[test]
fn what_is_removed_goes_before_what_is_set_and_added() {
    let template = |text| Template::new(text).unwrap();
    let edits = Edits {
        remove: vec![name("a")],
        set: vec![(name("b"), template("new"))],
        add: vec![(name("a"), template("1")), (name("b"), template("2"))],
        ..Edits::default()
    };
    assert_eq!(apply(&edits, &[("a", "x"), ("b", "y"), ("c", "z"), ("a", "w")]), "c=z b=new a=1 b=2");
}

#[test]
fn an_empty_value_is_not_added_and_sets_nothing() {
    let empty = || Template::new("%REQ(x-none)%").unwrap();
    let edits = Edits {
        set: vec![(name("a"), empty()), (name(":path"), empty())],
        add: vec![(name("b"), empty())],
        ..Edits::default()
    };
    assert_eq!(apply(&edits, &[("a", "forged"), (":path", "/")]), ":path=/", "a client's value does not pass for ours");
}

#[test]
fn a_header_is_renamed_with_all_its_values() {
    let edits = Edits { rename: vec![(name("a"), name("b")), (name("none"), name("b"))], ..Edits::default() };
    assert_eq!(apply(&edits, &[("a", "1"), ("b", "0"), ("a", "2")]), "b=0 b=1 b=2");
}

#[test]
fn parts_of_values_are_replaced() {
    let pattern = Pattern::new("v([0-9])").unwrap();
    let replace = vec![Replacement { header: name("a"), pattern, with: "<$1>".to_owned() }];
    let edits = Edits { replace, ..Edits::default() };
    assert_eq!(apply(&edits, &[("a", "v1 v2"), ("b", "v3"), ("a", "x")]), "b=v3 a=<1> <2> a=x");
    assert_eq!(apply(&edits, &[("a", "x"), ("b", "v3")]), "a=x b=v3");
}

#[test]
fn headers_go_by_the_form_of_their_name_but_not_what_frames_the_message() {
    let condition = |json| serde_json::from_str::<StringMatch>(json).unwrap();
    let edits = Edits {
        remove_matching: vec![condition(r#"{"prefix": "x-"}"#), condition(r#"{"contains": "e"}"#)],
        ..Edits::default()
    };
    let lines =
        [("x-a", "1"), (":scheme", "http"), ("content-length", "3"), ("te", "trailers"), ("age", "1"), ("y", "2")];
    assert_eq!(apply(&edits, &lines), ":scheme=http content-length=3 te=trailers y=2");
}
