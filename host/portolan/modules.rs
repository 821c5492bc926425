//! [`Modules`]: the files that filters come from, and the [`Fingerprint`] that tells one state of them from another.

use std::collections::BTreeMap;
use std::path::PathBuf;

use portolan_model::{Model, PluginCode};
use sha2::{Digest, Sha256};

/// Files that replace bundled filters (`--filter`), by the filter's name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Modules {
    overrides: Vec<(String, PathBuf)>,
}

/// SHA-256 of each module file; none for a file that cannot be read. Equal fingerprints mean equal code.
pub(crate) type Fingerprint = BTreeMap<PathBuf, Option<[u8; 32]>>;

impl Modules {
    /// The `--filter` pairs; a name that is not bundled is refused with the known ones.
    pub(crate) fn new(overrides: &[(String, PathBuf)]) -> Result<Self, String> {
        let known: Vec<_> = portolan_filters::BUNDLED.iter().map(|(name, _)| *name).collect();
        if let Some((name, _)) = overrides.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            return Err(format!("no filter `{name}` is bundled\nhelp: known are {}", known.join(", ")));
        }
        Ok(Self { overrides: overrides.to_vec() })
    }

    /// Names of replaced filters with their files, for people.
    pub(crate) fn overrides(&self) -> Vec<(String, String)> {
        self.overrides.iter().map(|(name, path)| (name.clone(), path.display().to_string())).collect()
    }

    /// The files that a model's filters come from, as they are now.
    pub(crate) fn fingerprint(&self, model: &Model) -> Fingerprint {
        let plugins = model.plugins.iter().filter_map(|plugin| match &plugin.code {
            PluginCode::File(path) => Some(path),
            PluginCode::Bundled(_) | PluginCode::Remote(_) => None,
        });
        let paths = self.overrides.iter().map(|(_, path)| path).chain(plugins);
        let digest = |path: &PathBuf| std::fs::read(path).ok().map(|bytes| Sha256::digest(bytes).into());
        paths.map(|path| (path.clone(), digest(path))).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn an_unknown_filter_is_refused_with_the_known_ones() {
        let error = Modules::new(&[("rout-match".to_owned(), "x.wasm".into())]).unwrap_err();
        assert!(error.contains("`rout-match`") && error.contains("route-match, traffic-split"), "{error}");
    }

    #[test]
    fn a_changed_or_missing_file_changes_the_fingerprint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.wasm");
        let modules = Modules::new(&[("route-match".to_owned(), path.clone())]).unwrap();
        let missing = modules.fingerprint(&Model::default());
        std::fs::write(&path, "one").unwrap();
        let one = modules.fingerprint(&Model::default());
        std::fs::write(&path, "two").unwrap();
        let two = modules.fingerprint(&Model::default());
        assert!(missing[&path].is_none() && one[&path].is_some() && one != two);
        assert_eq!(two, modules.fingerprint(&Model::default()));
    }
}
