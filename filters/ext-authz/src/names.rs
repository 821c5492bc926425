//! [`Names`]: a list of names or paths, each whole, by its beginning (`x-*`) or by its end (`*-id`), as Istio writes them.

use portolan_sdk::ConfigError;

/// Names and patterns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names(Vec<Pattern>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Whole(String),
    Start(String),
    End(String),
}

impl Names {
    /// Reads a list; `form` brings each name into the form in which names are looked up.
    pub(crate) fn read(field: &str, list: Vec<String>, form: impl Fn(&str) -> String) -> Result<Self, ConfigError> {
        let pattern = |name: String| {
            let pattern = match (name.strip_suffix('*'), name.strip_prefix('*')) {
                (Some(start), _) => Pattern::Start(form(start)),
                (None, Some(end)) => Pattern::End(form(end)),
                (None, None) => Pattern::Whole(form(&name)),
            };
            let inner = match &pattern {
                Pattern::Whole(text) | Pattern::Start(text) | Pattern::End(text) => text,
            };
            if name.is_empty() {
                return Err(ConfigError::new(format!("`{field}`: a name is empty")));
            }
            if inner.contains('*') {
                return Err(ConfigError::new(format!("`{field}`: `{name}` has a star inside")));
            }
            Ok(pattern)
        };
        list.into_iter().map(pattern).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a name is one of them.
    pub(crate) fn has(&self, name: &[u8]) -> bool {
        self.0.iter().any(|pattern| match pattern {
            Pattern::Whole(whole) => name == whole.as_bytes(),
            Pattern::Start(start) => name.starts_with(start.as_bytes()),
            Pattern::End(end) => name.ends_with(end.as_bytes()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_whole_or_by_one_end() {
        let list = ["X-A", "x-b-*", "*-id"].map(str::to_owned).to_vec();
        let names = Names::read("f", list, str::to_ascii_lowercase);
        let has = |name: &str| names.as_ref().is_ok_and(|names| names.has(name.as_bytes()));
        assert!(has("x-a") && has("x-b-") && has("x-b-c") && has("request-id"));
        assert!(!has("x-ab") && !has("x-b") && !has("id-x"));
        assert!(!Names::default().has(b"x"));
    }
}
