//! [`ModuleSource`]: where the bytes of users' modules come from, and [`load_all`], which compiles those of one build side
//! by side.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use portolan_model::{Origin, Plugin};
use portolan_wasm::{CompileError, PluginModule};

use crate::build_problem::BuildProblem;
use crate::compiler::Compiler;

/// Gives the builder the modules of users' plugins: files, and what was fetched. Digests and signatures are its business.
pub trait ModuleSource: Send + Sync {
    /// The plugin's module as it is now. Waits for no network.
    ///
    /// # Errors
    /// When it is not there, or must not be run.
    fn module(&self, plugin: &Plugin) -> Result<ModuleBytes, ModuleError>;

    /// A module that the last build did not wait for is compiled: it is time for another build.
    fn compiled(&self) {}
}

/// A module that may be run.
#[derive(Clone, Debug, Default)]
pub struct ModuleBytes {
    /// WebAssembly.
    pub bytes: Vec<u8>,
    /// What keeps a newer one away, when something does.
    pub warning: Option<ModuleError>,
}

/// Why there is no module.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ModuleError {
    /// For people.
    pub message: String,
    /// What kind of reason it is.
    pub cause: Cause,
}

/// Why a part of a snapshot is not as the files want it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    /// Something is wrong.
    #[default]
    Broken,
    /// It is on its way, and the builder will be asked again.
    Pending,
    /// It is not what was locked.
    Drift,
    /// A credential that cannot be used.
    Credential,
    /// A certificate that ends soon, or has ended. It is served all the same.
    Expiry,
}

/// A module of a build.
pub(crate) struct Loaded {
    pub(crate) module: Arc<PluginModule>,
    pub(crate) warning: Option<ModuleError>,
}

impl Loaded {
    /// A newer module is kept away; the one that is there serves.
    pub(crate) fn problem(&self, name: &str, origin: &Origin) -> Option<BuildProblem> {
        let ModuleError { message, cause } = self.warning.clone()?;
        Some(BuildProblem {
            subject: format!("filter {name}"),
            origin: Some(origin.clone()),
            message,
            kept_old: true,
            cause,
            config: None,
        })
    }
}

/// Why a plugin has none.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("{0}")]
    Source(#[from] ModuleError),
    #[error("{0}")]
    Compile(Arc<CompileError>),
}

/// The modules of these plugins, by the plugins' names. Each is compiled once, however many plugins run it, on as many
/// threads as the machine has cores. Blocks for as long as that takes.
pub(crate) fn load_all<'a>(
    plugins: impl Iterator<Item = &'a Plugin>,
    source: &dyn ModuleSource,
    compiler: &Compiler,
) -> HashMap<String, Result<Loaded, LoadError>> {
    let mut loaded = HashMap::new();
    let mut users: BTreeMap<Vec<u8>, Vec<(String, Option<ModuleError>)>> = BTreeMap::new();
    for plugin in plugins {
        match source.module(plugin) {
            Ok(module) => users.entry(module.bytes).or_default().push((plugin.name.clone(), module.warning)),
            Err(error) => {
                loaded.insert(plugin.name.clone(), Err(error.into()));
            }
        }
    }
    let (codes, users): (Vec<Arc<[u8]>>, Vec<_>) = users.into_iter().map(|(code, users)| (code.into(), users)).unzip();
    for (compiled, users) in compiler.compile(&codes).into_iter().zip(users) {
        for (name, warning) in users {
            let module = match &compiled {
                Some(Ok(module)) => Ok(Loaded { module: module.clone(), warning }),
                Some(Err(error)) => Err(LoadError::Compile(error.clone())),
                None => Err(still_compiling().into()),
            };
            loaded.insert(name, module);
        }
    }
    loaded
}

fn still_compiling() -> ModuleError {
    ModuleError { message: "its module is being compiled".to_owned(), cause: Cause::Pending }
}
