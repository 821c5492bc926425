//! The host functions, one file for each family.

use wasmtime::{Linker, Module};

use crate::host_state::HostState;
use crate::module::CompileError;
use crate::stream::StreamHost;

/// A linker with all host functions.
pub(crate) fn linker<H: StreamHost>(module: &Module) -> wasmtime::Result<Linker<HostState<H>>> {
    Ok(Linker::new(module.engine()))
}

/// Looks at what the module imports; answers with the imports that the host knows and does not serve.
pub(crate) fn check_imports(_module: &Module) -> Result<Vec<String>, CompileError> {
    Ok(Vec::new())
}
