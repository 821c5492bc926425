//! Instances whose calls of the host are watched: for strict mode and for the trace. Each import is wrapped when the
//! instance is made, so that filters pay for it only where it is on.

use std::sync::Arc;

use wasmtime::{Extern, Func, Instance, Module, Store, Val};

use crate::abi::AbiVersion;
use crate::host_state::HostState;
use crate::hostcalls;
use crate::stream::StreamHost;
use crate::strict;
use crate::trace;

/// Makes an instance whose calls are watched.
pub(crate) fn instantiate<H: StreamHost>(
    module: &Module,
    abi: AbiVersion,
    store: &mut Store<HostState<H>>,
) -> wasmtime::Result<Instance> {
    let linker = hostcalls::linker::<H>(module, abi)?;
    let mut imports = Vec::new();
    for import in module.imports() {
        imports.push(match linker.get(&mut *store, import.module(), import.name())? {
            Extern::Func(function) => watched(store, function, import.name()).into(),
            other => other,
        });
    }
    Instance::new(store, module, &imports)
}

/// The function with a look at what it is asked and what it answers.
fn watched<H: StreamHost>(store: &mut Store<HostState<H>>, function: Func, name: &str) -> Func {
    let (ty, name) = (function.ty(&*store), Arc::<str>::from(name));
    let is_strict = store.data().settings.strict;
    let known = trace::function(&name);
    Func::new(store, ty, move |mut caller, params, results| {
        if caller.data().memory.is_none() {
            let memory = caller.get_export("memory").and_then(Extern::into_memory);
            caller.data_mut().early_memory = memory;
        }
        let place = trace::note_call(&mut caller, &name, known, params);
        let called = function.call(&mut caller, params, results);
        trace::leave_call(&mut caller, place, known, params, called.is_ok().then_some(&*results));
        called?;
        if let Some(Val::I32(answer)) = results.first()
            && *answer != 0
            && is_strict
        {
            let answer = answer.cast_unsigned();
            strict::look(&mut caller, &name, params, answer);
        }
        Ok(())
    })
}
