//! [`read`]: YAML files of ours that hold no resources, such as a filter's project, with a place for everything.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::diagnostic::{Diagnostic, Place};
use crate::document;
use crate::object::Places;

/// One document.
#[derive(Clone, Debug)]
pub struct Plain<T> {
    /// What it says.
    pub value: T,
    /// Where each field stands.
    pub places: Arc<Places>,
}

impl<T> Plain<T> {
    /// The place of a field's value by path, e.g. `expect.calls[1]`; see [`Object::place`](crate::object::Object::place).
    pub fn place(&self, path: &str) -> Place {
        self.places.of(path)
    }

    /// The place of a field's key.
    pub fn key_place(&self, path: &str) -> Place {
        self.places.of_key(path)
    }
}

/// The documents of `text` that are right, and what is wrong with the others: no YAML, keys that stand twice, values of
/// another type, and fields that `T` does not name, told as fields of `what`, e.g. `filter.yaml`. An empty text has no
/// document.
///
/// `T` must not use serde's `tag`, `untagged` or `flatten`: they lose the places. A type with several forms has a visitor
/// of its own, and its map form `deny_unknown_fields`.
pub fn read<T: DeserializeOwned>(file: &str, text: &str, what: &str) -> (Vec<Plain<T>>, Vec<Diagnostic>) {
    read_where(file, text, what, |_| true)
}

/// The same for those documents whose fields `wanted` likes; nothing is told of the others but that they are no YAML.
pub fn read_where<T: DeserializeOwned>(
    file: &str,
    text: &str,
    what: &str,
    wanted: impl Fn(&Places) -> bool,
) -> (Vec<Plain<T>>, Vec<Diagnostic>) {
    document::read_plain(&file.into(), text, what, &wanted)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation is the test's answer")]

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Recipe {
        name: String,
        steps: Vec<Step>,
        extra: Option<serde_json::Value>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Step {
        minutes: u32,
        heat: Option<Heat>,
    }

    /// As the map form of a type with several forms.
    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Heat {
        degrees: u32,
        fan: bool,
    }

    /// `line:column: message (help)` of each finding.
    fn findings(text: &str) -> Vec<String> {
        let (_, findings) = read::<Recipe>("a.yaml", text, "a recipe");
        let told = |finding: &Diagnostic| {
            let Place { line, column, .. } = finding.place;
            let help = finding.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
            format!("{line}:{column}: {}{help}", finding.message)
        };
        findings.iter().map(told).collect()
    }

    #[test]
    fn each_document_is_read_with_its_places() {
        let text = "name: a\nextra: {x: [1, yes]}\n---\nname: b\nsteps:\n- minutes: 3\n";
        let (read, findings) = read::<Recipe>("a.yaml", text, "a recipe");
        assert!(findings.is_empty(), "{findings:?}");
        assert_eq!(read.iter().map(|read| read.value.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(read[0].value.extra.as_ref().unwrap().to_string(), r#"{"x":[1,"yes"]}"#);
        let (value, key) = (read[1].place("steps[0].minutes"), read[1].key_place("steps[0].minutes"));
        assert_eq!((value.line, value.column, key.line, key.column), (6, 12, 6, 3));
        assert_eq!(read[1].value.steps[0].minutes, 3);
    }

    #[test]
    fn mistakes_are_told_with_place_and_suggestion() {
        assert_eq!(findings("nmae: a\n"), ["1:1: unknown field `nmae` in a recipe (did you mean `name`?)"]);
        assert_eq!(findings("steps:\n- minuts: 1\n").len(), 1);
        assert_eq!(findings("name: a\nname: b\n"), ["2:1: key `name` stands twice in one map"]);
        let wrong = findings("steps:\n- minutes: soon\n");
        assert!(wrong[0].starts_with("2:12: `steps[0].minutes`: expected a whole number"), "{wrong:?}");
        let refused = findings("steps:\n- heat: {degres: 1}\n");
        assert_eq!(refused, ["2:10: unknown field `degres` in `steps[0].heat` (did you mean `degrees`?)"]);
        assert_eq!(findings("name: [\n").len(), 1);
        assert_eq!(findings("- name\n").len(), 1);
        assert!(findings("# nothing\n").is_empty());
    }

    #[test]
    fn a_broken_document_does_not_take_the_others_with_it() {
        let (read, findings) = read::<Recipe>("a.yaml", "name: {\n---\nname: b\n", "a recipe");
        assert_eq!((read.len(), findings.len()), (1, 1));
    }
}
