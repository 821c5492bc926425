//! The index against a plain scan.

use std::cell::Cell;

use portolan_model::{HeaderMatch, StringMatch};
use proptest::prelude::*;

use super::*;

/// A request made of plain values.
#[derive(Debug, Default)]
struct Sample {
    path: String,
    query: Option<String>,
    headers: Vec<(String, String)>,
    /// Times that a condition, or the index, looked at the path or a header.
    looks: Cell<u32>,
}

impl Head for Sample {
    fn path(&self) -> &[u8] {
        self.looks.set(self.looks.get() + 1);
        self.path.as_bytes()
    }

    fn query(&self) -> Option<&[u8]> {
        self.query.as_deref().map(str::as_bytes)
    }

    fn authority(&self) -> &[u8] {
        b"a.example:80"
    }

    fn method(&self) -> &[u8] {
        b"GET"
    }

    fn scheme(&self) -> &[u8] {
        b"http"
    }

    fn any_value(&self, name: &str, holds: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.looks.set(self.looks.get() + 1);
        self.headers.iter().any(|(known, value)| known == name && holds(value.as_bytes()))
    }
}

fn matcher(matches: Vec<RouteMatch>) -> Matcher {
    let routes = (0..matches.len() as u32).collect();
    let host = VirtualHost { domain: "a.example".into(), routes, ..VirtualHost::default() };
    Matcher::new(vec![vec![host]], matches)
}

fn scan(matcher: &Matcher, head: &Sample) -> Option<u32> {
    let holds = |conditions: &[condition::Condition]| conditions.iter().all(|condition| condition.holds(head));
    matcher.routes.iter().position(|conditions| holds(conditions)).map(|route| route as u32)
}

fn string_match(value: &'static str) -> impl Strategy<Value = StringMatch> {
    prop_oneof![
        value.prop_map(StringMatch::Exact),
        value.prop_map(StringMatch::Prefix),
        value.prop_map(|text| StringMatch::Regex(format!("{text}.*"))),
        value.prop_map(|text| StringMatch::Regex(format!("{text}?[b/]+|/{text}"))),
        Just(StringMatch::Present),
    ]
}

fn named(name: &'static str, value: &'static str) -> impl Strategy<Value = HeaderMatch> {
    (name, string_match(value)).prop_map(|(name, value)| HeaderMatch { name, value })
}

prop_compose! {
    fn route()(
        uri in prop::option::weighted(0.9, string_match("/[abA/]{0,4}")),
        ignore_uri_case: bool,
        headers in prop::collection::vec(named("[xy]", "[12]?"), 0..2),
        without_headers in prop::collection::vec(named("[xy]", "[12]?"), 0..2),
        query_params in prop::collection::vec(named("[xy]", "[12]?"), 0..2),
    ) -> RouteMatch {
        RouteMatch {
            uri,
            ignore_uri_case,
            headers: headers.into(),
            without_headers: without_headers.into(),
            query_params: query_params.into(),
            ..RouteMatch::default()
        }
    }
}

prop_compose! {
    fn sample()(
        path in "/[abA/]{0,6}",
        query in prop::option::of("([xy]=?[12]?&?){0,3}"),
        headers in prop::collection::vec(("[xy]", "[12]?"), 0..4),
    ) -> Sample {
        Sample { path, query, headers, looks: Cell::new(0) }
    }
}

proptest! {
    #[test]
    fn the_index_finds_what_a_scan_finds(
        routes in prop::collection::vec(route(), 0..60),
        samples in prop::collection::vec(sample(), 1..20),
    ) {
        let matcher = matcher(routes);
        for sample in samples {
            prop_assert_eq!(matcher.find(0, &sample), scan(&matcher, &sample), "{:?}", sample);
        }
    }
}

#[test]
fn hosts_with_the_same_routes_share_one_index() {
    let host = |domain: &str| VirtualHost { domain: domain.into(), routes: vec![0], ..VirtualHost::default() };
    let matcher = Matcher::new(vec![vec![host("a"), host("b")], vec![host("c")]], vec![RouteMatch::default()]);
    let first = &matcher.tables[0].routes[0].1;
    assert!(Rc::ptr_eq(first, &matcher.tables[0].routes[1].1));
    assert!(Rc::ptr_eq(first, &matcher.tables[1].routes[0].1));
}

#[test]
fn a_route_that_is_not_there_never_holds() {
    let host = VirtualHost { domain: "*".into(), routes: vec![7, 0], ..VirtualHost::default() };
    let matcher = Matcher::new(vec![vec![host]], vec![RouteMatch::default()]);
    assert_eq!(matcher.find(0, &Sample::default()), Some(0));
    assert_eq!(matcher.find(3, &Sample::default()), None);
}

/// Looks that it takes to find the last of `count` rules.
fn looks(count: usize, rule: impl Fn(usize) -> RouteMatch, request: fn(usize) -> Sample) -> u32 {
    let matcher = matcher((0..count).map(rule).collect());
    let sample = request(count - 1);
    assert_eq!(matcher.find(0, &sample), Some(count as u32 - 1));
    sample.looks.get()
}

#[test]
fn the_last_of_ten_thousand_rules_is_found_like_the_last_of_ten() {
    let uri = |wanted| RouteMatch { uri: Some(wanted), ..RouteMatch::default() };
    let exact = |rule| uri(StringMatch::Exact(format!("/service-{rule}/")));
    let prefix = |rule| uri(StringMatch::Prefix(format!("/service-{rule}/")));
    let regex = |rule| uri(StringMatch::Regex(format!("/service-{rule}/.*")));
    let header = |rule| RouteMatch {
        uri: Some(StringMatch::Prefix("/".into())),
        headers: vec![HeaderMatch { name: "user".into(), value: StringMatch::Exact(format!("u{rule}")) }].into(),
        ..RouteMatch::default()
    };
    let path = |rule| Sample { path: format!("/service-{rule}/"), ..Sample::default() };
    let user =
        |rule| Sample { path: "/".into(), headers: vec![("user".into(), format!("u{rule}"))], ..Sample::default() };
    let exact_costs = (looks(10, exact, path), looks(10_000, exact, path));
    let prefix_costs = (looks(10, prefix, path), looks(10_000, prefix, path));
    let regex_costs = (looks(10, regex, path), looks(10_000, regex, path));
    let header_costs = (looks(10, header, user), looks(10_000, header, user));
    for (few, many) in [exact_costs, prefix_costs, regex_costs, header_costs] {
        assert_eq!(few, many);
        assert!(many <= 4, "{many}");
    }
}

/// `cargo test --release -p portolan-filter-route-match -- --ignored --nocapture` shows nanoseconds for each size.
#[test]
#[ignore = "a measurement"]
fn time_by_number_of_rules() {
    for count in [10, 100, 1_000, 10_000] {
        let rule =
            |rule| RouteMatch { uri: Some(StringMatch::Prefix(format!("/service-{rule}/"))), ..RouteMatch::default() };
        let matcher = matcher((0..count).map(rule).collect());
        let sample = Sample { path: format!("/service-{}/items", count - 1), ..Sample::default() };
        let start = std::time::Instant::now();
        let found = (0..1_000_000).filter(|_| matcher.find(0, std::hint::black_box(&sample)).is_some()).count();
        assert_eq!(found, 1_000_000);
        eprintln!("{count} rules: {} ns", start.elapsed().as_nanos() / 1_000_000);
    }
}
