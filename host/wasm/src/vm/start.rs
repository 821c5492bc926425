//! How a VM starts: initialisers, root context, `on_vm_start`, `on_configure`.

use std::fmt;
use std::sync::Arc;

use wasmtime::{Instance, Memory, Store, TypedFunc, WasmResults};

use super::PluginVm;
use super::running::{Running, set_deadlines};
use crate::context::{ContextId, Phase};
use crate::exports::{Answered, Exports, export, find, find_malloc};
use crate::guest::Area;
use crate::host_state::HostState;
use crate::module::PluginModule;
use crate::settings::VmSettings;
use crate::shared::Shared;
use crate::stream::StreamHost;
use crate::trap::{ProcExit, VmError};
use crate::watched;

/// What our SDK exports beyond the ABI; see [`Area`].
const SCRATCH: &str = "portolan_scratch";

/// Why a VM did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The host could not make an instance, for instance because the module's memory is larger than the limit.
    #[error("cannot start the filter: {0:#}")]
    Instantiate(wasmtime::Error),
    /// A callback failed.
    #[error("the filter failed in `{during}`: {source}{log}")]
    Failed {
        /// Name of the callback or initialiser.
        during: &'static str,
        /// What happened.
        #[source]
        source: VmError,
        /// What the filter said before.
        log: LogTail,
    },
    /// `on_vm_start` or `on_configure` returned false.
    #[error("the filter refused its configuration in `{during}`{log}")]
    Refused {
        /// Name of the callback.
        during: &'static str,
        /// What the filter said before.
        log: LogTail,
    },
}

/// The last lines that a filter has logged at warn and above while it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogTail(pub Vec<String>);

impl fmt::Display for LogTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => Ok(()),
            lines => write!(f, "; it logged: {}", lines.join(" | ")),
        }
    }
}

/// Starts a VM; see [`PluginVm::start`].
pub(super) fn start<H: StreamHost>(
    module: &Arc<PluginModule>,
    settings: &Arc<VmSettings>,
    shared: &Arc<Shared>,
) -> Result<PluginVm<H>, StartError> {
    // Also where imports are wrapped: it checks the types of all imports, once.
    let linked = module.linked::<H>().map_err(StartError::Instantiate)?;
    let state = HostState::new(settings, shared, module.abi(), module.engine().clock());
    let mut store = Store::new(module.engine().inner(), state);
    store.limiter(|state| &mut state.limiter);
    set_deadlines(&mut store);
    let made = if settings.strict || settings.trace.is_some() {
        watched::instantiate(module.inner(), module.abi(), &mut store)
    } else {
        linked.instantiate(&mut store)
    };
    let instance = match made {
        Ok(instance) => instance,
        Err(error) => return Err(instantiation_failed(&error, &mut store).unwrap_or(StartError::Instantiate(error))),
    };
    let exports = Exports::find(&instance, &mut store);
    let memory = instance.get_memory(&mut store, "memory");
    let malloc = find_malloc(&instance, &mut store);
    let running = Running::new(store);
    let mut vm = PluginVm { exports, callbacks: module.callbacks(), running };
    vm.initialize(&instance)?;
    vm.open_host(memory, malloc)?;
    vm.find_scratch(&instance)?;
    vm.start_root(settings)?;
    vm.running.store.data_mut().meter.end_start(&settings.limits);
    vm.log_tail();
    Ok(vm)
}

/// An instance that could not be made because the module's start section failed, or ran into a limit.
fn instantiation_failed<H>(error: &wasmtime::Error, store: &mut Store<HostState<H>>) -> Option<StartError> {
    let refused = store.data().limiter.refused();
    let guest = error.is::<wasmtime::Trap>() || error.is::<ProcExit>() || refused.is_some();
    guest.then(|| StartError::Failed {
        during: "instantiation",
        source: VmError::new(error, refused),
        log: LogTail(store.data_mut().log.end_start()),
    })
}

impl<H: StreamHost> PluginVm<H> {
    /// `_initialize` and then `main`, or `_start`: what a toolchain wants to run before anything else.
    fn initialize(&mut self, instance: &Instance) -> Result<(), StartError> {
        if self.initializer::<()>(instance, "_initialize")?.is_some() {
            if self.main(instance)?.is_none() {
                self.initializer::<u32>(instance, "__main_void")?;
            }
        } else {
            self.initializer::<()>(instance, "_start")?;
        }
        Ok(())
    }

