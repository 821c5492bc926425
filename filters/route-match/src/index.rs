//! [`HostRoutes`]: the routes of one virtual host, arranged so that finding one does not take longer with their number.

use crate::condition::{Condition, Subject};
use crate::hash::ByteMap;
use crate::head::Head;
use crate::pattern::Pattern;
use crate::trie::Trie;

/// Up to this number of routes a scan is the fastest way.
const SCAN: usize = 8;

/// Conditions by `RouteId`.
pub(crate) type Routes = Vec<Box<[Condition]>>;

/// The routes of one virtual host.
#[derive(Debug)]
pub(crate) struct HostRoutes {
    /// Route ids in the order in which they are tried. A place in this list is the rank of a route.
    order: Vec<u32>,
    index: Option<Index>,
}

/// Ranks by what a path must be for their routes to hold.
#[derive(Debug)]
struct Index {
    exact: ByteMap<Bucket>,
    prefix: Trie<Bucket>,
    /// Keys in lower case.
    exact_any_case: ByteMap<Bucket>,
    prefix_any_case: Trie<Bucket>,
    /// Routes for all paths, and those whose regex begins with no fixed text.
    rest: Bucket,
}

/// The ranks that share a path, ascending. Routes that want a header to be exactly something are found by its value.
#[derive(Debug, Default)]
struct Bucket {
    ranks: Vec<u32>,
    by_header: Vec<HeaderRanks>,
}

#[derive(Debug)]
struct HeaderRanks {
    name: String,
    first: u32,
    by_value: ByteMap<Vec<u32>>,
}

impl HostRoutes {
    pub(crate) fn new(mut order: Vec<u32>, routes: &Routes) -> Self {
        // An id without conditions cannot be; a route that is not there never holds.
        order.retain(|route| (*route as usize) < routes.len());
        order.shrink_to_fit();
        let index = (order.len() > SCAN).then(|| Index::new(&order, routes));
        Self { order, index }
    }

    pub(crate) fn order(&self) -> &[u32] {
        &self.order
    }

    /// The first route whose conditions all hold.
    pub(crate) fn find(&self, routes: &Routes, head: &impl Head) -> Option<u32> {
        let mut search = Search { order: &self.order, routes, head, best: u32::MAX };
        match &self.index {
            None => search.offer_all(0..self.order.len() as u32),
            Some(index) => index.search(&mut search),
        }
        self.order.get(search.best as usize).copied()
    }
}

impl Index {
    fn new(order: &[u32], routes: &Routes) -> Self {
        let mut index = Self {
            exact: ByteMap::default(),
            prefix: Trie::new(),
            exact_any_case: ByteMap::default(),
            prefix_any_case: Trie::new(),
            rest: Bucket::default(),
        };
        for (route, rank) in order.iter().zip(0..) {
            let conditions = &routes[*route as usize];
            index.bucket(conditions).add(rank, conditions);
        }
        index.shrink();
        index
    }

    /// There are as many of them as virtual hosts and workers: none keeps the room that it grew by.
    fn shrink(&mut self) {
        for exact in [&mut self.exact, &mut self.exact_any_case] {
            exact.shrink_to_fit();
            exact.values_mut().for_each(Bucket::shrink);
        }
        self.prefix.shrink(Bucket::shrink);
        self.prefix_any_case.shrink(Bucket::shrink);
        self.rest.shrink();
    }

    fn bucket(&mut self, conditions: &[Condition]) -> &mut Bucket {
        let uri = conditions.iter().find_map(|condition| match condition.subject {
            Subject::Uri { ignore_case } => Some((ignore_case, &condition.pattern)),
            _ => None,
        });
        match uri {
            Some((false, Pattern::Exact(path))) => self.exact.entry(path.clone()).or_default(),
            Some((true, Pattern::Exact(path))) => self.exact_any_case.entry(lower_case(path)).or_default(),
            Some((false, Pattern::Prefix(path))) => self.prefix.entry(path),
            Some((true, Pattern::Prefix(path))) => self.prefix_any_case.entry(&lower_case(path)),
            Some((_, Pattern::Regex(regex))) => match regex.literal_prefix() {
                start if start.is_empty() => &mut self.rest,
                start => self.prefix.entry(&start),
            },
            Some((_, Pattern::Present)) | None => &mut self.rest,
        }
    }

    fn search(&self, search: &mut Search<'_, impl Head>) {
        let path = search.head.path();
        if let Some(bucket) = self.exact.get(path) {
            search.offer(bucket);
        }
        self.prefix.visit(path, |bucket| search.offer(bucket));
        if !self.exact_any_case.is_empty() || !self.prefix_any_case.is_empty() {
            let path = lower_case(path);
            if let Some(bucket) = self.exact_any_case.get(&path) {
                search.offer(bucket);
            }
            self.prefix_any_case.visit(&path, |bucket| search.offer(bucket));
        }
        search.offer(&self.rest);
    }
}

fn lower_case(path: &[u8]) -> Box<[u8]> {
    path.to_ascii_lowercase().into()
}

impl Bucket {
    fn shrink(&mut self) {
        self.ranks.shrink_to_fit();
        self.by_header.shrink_to_fit();
        for header in &mut self.by_header {
            header.by_value.shrink_to_fit();
            header.by_value.values_mut().for_each(Vec::shrink_to_fit);
        }
    }

    fn add(&mut self, rank: u32, conditions: &[Condition]) {
        let header = conditions.iter().find_map(|condition| match (&condition.subject, &condition.pattern) {
            (Subject::Header(name), Pattern::Exact(value)) => Some((name, value)),
            _ => None,
        });
        let Some((name, value)) = header else { return self.ranks.push(rank) };
        let place = self.by_header.iter().position(|ranks| ranks.name == *name).unwrap_or_else(|| {
            self.by_header.push(HeaderRanks { name: name.clone(), first: rank, by_value: ByteMap::default() });
            self.by_header.len() - 1
        });
        self.by_header[place].by_value.entry(value.clone()).or_default().push(rank);
    }
}

/// The lowest rank so far whose route holds.
struct Search<'a, H> {
    order: &'a [u32],
    routes: &'a Routes,
    head: &'a H,
    best: u32,
}

impl<H: Head> Search<'_, H> {
    fn offer(&mut self, bucket: &Bucket) {
        self.offer_all(bucket.ranks.iter().copied());
        for header in &bucket.by_header {
            if header.first < self.best {
                self.head.any_value(&header.name, &mut |value| {
                    if let Some(ranks) = header.by_value.get(value) {
                        self.offer_all(ranks.iter().copied());
                    }
                    false
                });
            }
        }
    }

    /// Tries ascending ranks until one holds, or none can be better than what was found.
    fn offer_all(&mut self, ranks: impl Iterator<Item = u32>) {
        for rank in ranks {
            if rank >= self.best {
                return;
            }
            let conditions = &self.routes[self.order[rank as usize] as usize];
            if conditions.iter().all(|condition| condition.holds(self.head)) {
                self.best = rank;
                return;
            }
        }
    }
}
