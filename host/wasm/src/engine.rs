//! `Engine`: the process's one wasmtime engine, its clock for deadlines, and its disk cache of compiled code.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use wasmtime::{Cache, CacheConfig, Config, EngineWeak, OptLevel, WasmBacktraceDetails};

/// Grain of all deadlines.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Stack of the guest in bytes. Workers' threads have 2 MiB, and host functions need some below the guest.
const GUEST_STACK: usize = 512 * 1024;

/// Compiles modules and runs their code. Clones share everything.
#[derive(Clone)]
pub struct Engine {
    inner: wasmtime::Engine,
    cache: Option<Arc<Cache>>,
}

/// How an [`Engine`] is set up.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// Where compiled code is kept between runs; none by default, that is, every start compiles. The folder holds
    /// machine code that is run as it is: nobody else may write there.
    pub cache_dir: Option<PathBuf>,
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
        start_clock(inner.weak()).map_err(EngineError::Clock)?;
        Ok(Self { inner, cache: cache.map(Arc::new) })
    }

    /// Modules that the disk cache had and had not, so far; none without a cache.
    pub fn cache_hits_and_misses(&self) -> Option<(usize, usize)> {
        self.cache.as_ref().map(|cache| (cache.cache_hits(), cache.cache_misses()))
    }

    pub(crate) fn inner(&self) -> &wasmtime::Engine {
        &self.inner
    }
}

/// Number of ticks after which at least `deadline` has passed.
pub(crate) fn ticks(deadline: Duration) -> u64 {
    let ticks = deadline.as_nanos().div_ceil(TICK.as_nanos());
    u64::try_from(ticks).unwrap_or(u64::MAX / 2).saturating_add(1)
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
fn start_clock(engine: EngineWeak) -> io::Result<()> {
    let tick = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            thread::sleep(TICK);
        }
    };
    thread::Builder::new().name("wasm-clock".to_owned()).spawn(tick).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_never_cut_short() {
        assert_eq!(ticks(Duration::from_millis(100)), 11);
        assert_eq!(ticks(Duration::from_millis(101)), 12);
        assert_eq!(ticks(Duration::ZERO), 1);
        assert!(ticks(Duration::MAX) > u64::from(u32::MAX));
    }
}