    /// Lets the guest call the proxy from now on. One that has tried before is refused, as in Envoy: what it was told
    /// then was not true.
    fn open_host(&mut self, memory: Option<Memory>, malloc: Option<TypedFunc<u32, u32>>) -> Result<(), StartError> {
        let state = self.running.store.data_mut();
        (state.memory, state.malloc) = (memory, malloc);
        if !state.called_early {
            return Ok(());
        }
        let reason = "called the proxy, which is possible from `proxy_on_context_create` on".to_owned();
        Err(self.failed("initialization", VmError::Trap { reason, backtrace: String::new() }))
    }

    /// Asks a guest on our SDK where its scratch area is.
    fn find_scratch(&mut self, instance: &Instance) -> Result<(), StartError> {
        let Some(part) = find::<u32, u32>(instance, &mut self.running.store, SCRATCH) else { return Ok(()) };
        let mut ask = |number| {
            let asked = self.running.with_root(Phase::Other, |store| part.call(store, number));
            asked.map_err(|source| self.failed(SCRATCH, source))
        };
        let (base, size, used) = (ask(0)?, ask(1)?, ask(2)?);
        let state = self.running.store.data_mut();
        state.area = Some(Area { base, size, used });
        state.contexts.dense = true;
        Ok(())
    }

    /// Runs an initialiser without parameters, if it is there.
    fn initializer<R: WasmResults + Answered>(
        &mut self,
        instance: &Instance,
        name: &'static str,
    ) -> Result<Option<()>, StartError> {
        let Some(function) = export::<(), R>(instance, &mut self.running.store, name) else { return Ok(None) };
        let result = self.running.with_root(Phase::Other, |store| match function.call(store, ()) {
            // A command's `_start` may end so; the instance stays usable.
            Err(error) if matches!(error.downcast_ref(), Some(ProcExit(0))) => Ok(()),
            result => result.map(drop),
        });
        result.map(Some).map_err(|source| self.failed(name, source))
    }

    /// Runs `main`, with no arguments, in either of the forms that C compilers give it.
    fn main(&mut self, instance: &Instance) -> Result<Option<()>, StartError> {
        let Some(main) = export::<(u32, u32), u32>(instance, &mut self.running.store, "main") else {
            return self.initializer::<u32>(instance, "main");
        };
        let result = self.running.with_root(Phase::Other, |store| main.call(store, (0, 0)).map(drop));
        result.map(Some).map_err(|source| self.failed("main", source))
    }

    /// Makes the root context and hands it the configuration.
    fn start_root(&mut self, settings: &VmSettings) -> Result<(), StartError> {
        let root = ContextId::ROOT.number();
        if let Some(create) = &self.exports.context_create {
            self.running
                .with_root(Phase::Other, |store| create.call(store, (root, 0)))
                .map_err(|source| self.failed("proxy_on_context_create", source))?;
        }
        if let Some(vm_start) = &self.exports.vm_start {
            let size = settings.vm_configuration.len() as u32;
            let accepted = self.running.with_root(Phase::VmStart, |store| vm_start.call(store, (root, size)));
            self.accept("proxy_on_vm_start", accepted)?;
        }
        if let Some(configure) = &self.exports.configure {
            let size = settings.configuration.len() as u32;
            let accepted = self.running.with_root(Phase::Configure, |store| configure.call(store, (root, size)));
            self.accept("proxy_on_configure", accepted)?;
        }
        Ok(())
    }

    /// What a callback that may refuse has said.
    fn accept(&mut self, during: &'static str, accepted: Result<u32, VmError>) -> Result<(), StartError> {
        match accepted {
            Ok(0) => Err(StartError::Refused { during, log: self.log_tail() }),
            Ok(_) => Ok(()),
            Err(source) => Err(self.failed(during, source)),
        }
    }

    fn failed(&mut self, during: &'static str, source: VmError) -> StartError {
        StartError::Failed { during, source, log: self.log_tail() }
    }

    fn log_tail(&mut self) -> LogTail {
        LogTail(self.running.store.data_mut().log.end_start())
    }
}
