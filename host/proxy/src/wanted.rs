//! [`Wanted`]: a plugin to be started: its code, and what its VMs are started with.

use std::path::PathBuf;
use std::time::Duration;

use portolan_model::{FailPolicy, Origin, Plugin};
use portolan_wasm::{Tracer, VmLimits, VmSettings};

use crate::config_schema;
use crate::generation::Role;
use crate::limits::limits;
use crate::module_source::{LoadError, Loaded};

/// Longer than anybody waits for a fault.
const LONGEST_DELAY: Duration = Duration::from_secs(365 * 24 * 3600);

/// Memory of a decision filter in bytes: what it keeps of rules at most, and as much again.
const DECISION_MEMORY: usize = 512 * 1024 * 1024;

/// CPU time for one decision, which may begin with the reading of a virtual host of 100,000 rules.
const LONGEST_DECISION: Duration = Duration::from_secs(2);

/// More CPU time than a second has.
const UNLIMITED: Duration = Duration::from_secs(3600);

/// What a plugin runs.
#[derive(Clone, Copy)]
pub(crate) enum Code<'a> {
    /// A filter of the binary, by name, or the file in its place.
    Bundled(&'a str),
    /// A user's, by now compiled.
    Loaded(&'a Result<Loaded, LoadError>),
}

/// A plugin to be started.
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a str,
    pub(crate) role: Role,
    pub(crate) code: Code<'a>,
    pub(crate) settings: VmSettings,
    pub(crate) fail_policy: FailPolicy,
    /// File of a JSON Schema for the configuration.
    pub(crate) schema: Option<PathBuf>,
    pub(crate) origin: Option<&'a Origin>,
}

/// What is to be seen of users' filters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    /// Report calls that are not honoured.
    pub(crate) strict: bool,
    /// Where callbacks are told.
    pub(crate) tracer: Option<Tracer>,
}

impl<'a> Wanted<'a> {
    pub(crate) fn bundled(name: &'a str, role: Role, configuration: String) -> Self {
        let settings = VmSettings {
            plugin_name: name.to_owned(),
            root_id: name.to_owned(),
            vm_id: name.to_owned(),
            configuration: configuration.into_bytes(),
            limits: match role {
                // It holds streams for as long as it was told to.
                Role::Fault => VmLimits { paused_deadline: LONGEST_DELAY, ..VmLimits::default() },
                // Rules come while requests wait for their routes; a budget would refuse them.
                Role::RouteMatch | Role::TrafficSplit => VmLimits {
                    memory_bytes: DECISION_MEMORY,
                    callback_deadline: LONGEST_DECISION,
                    cpu_per_second: UNLIMITED,
                    ..VmLimits::default()
                },
                _ => VmLimits::default(),
            },
            ..VmSettings::default()
        };
        Self {
            name,
            role,
            code: Code::Bundled(name),
            settings,
            fail_policy: FailPolicy::FailClose,
            schema: None,
            origin: None,
        }
    }

    pub(crate) fn user(plugin: &'a Plugin, loaded: &'a Result<Loaded, LoadError>, watch: &Watch) -> Self {
        let settings = VmSettings {
            strict: watch.strict,
            trace: watch.tracer.clone(),
            plugin_name: plugin.name.clone(),
            root_id: plugin.root_id.clone(),
            vm_id: plugin.name.clone(),
            configuration: plugin.config.clone().into_bytes(),
            limits: limits(&plugin.limits),
            env: plugin.env.clone(),
            headers_stop_iteration: plugin.headers_stop_iteration,
            ..VmSettings::default()
        };
        Self {
            name: &plugin.name,
            role: Role::User,
            code: Code::Loaded(loaded),
            settings,
            fail_policy: plugin.fail_policy,
            schema: config_schema::file_of(plugin),
            origin: Some(&plugin.origin),
        }
    }
}
