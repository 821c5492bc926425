//! The filter against a host that changes the rules under it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::cell::RefCell;

use portolan_model::StringMatch;
use portolan_model::filter::ON_DEMAND_SCHEMA;
use portolan_sdk::Action;
use portolan_sdk::testing::TestHost;
use proptest::prelude::*;

use super::*;
use crate::RouteMatch as Filter;

/// What the host knows of its one virtual host, for the snapshot of the request that is on its way.
#[derive(Default)]
struct Snapshot {
    version: u64,
    rules: Vec<RouteMatch>,
    /// What the filter has told.
    rank: Option<u32>,
    handed_over: usize,
}

fn prefix(path: &str) -> RouteMatch {
    RouteMatch { uri: Some(StringMatch::Prefix(path.to_owned())), ..RouteMatch::default() }
}

fn start(refuse: bool) -> (TestHost<Filter>, Rc<RefCell<Snapshot>>) {
    let config = format!(
        r#"{{"schema": {ON_DEMAND_SCHEMA}, "tables": [[{{"name": "", "domain": "*", "routes": []}}]], "matches": [], "refuse_ambiguous": {refuse}}}"#
    );
    let host = TestHost::start(&config).unwrap();
    let snapshot = Rc::<RefCell<Snapshot>>::default();
    let answering = Rc::clone(&snapshot);
    host.answer(FOUND_ROUTE_FUNCTION, move |args| {
        let snapshot = &mut *answering.borrow_mut();
        let found = FoundRoute::from_bytes(args).unwrap();
        if found.version == snapshot.version || found.host == FoundRoute::NONE {
            snapshot.rank = Some(found.rank).filter(|rank| *rank != FoundRoute::NONE);
            return Ok(Vec::new());
        }
        snapshot.handed_over += 1;
        Ok([&snapshot.version.to_le_bytes()[..], &serde_json::to_vec(&snapshot.rules).unwrap()].concat())
    });
    (host, snapshot)
}

#[test]
fn rules_are_handed_over_once_and_again_when_they_have_changed() {
    let (host, snapshot) = start(false);
    let ask = |version, rules: &[&str], path| {
        let mut now = snapshot.borrow_mut();
        (now.version, now.rules) = (version, rules.iter().map(|path| prefix(path)).collect());
        drop(now);
        assert_eq!(host.stream().request_headers(&[(":path", path), (":authority", "x")]), Action::Continue);
        (snapshot.borrow().rank, snapshot.borrow().handed_over)
    };
    assert_eq!(ask(1, &["/a", "/b"], "/b"), (Some(1), 1));
    assert_eq!(ask(1, &["/a", "/b"], "/a"), (Some(0), 1));
    assert_eq!(ask(1, &["/a", "/b"], "/c"), (None, 1));
    assert_eq!(ask(2, &["/c"], "/c"), (Some(0), 2), "a rule that the old rules do not have is found");
    assert_eq!(ask(2, &["/c"], "/a"), (None, 2));
    assert_eq!(ask(1, &["/a", "/b"], "/b"), (Some(1), 3), "a request of an older snapshot");
    assert_eq!(ask(2, &["/c"], "/c"), (Some(0), 3), "the newer rules are kept");
}

#[test]
fn an_ambiguous_path_is_refused_and_has_no_route() {
    let (host, snapshot) = start(true);
    (snapshot.borrow_mut().version, snapshot.borrow_mut().rules) = (1, vec![prefix("/admin"), RouteMatch::default()]);
    let mut stream = host.stream();
    stream.request_headers(&[(":path", "//admin"), (":authority", "x")]);
    let reply = stream.reply().unwrap();
    assert_eq!((reply.status, reply.details.as_str(), snapshot.borrow().rank), (400, "path_ambiguous", None));
}

#[test]
fn a_host_that_answers_nonsense_gets_no_route() {
    let (host, snapshot) = start(false);
    host.answer(FOUND_ROUTE_FUNCTION, |_| Ok(b"12345678 no JSON".to_vec()));
    let mut stream = host.stream();
    stream.request_headers(&[(":path", "/"), (":authority", "x")]);
    assert_eq!((host.logs().len(), snapshot.borrow().rank), (1, None));
}

proptest! {
    #[test]
    fn whatever_changes_the_decision_is_that_of_a_fresh_start(
        steps in prop::collection::vec((1u64..6, "/[ab]{0,3}"), 1..20),
        versions in prop::collection::vec(prop::collection::vec("/[ab]{0,2}", 0..12), 6),
    ) {
        let (host, snapshot) = start(false);
        for (version, path) in steps {
            let rules: Vec<RouteMatch> = versions[version as usize].iter().map(|path| prefix(path)).collect();
            (snapshot.borrow_mut().version, snapshot.borrow_mut().rules) = (version, rules);
            host.stream().request_headers(&[(":path", &path), (":authority", "x")]);
            let first = versions[version as usize].iter().position(|rule| path.starts_with(rule));
            prop_assert_eq!(snapshot.borrow().rank.map(|rank| rank as usize), first);
        }
    }
}
