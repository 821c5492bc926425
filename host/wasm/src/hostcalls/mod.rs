//! The host functions, one file for each family.

mod buffers;
mod contexts;
mod foreign;
mod grpc;
mod headers;
mod http_call;
mod log;
mod metrics;
mod properties;
mod redis;
mod shared;
mod streams;
mod timer;
mod wasi;

pub use foreign::Condition;
pub(crate) use foreign::{Declared, Expressions, decode_arguments};
use wasmtime::{ExternType, FuncType, Linker, Module, UnknownImportError, Val, ValType};

use crate::abi::AbiVersion;
use crate::host_state::HostState;
use crate::module::CompileError;
use crate::stream::StreamHost;

/// Where the ABI's own functions are imported from.
const ENV: &str = "env";

/// A linker with all host functions of this version of the ABI. Those that came or went with a version are there for
/// all, since a filter that asks for one can use it; but `get_configuration` means something only in 0.1.0.
pub(crate) fn linker<H: StreamHost>(module: &Module, abi: AbiVersion) -> wasmtime::Result<Linker<HostState<H>>> {
    let mut linker = Linker::new(module.engine());
    buffers::link(&mut linker)?;
    if abi == AbiVersion::V0_1_0 {
        buffers::link_configuration(&mut linker)?;
    }
    contexts::link(&mut linker)?;
    foreign::link(&mut linker)?;
    grpc::link(&mut linker)?;
    headers::link(&mut linker)?;
    http_call::link(&mut linker)?;
    log::link(&mut linker)?;
    metrics::link(&mut linker)?;
    properties::link(&mut linker)?;
    redis::link(&mut linker)?;
    shared::link(&mut linker)?;
    streams::link(&mut linker)?;
    timer::link(&mut linker)?;
    wasi::link(&mut linker)?;
    Ok(linker)
}

/// Looks at what the module imports.
pub(crate) fn check_imports(module: &Module, abi: AbiVersion) -> Result<(), CompileError> {
    let mut linker = linker::<()>(module, abi).map_err(CompileError::Invalid)?;
    let mut names = Vec::new();
    // Linking stops at the first unknown import. Each is given a stand-in to find the next, so that all are named.
    while let Err(error) = linker.instantiate_pre(module) {
        let unknown = error.downcast::<UnknownImportError>().map_err(|error| wrong_import(module, &error))?;
        names.push(format!("{}.{}", unknown.module(), unknown.name()));
        let ExternType::Func(ty) = unknown.ty() else { break };
        let stand_in = linker.func_new(unknown.module(), unknown.name(), ty, |_, _, _| Ok(())).map(drop);
        stand_in.map_err(CompileError::Invalid)?;
    }
    if names.is_empty() { Ok(()) } else { Err(CompileError::UnknownImports { names }) }
}

/// An import whose type is not the host's, named from wasmtime's text.
fn wrong_import(module: &Module, error: &wasmtime::Error) -> CompileError {
    let text = format!("{error:#}");
    let named = module.imports().find(|import| text.contains(&format!("`{}::{}`", import.module(), import.name())));
    let name = named.map_or_else(|| "import".to_owned(), |import| format!("{}.{}", import.module(), import.name()));
    CompileError::WrongType { name, reason: text }
}

/// Links a function that takes `params` (`i` is i32, `I` is i64) and always answers the same.
fn link_constant<H: StreamHost>(
    linker: &mut Linker<HostState<H>>,
    module: &str,
    name: &str,
    params: &str,
    answer: u32,
) -> wasmtime::Result<()> {
    let params = params.bytes().map(|param| if param == b'I' { ValType::I64 } else { ValType::I32 });
    let ty = FuncType::new(linker.engine(), params, [ValType::I32]);
    linker.func_new(module, name, ty, move |_, _, results| {
        results[0] = Val::I32(answer.cast_signed());
        Ok(())
    })?;
    Ok(())
}
