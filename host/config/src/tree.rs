//! [`Tree`]: one YAML document as nodes with their places, before anything is known about its kind.
//!
//! serde gives values without places. This second, event-based walk gives places, the keys that stand twice, and the
//! few words (`kind`, `metadata.name`) that must be known before the document can be read into a type.

use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Options, Parser, ScalarStyle, Span};

use crate::object::FieldPlace;

/// Line, column and length as in [`FieldPlace`].
pub(crate) type Spot = (u32, u32, u32);

/// A document. Node 0 is the root, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) nodes: Vec<Node>,
    /// Where the walk met an error, if it did: the nodes up to there are here.
    pub(crate) stopped: Option<Stopped>,
}

/// An error of the walk.
#[derive(Debug)]
pub(crate) struct Stopped {
    pub(crate) at: Spot,
    /// Nested too deeply. Then nobody else should try: libyaml's time grows with the square of the depth.
    pub(crate) is_too_deep: bool,
}

/// A value.
#[derive(Debug)]
pub(crate) struct Node {
    /// Where it begins.
    pub(crate) spot: Spot,
    /// Byte offsets in the document.
    pub(crate) bytes: (usize, usize),
    pub(crate) content: Content,
}

/// What a value is.
#[derive(Debug)]
pub(crate) enum Content {
    /// Empty for null.
    Scalar(String),
    Map(Vec<Entry>),
    Seq(Vec<usize>),
    Alias(usize),
}

/// One key with the index of its value.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) spot: Spot,
    pub(crate) value: usize,
}

impl Tree {
    /// Walks one document. Lines count from `first_line`.
    pub(crate) fn of(text: &str, first_line: u32) -> Self {
        let mut options = Options::default();
        options.set_emit_comments(false);
        let mut builder = Builder { first_line, ..Builder::default() };
        for next in Parser::new_from_str_with_options(text, options) {
            match next {
                Ok((event, span)) => builder.take(event, span),
                Err(error) => {
                    let at = builder.spot(Span::empty(*error.marker()));
                    let is_too_deep = *error.kind() == ErrorKind::RecursionLimitExceeded;
                    builder.tree.stopped = Some(Stopped { at, is_too_deep });
                    break;
                }
            }
        }
        builder.tree
    }

    /// The value of `key` in the map `node`, through an alias if need be. Of a key that stands twice the first.
    pub(crate) fn child(&self, node: usize, key: &str) -> Option<usize> {
        let Content::Map(entries) = &self.nodes.get(self.resolve(node)?)?.content else { return None };
        entries.iter().find(|entry| entry.key == key).map(|entry| entry.value)
    }

