//! `Engine`: the process's one wasmtime engine, its clock for deadlines, and its disk cache of compiled code.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{io, thread};

use wasmtime::{Cache, CacheConfig, Config, EngineWeak, OptLevel, WasmBacktraceDetails};

use crate::compiler_process::CompilerProcess;

/// Grain of all deadlines while guests run.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// Time between two ticks while nobody has asked for a finer one: an idle gateway should sleep.
const IDLE_TICK: Duration = Duration::from_millis(10);

/// Fine ticks after the last time that somebody asked for them.
const LINGER: u32 = 50;

/// Stack of the guest in bytes. Workers' threads have 2 MiB, and host functions need some below the guest.
const GUEST_STACK: usize = 512 * 1024;

/// Compiles modules and runs their code. Clones share everything.
#[derive(Clone)]
pub struct Engine {
    inner: wasmtime::Engine,
    clock: Arc<Clock>,
    cache: Option<Arc<Cache>>,
    compiler: Option<Arc<CompilerProcess>>,
}

/// The engine's clock: a thread that moves the epoch on, and so makes guests stop and look at their deadlines.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    awake: AtomicBool,
    millis: AtomicU64,
}

/// How an [`Engine`] is set up.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// Where compiled code is kept between runs; none by default, that is, every start compiles. The folder holds
    /// machine code that is run as it is: nobody else may write there.
    pub cache_dir: Option<PathBuf>,
    /// Who compiles what is not in `cache_dir` yet; without it, or without the folder, this process does.
    pub compiler: Option<CompilerProcess>,
}

/// Why no engine could be made.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The host's processor or settings are not supported.
    #[error("cannot set up the WebAssembly engine: {0}")]
    Setup(#[source] wasmtime::Error),
    /// The clock's thread could not be started.
    #[error("cannot start the clock of the WebAssembly engine")]
    Clock(#[source] io::Error),
}

impl Engine {
    /// An engine with epoch deadlines. A cache folder that cannot be used costs a warning and time, nothing else.
    pub fn new(options: &EngineOptions) -> Result<Self, EngineError> {
        let cache = options.cache_dir.as_deref().and_then(open_cache);
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .cranelift_opt_level(OptLevel::Speed)
            .max_wasm_stack(GUEST_STACK)
            .wasm_backtrace_details(WasmBacktraceDetails::Enable)
            .cache(cache.clone());
        let inner = wasmtime::Engine::new(&config).map_err(EngineError::Setup)?;
        let clock = Arc::new(Clock::default());
        start_clock(inner.weak(), clock.clone()).map_err(EngineError::Clock)?;
        let compiler = options.compiler.clone().filter(|_| cache.is_some()).map(Arc::new);
        Ok(Self { inner, clock, cache: cache.map(Arc::new), compiler })
    }

    /// Modules that the disk cache had and had not, so far; none without a cache.
    pub fn cache_hits_and_misses(&self) -> Option<(usize, usize)> {
        self.cache.as_ref().map(|cache| (cache.cache_hits(), cache.cache_misses()))
    }

    /// Has the module compiled elsewhere, where there is an elsewhere.
    pub(crate) fn prepare(&self, digest: &str, bytes: &[u8]) {
        if let Some(compiler) = &self.compiler {
            compiler.compile(&self.inner, digest, bytes);
        }
    }

    pub(crate) fn inner(&self) -> &wasmtime::Engine {
        &self.inner
    }

    pub(crate) fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }
}

impl Clock {
    /// Asks for fine ticks in the near future. They begin within one coarse tick.
    pub(crate) fn wake(&self) {
        // Read first: workers that ask all the time must not take the cache line from each other.
        if !self.awake.load(Relaxed) {
            self.awake.store(true, Relaxed);
        }
    }

    /// Milliseconds since the engine was made, as of the last tick. Costs a load.
    pub(crate) fn millis(&self) -> u64 {
        self.millis.load(Relaxed)
    }
}

/// The disk cache in this folder; none when the folder cannot be had.
fn open_cache(folder: &Path) -> Option<Cache> {
    let open = || -> wasmtime::Result<Cache> {
        let mut config = CacheConfig::new();
        config.with_directory(std::path::absolute(folder)?);
        Cache::new(config)
    };
    open()
        .inspect_err(|error| {
            tracing::warn!(
                folder = %folder.display(),
                "compiled WebAssembly is not kept, each start compiles again: {error:#}"
            );
        })
        .ok()
}

/// Ticks until the engine is gone: a weak handle, so that stores keep the clock alive and nothing else does.
fn start_clock(engine: EngineWeak, clock: Arc<Clock>) -> io::Result<()> {
    let tick = move || {
        let (started, mut fine) = (Instant::now(), 0);
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            clock.millis.store(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX), Relaxed);
            fine = if clock.awake.swap(false, Relaxed) { LINGER } else { fine.saturating_sub(1) };
            thread::sleep(if fine > 0 { TICK } else { IDLE_TICK });
        }
    };
    thread::Builder::new().name("wasm-clock".to_owned()).spawn(tick).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn the_clock_goes_on_as_long_as_its_engine() {
        let engine = Engine::new(&EngineOptions::default()).unwrap();
        let clock = engine.clock().clone();
        let begun = clock.millis();
        while clock.millis() < begun + 20 {
            clock.wake();
            thread::yield_now();
        }
        drop(engine);
        // The thread's handle of the clock goes with the thread.
        while Arc::strong_count(&clock) > 1 {
            thread::yield_now();
        }
    }
}
