//! [`BuildProblem`]: what is to be said of a build.

use std::collections::HashMap;
use std::fmt::Display;

use portolan_model::Origin;

use crate::module_source::Cause;

/// Something that could not be built. The rest of the snapshot serves.
#[derive(Clone, Debug)]
pub struct BuildProblem {
    /// The plugin, listener or log that it is about.
    pub subject: String,
    /// The line that asked for it; none for the command line.
    pub origin: Option<Origin>,
    /// What is wrong.
    pub message: String,
    /// The old version serves on.
    pub kept_old: bool,
    /// What kind of reason it is.
    pub cause: Cause,
    /// Where in the plugin's `pluginConfig` the mistake is, as in `.http[0].name`, when it is a mistake of the configuration;
    /// empty when it is told of the whole.
    pub config: Option<String>,
}

impl BuildProblem {
    /// A listener of this name cannot be served.
    pub(crate) fn of_listener(name: impl Display, origins: &[Origin], message: String) -> Self {
        Self {
            subject: format!("listener {name}"),
            origin: origins.first().cloned(),
            message,
            kept_old: false,
            cause: Cause::Broken,
            config: None,
        }
    }
}

/// What is to be said of plugins, by name.
pub(crate) fn plugin_problems(problems: &[BuildProblem]) -> HashMap<String, String> {
    let of_filter = |problem: &BuildProblem| {
        let name = problem.subject.strip_prefix("filter ")?;
        Some((name.to_owned(), problem.message.clone()))
    };
    problems.iter().filter_map(of_filter).collect()
}
