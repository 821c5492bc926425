//! [`Compiler`]: compiles modules beside the control loop, each once, and waits for them a while only: what takes longer
//! comes with a later build.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use portolan_wasm::{CompileError, ModuleStore, PluginModule};

use crate::module_source::ModuleSource;

/// A module, or why there is none.
pub(crate) type Compiled = Result<Arc<PluginModule>, Arc<CompileError>>;

/// How long a build waits; then it goes on without what is not ready, which comes with a later build.
const PATIENCE: Duration = Duration::from_secs(3);

/// Compiles on threads of its own.
pub(crate) struct Compiler {
    work: Arc<Work>,
    /// How long a build waits; none for as long as it takes.
    patience: Option<Duration>,
    /// Told when a module that a build did not wait for is there.
    source: Arc<dyn ModuleSource>,
}

struct Work {
    store: Arc<ModuleStore>,
    state: Mutex<State>,
    changed: Condvar,
    threads: usize,
}

#[derive(Default)]
struct State {
    /// By the code itself: what is waited for, and what nobody has taken yet.
    modules: HashMap<Arc<[u8]>, Option<Compiled>>,
    queue: Vec<Arc<[u8]>>,
    running: usize,
    /// A build went on without a module.
    is_awaited: bool,
}

impl Compiler {
    /// For a check or an explanation (`serves` is false) it waits as long as it takes: whoever asked waits too.
    pub(crate) fn new(store: Arc<ModuleStore>, serves: bool, source: Arc<dyn ModuleSource>) -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let work = Work { store, state: Mutex::default(), changed: Condvar::new(), threads };
        Self { work: Arc::new(work), patience: serves.then_some(PATIENCE), source }
    }

    /// These modules, in order; none for one that takes longer.
    pub(crate) fn compile(&self, codes: &[Arc<[u8]>]) -> Vec<Option<Compiled>> {
        let end = self.patience.map(|patience| Instant::now() + patience);
        let mut state = self.work.lock();
        // What came late and is wanted no more is let go.
        state.modules.retain(|code, module| module.is_none() || codes.contains(code));
        for code in codes {
            if !state.modules.contains_key(code) {
                state.modules.insert(code.clone(), None);
                state.queue.push(code.clone());
                self.start_thread(&mut state);
            }
        }
        let is_there = |state: &State, code| state.modules.get(code).is_none_or(Option::is_some);
        while !codes.iter().all(|code| is_there(&state, code)) {
            let left = end.map_or(Duration::from_secs(3600), |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                state.is_awaited = true;
                break;
            }
            state = self.work.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let found = codes.iter().map(|code| state.modules.get(code).cloned().flatten()).collect();
        // The store remembers what is in use; what is not there yet is taken by a later build.
        state.modules.retain(|_, module| module.is_none());
        found
    }

    fn start_thread(&self, state: &mut State) {
        if state.running >= self.work.threads {
            return;
        }
        let (work, source) = (self.work.clone(), self.source.clone());
        let started = thread::Builder::new().name("compile".to_owned()).spawn(move || work.run(&*source));
        match started {
            Ok(_) => state.running += 1,
            Err(error) => tracing::error!(%error, "no thread to compile filters"),
        }
    }
}

impl Work {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, source: &dyn ModuleSource) {
        let mut state = self.lock();
        while let Some(code) = state.queue.pop() {
            drop(state);
            // A fault of the compiler's is the module's, and no other module's.
            let compiled = catch_unwind(AssertUnwindSafe(|| self.store.load(&code).map_err(Arc::new)));
            state = self.lock();
            match compiled {
                Ok(compiled) => drop(state.modules.insert(code, Some(compiled))),
                Err(_) => drop(state.modules.remove(&code)),
            }
            self.changed.notify_all();
            if std::mem::take(&mut state.is_awaited) {
                state.is_awaited = state.modules.values().any(Option::is_none);
                source.compiled();
            }
        }
        state.running -= 1;
    }
}
