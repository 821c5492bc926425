//! The index of `route-match` against a plain search: the first route that fits alone is the one that it finds.

use portolan_filter_route_match::matcher::{Head, Matcher};
use portolan_model::{HeaderMatch, RouteMatch, StringMatch, VirtualHost};

/// Letters of all words: few, so that conditions hold often.
const LETTERS: &[u8] = b"//aabAB.-*";

/// Makes up routes and requests from bytes, and compares.
pub fn matcher(data: &[u8]) {
    let mut bytes = Bytes(data);
    let routes: Vec<_> = (0..=bytes.below(12)).map(|_| route(&mut bytes)).collect();
    let ids = 0..u32::try_from(routes.len()).unwrap_or(u32::MAX);
    let whole = Matcher::new(vec![vec![any_host(ids.collect())]], routes.clone());
    let alone: Vec<_> =
        routes.into_iter().map(|route| Matcher::new(vec![vec![any_host(vec![0])]], vec![route])).collect();
    for _ in 0..8 {
        let request = Request::of(&mut bytes);
        let first = alone.iter().position(|matcher| matcher.find(0, &request).is_some());
        let found = whole.find(0, &request).map(|route| route as usize);
        assert_eq!(found, first, "{request:?}");
    }
}

fn any_host(routes: Vec<u32>) -> VirtualHost {
    VirtualHost { name: "*:80".to_owned(), domain: "*".to_owned(), routes, origin: Default::default() }
}

fn route(bytes: &mut Bytes<'_>) -> RouteMatch {
    let header =
        |bytes: &mut Bytes<'_>| HeaderMatch { name: bytes.pick(&["x-a", "x-b", ":method"]), value: condition(bytes) };
    let several = |bytes: &mut Bytes<'_>| (0..bytes.below(3)).map(|_| header(bytes)).collect::<Vec<_>>();
    RouteMatch {
        uri: (bytes.below(5) > 0).then(|| condition(bytes)),
        ignore_uri_case: bytes.below(4) == 0,
        method: (bytes.below(6) == 0).then(|| condition(bytes).into()),
        authority: (bytes.below(6) == 0).then(|| condition(bytes).into()),
        headers: several(bytes).into(),
        without_headers: if bytes.below(4) == 0 { several(bytes).into() } else { Default::default() },
        query_params: if bytes.below(4) == 0 { several(bytes).into() } else { Default::default() },
        ..RouteMatch::default()
    }
}

fn condition(bytes: &mut Bytes<'_>) -> StringMatch {
    match bytes.below(8) {
        0..=2 => StringMatch::Exact(bytes.word()),
        3..=5 => StringMatch::Prefix(bytes.word()),
        6 => StringMatch::Regex(bytes.pick(&["/a.*", ".*b", "(/a|/b)", "[ab]*", ".+"])),
        _ => StringMatch::Present,
    }
}

#[derive(Debug)]
struct Request {
    path: String,
    query: Option<String>,
    authority: String,
    method: String,
    headers: Vec<(String, String)>,
}

impl Request {
    fn of(bytes: &mut Bytes<'_>) -> Self {
        let header = |bytes: &mut Bytes<'_>| (bytes.pick(&["x-a", "x-b"]), bytes.word());
        Self {
            path: format!("/{}", bytes.word()),
            query: (bytes.below(2) == 0).then(|| format!("x-a={}&x-b", bytes.word())),
            authority: bytes.word(),
            method: bytes.pick(&["GET", "a", "b"]),
            headers: (0..bytes.below(4)).map(|_| header(bytes)).collect(),
        }
    }
}

impl Head for Request {
    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }

    fn query(&self) -> Option<&[u8]> {
        self.query.as_deref().map(str::as_bytes)
    }

    fn authority(&self) -> &[u8] {
        self.authority.as_bytes()
    }

    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }

    fn scheme(&self) -> &[u8] {
        b"http"
    }

    fn any_value(&self, name: &str, holds: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        match name {
            ":method" => holds(self.method()),
            _ => self.headers.iter().any(|(header, value)| header == name && holds(value.as_bytes())),
        }
    }
}

/// Decisions drawn from the fuzzer's bytes; zeros when they are used up.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, end: u8) -> u8 {
        self.next() % end
    }

    fn pick(&mut self, words: &[&str]) -> String {
        words[usize::from(self.next()) % words.len()].to_owned()
    }

    /// Up to five letters.
    fn word(&mut self) -> String {
        (0..self.below(6)).map(|_| char::from(LETTERS[usize::from(self.next()) % LETTERS.len()])).collect()
    }
}
