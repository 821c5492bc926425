//! [`places`]: where each field of an object stands, by path.

use std::fmt::Write;
use std::sync::Arc;

use portolan_model::Document;

use crate::places::{FieldPlace, LISTED, Places, hash};
use crate::tree::{Content, Tree};

/// serde refuses deeper documents.
const MAX_DEPTH: usize = 128;

/// Aliases can make few lines into many fields. What lies beyond is found by its parent's place.
const MAX_FIELDS: usize = 200_000;

/// Places of all fields below `root`, which is an object of `document`. Fields behind an alias stand where their anchor is.
pub(crate) fn places(tree: &Tree, root: usize, document: &Arc<Document>) -> Places {
    let mut walk = Walk { tree, fields: Vec::new(), listed: Vec::new(), path: String::new() };
    walk.descend(root, 0);
    let of_kind = walk.fields.iter().find(|(path, _)| *path == hash("kind")).map(|(_, place)| *place);
    let of_root = tree.nodes.get(root).map(|node| node.as_item(tree));
    if let Some(place) = of_kind.or(of_root) {
        walk.fields.insert(0, (hash(""), place));
    }
    Places::new(document.clone(), &mut walk.fields, walk.listed)
}

struct Walk<'a> {
    tree: &'a Tree,
    /// By hash of the path; keys that stand twice are there twice.
    fields: Vec<(u64, FieldPlace)>,
    listed: Vec<Box<str>>,
    /// The path so far: one buffer, cut back after each step.
    path: String,
}

impl Walk<'_> {
    fn descend(&mut self, node: usize, depth: usize) {
        let tree = self.tree;
        let Some(node) = tree.resolve(node).and_then(|node| tree.nodes.get(node)) else { return };
        if depth > MAX_DEPTH {
            return;
        }
        match &node.content {
            Content::Map(entries) => {
                for entry in entries {
                    let value = tree.nodes.get(entry.value).map_or(entry.spot, |value| value.points_at(tree));
                    self.step(
                        |path| push_key(path, &entry.key),
                        FieldPlace { key: entry.spot, value },
                        entry.value,
                        depth,
                    );
                }
            }
            Content::Seq(items) => {
                for (index, item) in items.iter().enumerate() {
                    let place = tree.nodes.get(*item).map(|item| item.as_item(tree)).unwrap_or_default();
                    self.step(|path| push_index(path, index), place, *item, depth);
                }
            }
            Content::Scalar(_) | Content::Alias(_) => {}
        }
    }

    fn step(&mut self, extend: impl FnOnce(&mut String), place: FieldPlace, child: usize, depth: usize) {
        if self.fields.len() >= MAX_FIELDS {
            return;
        }
        let length = self.path.len();
        extend(&mut self.path);
        self.fields.push((hash(&self.path), place));
        if self.path.starts_with(LISTED) {
            self.listed.push(self.path.as_str().into());
        }
        self.descend(child, depth + 1);
        self.path.truncate(length);
    }
}

/// `spec` + `http` = `spec.http`.
pub(crate) fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}

/// `spec.http` + 0 = `spec.http[0]`.
pub(crate) fn push_index(path: &mut String, index: usize) {
    path.push('[');
    // Writing to a String cannot fail.
    let _ = write!(path, "{index}");
    path.push(']');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation is the test's answer")]

    use super::*;

    fn located(text: &str) -> Places {
        let document = Document::new("X", "default/x", "a.yaml".into(), 10);
        places(&Tree::of(text, 10), 0, &Arc::new(document))
    }

    fn key_and_value(places: &Places, path: &str) -> ((u32, u32), (u32, u32)) {
        let (key, value) = (places.of_key(path), places.of(path));
        ((key.line, key.column), (value.line, value.column))
    }

    #[test]
    fn paths_name_keys_items_and_values() {
        let places =
            located("kind: X\nspec:\n  http:\n  - match:\n    - uri: {prefix: /a}\n    - uri:\n        exact: /b\n");
        assert_eq!(key_and_value(&places, ""), ((10, 1), (10, 7)));
        assert_eq!(key_and_value(&places, "spec"), ((11, 1), (12, 3)));
        assert_eq!(key_and_value(&places, "spec.http[0]"), ((13, 5), (13, 5)));
        assert_eq!(key_and_value(&places, "spec.http[0].match[0].uri.prefix"), ((14, 13), (14, 21)));
        assert_eq!(key_and_value(&places, "spec.http[0].match[1].uri"), ((15, 7), (16, 9)));
        assert_eq!(places.of("spec.http[0].match[1].uri.exact").length, 2);
        assert_eq!(key_and_value(&places, "spec.http[0].match[1].uri.regex"), ((15, 7), (16, 9)));
    }

    #[test]
    fn fields_behind_an_alias_stand_at_the_anchor() {
        let places = located("a: &x\n  b: [1]\nc: *x\n");
        assert_eq!(key_and_value(&places, "c"), ((12, 1), (12, 4)));
        assert_eq!(key_and_value(&places, "c.b[0]"), ((11, 7), (11, 7)));
    }

    #[test]
    fn aliases_upon_aliases_stay_bounded() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for level in 1..10 {
            let below = format!("*a{}", level - 1);
            text.push_str(&format!("a{level}: &a{level} [{}]\n", [below.as_str(); 9].join(", ")));
        }
        assert!(located(&text).len() <= MAX_FIELDS + 1);
    }

    #[test]
    fn columns_count_characters() {
        let places = located("\"schlüssel\": [ä, {ö: x}]\n");
        assert_eq!(key_and_value(&places, "schlüssel[1].ö"), ((10, 19), (10, 22)));
    }
}
