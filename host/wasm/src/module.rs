//! `PluginModule`: compiled code that has been looked over.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use wasmtime::{ExternType, InstancePre, Module};

use crate::abi::AbiVersion;
use crate::callbacks::Callbacks;
use crate::custom_section::custom_section;
use crate::engine::Engine;
use crate::host_state::HostState;
use crate::hostcalls;
use crate::stream::StreamHost;

/// A module that the host can run: its imports are known, its ABI is supported, its memory is exported.
pub struct PluginModule {
    engine: Engine,
    module: Module,
    digest: String,
    abi: AbiVersion,
    callbacks: Callbacks,
    schema: Option<Box<[u8]>>,
    /// The module with its imports resolved, for each host type: what a VM starts from.
    linked: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

/// Why a module is refused.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// Not WebAssembly, or not valid.
    #[error("not a valid WebAssembly module: {0:#}")]
    Invalid(wasmtime::Error),
    /// A component, which is another binary format.
    #[error("this is a WebAssembly component; filters are core modules (for Rust: target wasm32-wasip1)")]
    Component,
    /// No marker of a supported ABI.
    #[error("{found}; supported are proxy_abi_version_0_1_0, 0_2_0, 0_2_1 and 0_2_100")]
    Abi {
        /// What was found instead.
        found: String,
    },
    /// No memory under the name `memory`, or one that the host cannot use.
    #[error("the module must export a 32-bit, unshared memory as `memory`, but {found}")]
    Memory {
        /// What was found instead.
        found: String,
    },
    /// Imports that the host does not know.
    #[error("the module imports what the host does not offer: {}", names.join(", "))]
    UnknownImports {
        /// Each as `module.name`.
        names: Vec<String>,
    },
    /// A known import, or a callback, with other parameters or results than the ABI's.
    #[error("`{name}` has the wrong type: {reason}")]
    WrongType {
        /// The import as `module.name`, or the callback.
        name: String,
        /// Wanted and found.
        reason: String,
    },
}

impl PluginModule {
    /// Compiles a module, or takes it from the disk cache, and looks it over.
    pub(crate) fn compile(engine: &Engine, bytes: &[u8], digest: String) -> Result<Self, CompileError> {
        if is_component(bytes) {
            return Err(CompileError::Component);
        }
        let module = Module::from_binary(engine.inner(), bytes).map_err(CompileError::Invalid)?;
        let abi = find_abi(&module)?;
        check_memory(&module)?;
        let callbacks = Callbacks::of(&module)?;
        hostcalls::check_imports(&module, abi)?;
        let linked = Mutex::default();
        let schema = custom_section(bytes, SCHEMA).map(Into::into);
        Ok(Self { engine: engine.clone(), module, digest, abi, callbacks, schema, linked })
    }

    /// SHA-256 of the module's bytes, as 64 hexadecimal digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The newest ABI that the module says it speaks.
    pub fn abi(&self) -> AbiVersion {
        self.abi
    }

    /// Which callbacks it exports.
    pub fn callbacks(&self) -> Callbacks {
        self.callbacks
    }

    pub(crate) fn inner(&self) -> &Module {
        &self.module
    }

    /// What it imports, each as `module.name`, in the module's order.
    pub fn imports(&self) -> Vec<String> {
        self.module.imports().map(|import| format!("{}.{}", import.module(), import.name())).collect()
    }

    /// The JSON Schema of its configuration, which it carries as custom section `portolan.schema`.
    pub fn schema(&self) -> Option<&[u8]> {
        self.schema.as_deref()
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The module with its imports resolved, ready to start.
    pub(crate) fn linked<H: StreamHost>(&self) -> Result<InstancePre<HostState<H>>, wasmtime::Error> {
        let mut linked = self.linked.lock().unwrap_or_else(PoisonError::into_inner);
        let known = linked.get(&TypeId::of::<H>()).and_then(|pre| pre.downcast_ref::<InstancePre<HostState<H>>>());
        if let Some(pre) = known {
            return Ok(pre.clone());
        }
        let pre = hostcalls::linker::<H>(&self.module, self.abi)?.instantiate_pre(&self.module)?;
        linked.insert(TypeId::of::<H>(), Arc::new(pre.clone()));
        Ok(pre)
    }
}

/// Custom section that holds the JSON Schema of the configuration.
const SCHEMA: &str = "portolan.schema";

/// SHA-256 in hexadecimal digits.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A component's header has layer 1 where a core module's has 0.
fn is_component(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\0asm") && bytes.get(6..8) == Some(&[1, 0])
}

/// The newest marker that the module exports and the host supports.
fn find_abi(module: &Module) -> Result<AbiVersion, CompileError> {
    let markers = || module.exports().map(|e| e.name()).filter(|name| name.starts_with(AbiVersion::MARKER));
    if let Some(abi) = markers().filter_map(AbiVersion::from_marker).max() {
        return Ok(abi);
    }
    let unknown: Vec<_> = markers().collect();
    let found = if unknown.is_empty() {
        "the module exports no proxy_abi_version marker, so it is no proxy-wasm filter".to_owned()
    } else {
        format!("the module is built for {}", unknown.join(", "))
    };
    Err(CompileError::Abi { found })
}

/// The memory that host functions read arguments from must be there and be addressed by 32 bits.
fn check_memory(module: &Module) -> Result<(), CompileError> {
    let found = match module.get_export("memory") {
        Some(ExternType::Memory(memory)) if memory.is_64() => "it is a 64-bit memory",
        Some(ExternType::Memory(memory)) if memory.is_shared() => "it is a shared memory",
        Some(ExternType::Memory(_)) => return Ok(()),
        Some(_) => "this name is something else",
        None => "there is no such export",
    };
    Err(CompileError::Memory { found: found.to_owned() })
}
