//! `ModuleStore`: modules by digest, each compiled once while anybody uses it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::engine::Engine;
use crate::module::{CompileError, PluginModule, digest};

/// Compiles modules and remembers those in use. Blocks for as long as a compilation takes: not for a worker's thread.
pub struct ModuleStore {
    engine: Engine,
    modules: Mutex<HashMap<String, Weak<PluginModule>>>,
}

impl ModuleStore {
    /// An empty store.
    pub fn new(engine: Engine) -> Self {
        Self { engine, modules: Mutex::default() }
    }

    /// The module in these bytes: the one in use with the same digest, else from the disk cache, else compiled.
    pub fn load(&self, bytes: &[u8]) -> Result<Arc<PluginModule>, CompileError> {
        let digest = digest(bytes);
        if let Some(module) = self.lock().get(&digest).and_then(Weak::upgrade) {
            return Ok(module);
        }
        self.engine.prepare(&digest, bytes);
        let module = Arc::new(PluginModule::compile(&self.engine, bytes, digest)?);
        let mut modules = self.lock();
        modules.retain(|_, module| module.strong_count() > 0);
        modules.insert(module.digest().to_owned(), Arc::downgrade(&module));
        Ok(module)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Weak<PluginModule>>> {
        self.modules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
