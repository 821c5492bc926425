//! [`ModuleSource`]: where the bytes of users' modules come from, and [`load_all`], which compiles those of one build side
//! by side.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use portolan_model::Plugin;
use portolan_wasm::{CompileError, ModuleStore, PluginModule};

/// Gives the builder the modules of users' plugins: files, and what was fetched. Digests and signatures are its business.
pub trait ModuleSource: Send + Sync {
    /// The plugin's module as it is now. Waits for no network.
    ///
    /// # Errors
    /// When it is not there, or must not be run.
    fn module(&self, plugin: &Plugin) -> Result<ModuleBytes, ModuleError>;
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
}

/// A module of a build.
pub(crate) struct Loaded {
    pub(crate) module: Arc<PluginModule>,
    pub(crate) warning: Option<ModuleError>,
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
    store: &ModuleStore,
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
    let (codes, users): (Vec<_>, Vec<_>) = users.into_iter().unzip();
    for (compiled, users) in compile_all(&codes, store).into_iter().zip(users) {
        for (name, warning) in users {
            let module = compiled.clone().map(|module| Loaded { module, warning });
            loaded.insert(name, module.map_err(LoadError::Compile));
        }
    }
    loaded
}

type Compiled = Result<Arc<PluginModule>, Arc<CompileError>>;

fn compile_all(codes: &[Vec<u8>], store: &ModuleStore) -> Vec<Compiled> {
    let compile = |code: &Vec<u8>| store.load(code).map_err(Arc::new);
    let threads = thread::available_parallelism().map_or(1, usize::from).min(codes.len());
    if threads < 2 {
        return codes.iter().map(compile).collect();
    }
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Compiled)>> = Mutex::new(Vec::with_capacity(codes.len()));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut at = next.fetch_add(1, Relaxed);
                while let Some(code) = codes.get(at) {
                    let compiled = compile(code);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((at, compiled));
                    at = next.fetch_add(1, Relaxed);
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, compiled)| compiled).collect()
}
