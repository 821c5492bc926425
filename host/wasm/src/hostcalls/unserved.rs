//! Functions of the ABI that the host knows and does not serve yet: calls to other hosts. They answer UNIMPLEMENTED.

use wasmtime::{Linker, Module};

use super::{ENV, link_constant};
use crate::abi::Status;
use crate::host_state::HostState;
use crate::stream::StreamHost;

/// Name and parameters.
const UNSERVED: [(&str, &str); 6] = [
    ("proxy_http_call", "iiiiiiiiii"),
    ("proxy_grpc_call", "iiiiiiiiiiii"),
    ("proxy_grpc_stream", "iiiiiiiii"),
    ("proxy_grpc_send", "iiii"),
    ("proxy_grpc_cancel", "i"),
    ("proxy_grpc_close", "i"),
];

pub(super) fn link<H: StreamHost>(linker: &mut Linker<HostState<H>>) -> wasmtime::Result<()> {
    for (name, params) in UNSERVED {
        link_constant(linker, ENV, name, params, Status::Unimplemented.into())?;
    }
    Ok(())
}

/// Those that a module imports.
pub(super) fn imported(module: &Module) -> Vec<String> {
    let names = module.imports().filter(|import| import.module() == ENV).map(|import| import.name());
    names.filter(|name| UNSERVED.iter().any(|(unserved, _)| unserved == name)).map(str::to_owned).collect()
}