    /// The text of a scalar.
    pub(crate) fn text(&self, node: usize) -> Option<&str> {
        match &self.nodes.get(self.resolve(node)?)?.content {
            Content::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// The text at a path of keys.
    pub(crate) fn text_at(&self, node: usize, path: &[&str]) -> Option<&str> {
        self.text(path.iter().try_fold(node, |node, key| self.child(node, key))?)
    }

    /// The node behind an alias. An anchor cannot be on an alias, so one step is all.
    pub(crate) fn resolve(&self, node: usize) -> Option<usize> {
        match self.nodes.get(node)?.content {
            Content::Alias(target) => Some(target),
            _ => Some(node),
        }
    }

    /// Keys that stand twice in one map: the places of the second key and the key, and the line of the first.
    pub(crate) fn duplicate_keys(&self) -> Vec<(&Entry, u32)> {
        let mut found = Vec::new();
        for node in &self.nodes {
            let Content::Map(entries) = &node.content else { continue };
            let mut seen = HashMap::with_capacity(entries.len());
            for entry in entries {
                let first: Spot = *seen.entry(entry.key.as_str()).or_insert(entry.spot);
                if first != entry.spot {
                    found.push((entry, first.0));
                }
            }
        }
        found.sort_by_key(|(entry, _)| entry.spot);
        found
    }

    /// Keys `<<`, which ask for a merge.
    pub(crate) fn merge_keys(&self) -> impl Iterator<Item = &Entry> {
        let maps = self.nodes.iter().filter_map(|node| match &node.content {
            Content::Map(entries) => Some(entries),
            _ => None,
        });
        maps.flatten().filter(|entry| entry.key == "<<")
    }
}

/// Builds a tree from events.
#[derive(Default)]
struct Builder {
    tree: Tree,
    first_line: u32,
    /// Open collections; for maps the key that waits for its value.
    open: Vec<(usize, Option<(String, Spot)>)>,
    /// Anchor id to node.
    anchors: HashMap<usize, usize>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) {
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let is_null = style == ScalarStyle::Plain && matches!(&*text, "~" | "null" | "Null" | "NULL");
                self.scalar(if is_null { "" } else { &text }, anchor, span);
            }
            Event::MappingStart(_, anchor, _) => self.start(Content::Map(Vec::new()), anchor, span),
            Event::SequenceStart(_, anchor, _) => self.start(Content::Seq(Vec::new()), anchor, span),
            Event::MappingEnd | Event::SequenceEnd => self.end(span),
            Event::Alias(anchor) => self.alias(anchor, span),
            _ => {}
        }
    }

    fn scalar(&mut self, text: &str, anchor: usize, span: Span) {
        let spot = self.spot(span);
        if let Some((node, waiting @ None)) = self.open.last_mut()
            && matches!(self.tree.nodes[*node].content, Content::Map(_))
        {
            *waiting = Some((text.to_owned(), spot));
            return;
        }
        self.add(Content::Scalar(text.to_owned()), anchor, span);
    }

    fn alias(&mut self, anchor: usize, span: Span) {
        let target = self.anchors.get(&anchor).copied();
        // An alias within its own anchor has no end; serde refuses such a document.
        let content = match target.filter(|target| !self.open.iter().any(|(open, _)| open == target)) {
            Some(target) => Content::Alias(target),
            None => Content::Scalar(String::new()),
        };
        if self.waits_for_key() {
            let spot = self.spot(span);
            self.set_key(String::new(), spot);
            return;
        }
        self.add(content, 0, span);
    }

    /// A collection as a key is not of any kind that is read: it is kept nowhere, but its events must balance.
    fn start(&mut self, content: Content, anchor: usize, span: Span) {
        let as_key = self.waits_for_key();
        if as_key {
            let spot = self.spot(span);
            self.set_key(String::new(), spot);
        }
        let node = if as_key { self.push(content, anchor, span) } else { self.add(content, anchor, span) };
        self.open.push((node, None));
    }

    fn end(&mut self, span: Span) {
        if let Some((node, _)) = self.open.pop() {
            self.tree.nodes[node].bytes.1 = span.end.byte_offset().unwrap_or(0);
        }
    }

    fn waits_for_key(&self) -> bool {
        let open = self.open.last();
        open.is_some_and(|(node, key)| key.is_none() && matches!(self.tree.nodes[*node].content, Content::Map(_)))
    }

    fn set_key(&mut self, key: String, spot: Spot) {
        if let Some((_, waiting)) = self.open.last_mut() {
            *waiting = Some((key, spot));
        }
    }

    /// Adds a node and hangs it into the open collection.
    fn add(&mut self, content: Content, anchor: usize, span: Span) -> usize {
        let node = self.push(content, anchor, span);
        if let Some((parent, waiting)) = self.open.last_mut() {
            match &mut self.tree.nodes[*parent].content {
                Content::Seq(items) => items.push(node),
                Content::Map(entries) => {
                    if let Some((key, spot)) = waiting.take() {
                        entries.push(Entry { key, spot, value: node });
                    }
                }
                Content::Scalar(_) | Content::Alias(_) => {}
            }
        }
        node
    }

    fn push(&mut self, content: Content, anchor: usize, span: Span) -> usize {
        let bytes = span.byte_range().map_or((0, 0), |range| (range.start, range.end));
        let node = self.tree.nodes.len();
        self.tree.nodes.push(Node { spot: self.spot(span), bytes, content });
        if anchor != 0 {
            self.anchors.insert(anchor, node);
        }
        node
    }

    fn spot(&self, span: Span) -> Spot {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let length =
            if span.start.line() == span.end.line() { span.end.col().saturating_sub(span.start.col()) } else { 1 };
        let line = number(span.start.line()).saturating_sub(1).saturating_add(self.first_line);
        (line, number(span.start.col()).saturating_add(1), number(length).max(1))
    }
}

impl Node {
    /// The place to point at: the value of a scalar, the first key of a map, the first item of a list.
    pub(crate) fn points_at(&self, tree: &Tree) -> Spot {
        let mut node = self;
        loop {
            match &node.content {
                Content::Map(entries) => return entries.first().map_or(node.spot, |entry| entry.spot),
                Content::Seq(items) => match items.first().and_then(|item| tree.nodes.get(*item)) {
                    Some(item) => node = item,
                    None => return node.spot,
                },
                Content::Scalar(_) | Content::Alias(_) => return node.spot,
            }
        }
    }

    /// Its place as a list item.
    pub(crate) fn as_item(&self, tree: &Tree) -> FieldPlace {
        let spot = self.points_at(tree);
        FieldPlace { key: spot, value: spot }
    }
}
