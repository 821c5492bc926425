//! The guest's memory: reading arguments, handing out answers. Pointers are the guest's and never trusted.

use std::mem;

use wasmtime::{AsContextMut, Caller, Extern};

use crate::abi::Status;
use crate::host_state::HostState;

/// What a host function answers before it becomes a number.
pub(crate) type Answer = Result<(), Status>;

/// Scratch space beyond this is given back after use.
const MAX_SCRATCH: usize = 64 * 1024;

/// Where the guest wants an answer's address and length.
#[derive(Clone, Copy)]
pub(crate) struct Out {
    pub(crate) pointer: u32,
    pub(crate) length: u32,
}

/// Runs a host function on the guest's memory and the host's state.
pub(crate) fn serve<H>(
    caller: &mut Caller<'_, HostState<H>>,
    run: impl FnOnce(&mut [u8], &mut HostState<H>) -> Answer,
) -> u32 {
    let answer = view(caller).and_then(|(memory, state)| run(memory, state));
    answer.err().unwrap_or(Status::Ok).into()
}

/// The same for a function that a guest may call while its initialisers run.
pub(crate) fn serve_early<H>(
    caller: &mut Caller<'_, HostState<H>>,
    run: impl FnOnce(&mut [u8], &mut HostState<H>) -> Answer,
) -> u32 {
    let answer = early_view(caller).and_then(|(memory, state)| run(memory, state));
    answer.err().unwrap_or(Status::Ok).into()
}

/// Runs a host function that fills in a value, and hands the value to the guest. An error is the guest's own trap.
pub(crate) fn answer<H>(
    caller: &mut Caller<'_, HostState<H>>,
    out: Out,
    run: impl FnOnce(&mut [u8], &mut HostState<H>, &mut Vec<u8>) -> Answer,
) -> wasmtime::Result<u32> {
    let mut value = mem::take(&mut caller.data_mut().scratch);
    let filled = view(caller).and_then(|(memory, state)| run(memory, state, &mut value));
    let status = match filled {
        Ok(()) => give(caller, &value, out)?,
        Err(status) => status,
    };
    if value.capacity() <= MAX_SCRATCH {
        value.clear();
        caller.data_mut().scratch = value;
    }
    Ok(status.into())
}

/// The guest's memory and the host's state at once. While the guest's initialisers run there is no view: the call is
/// noted, and the start is refused for it, as in Envoy.
pub(crate) fn view<'a, H>(
    caller: &'a mut Caller<'_, HostState<H>>,
) -> Result<(&'a mut [u8], &'a mut HostState<H>), Status> {
    let Some(memory) = caller.data().memory else {
        caller.data_mut().called_early = true;
        return Err(Status::Unimplemented);
    };
    Ok(memory.data_and_store_mut(caller))
}

/// The same view, for logging and WASI, which initialisers may use.
pub(crate) fn early_view<'a, H>(
    caller: &'a mut Caller<'_, HostState<H>>,
) -> Result<(&'a mut [u8], &'a mut HostState<H>), Status> {
    let memory = match caller.data().memory {
        Some(memory) => memory,
        None => {
            let found = caller.get_export("memory").and_then(Extern::into_memory);
            found.or(caller.data().early_memory).ok_or(Status::InvalidMemoryAccess)?
        }
    };
    Ok(memory.data_and_store_mut(caller))
}

/// The guest's bytes at an address.
pub(crate) fn bytes(memory: &[u8], address: u32, length: u32) -> Result<&[u8], Status> {
    let end = address as usize + length as usize;
    memory.get(address as usize..end).ok_or(Status::InvalidMemoryAccess)
}

/// Writes bytes to an address.
pub(crate) fn write(memory: &mut [u8], address: u32, value: &[u8]) -> Answer {
    let slot = memory.get_mut(address as usize..).and_then(|rest| rest.get_mut(..value.len()));
    slot.ok_or(Status::InvalidMemoryAccess)?.copy_from_slice(value);
    Ok(())
}

/// Writes a number to an address.
pub(crate) fn write_u32(memory: &mut [u8], address: u32, value: u32) -> Answer {
    write(memory, address, &value.to_le_bytes())
}

/// Writes a number to an address.
pub(crate) fn write_u64(memory: &mut [u8], address: u32, value: u64) -> Answer {
    write(memory, address, &value.to_le_bytes())
}

/// Copies a value into memory that the guest's allocator gives, and tells the guest where. An empty value is address
/// 0 and length 0 without an allocation. A guest that does not want to know gives 0 for both of its pointers; one of them
/// may be address 0, which is an address like any other.
fn give<H>(caller: &mut Caller<'_, HostState<H>>, value: &[u8], out: Out) -> wasmtime::Result<Status> {
    let wanted = out.pointer != 0 || out.length != 0;
    if let Some(area) = caller.data().area
        && wanted
        && !value.is_empty()
    {
        let given = view(caller).and_then(|(memory, _)| match area.take(memory, value.len())? {
            Some(address) => hand_over(memory, address, value, out).map(|()| true),
            None => Ok(false),
        });
        match given {
            Ok(true) => return Ok(Status::Ok),
            Ok(false) => {}
            Err(status) => return Ok(status),
        }
    }
    let address = if value.is_empty() || !wanted {
        0
    } else {
        match allocate(caller, value.len())? {
            Ok(address) => address,
            Err(status) => return Ok(status),
        }
    };
    let written = view(caller).and_then(|(memory, _)| hand_over(memory, address, value, out));
    Ok(written.err().unwrap_or(Status::Ok))
}

fn hand_over(memory: &mut [u8], address: u32, value: &[u8], out: Out) -> Answer {
    if address != 0 {
        write(memory, address, value)?;
    }
    if out.pointer == 0 && out.length == 0 {
        return Ok(());
    }
    write_u32(memory, out.pointer, address)?;
    write_u32(memory, out.length, value.len() as u32)
}

/// The scratch area of a guest on our SDK, which exports `portolan_scratch`: values are put there without asking the
/// guest's allocator, since a call into the guest costs more than the value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Area {
    pub(crate) base: u32,
    pub(crate) size: u32,
    /// Address of the number of bytes in use, which the guest sets back to 0 when a callback ends.
    pub(crate) used: u32,
}

impl Area {
    /// Address of `length` bytes; none when they do not fit. The guest's numbers are checked like any pointer when they
    /// are used.
    fn take(self, memory: &mut [u8], length: usize) -> Result<Option<u32>, Status> {
        let used = bytes(memory, self.used, 4)?;
        let used = u32::from_le_bytes([used[0], used[1], used[2], used[3]]);
        let Ok(length) = u32::try_from(length) else { return Ok(None) };
        let Some(free) = self.size.checked_sub(used).filter(|free| *free >= length) else { return Ok(None) };
        let taken = length.next_multiple_of(8).min(free);
        write_u32(memory, self.used, used + taken)?;
        Ok(self.base.checked_add(used))
    }
}

/// Asks the guest for memory. Its allocator's handle is away while it runs: host functions that the allocator calls get
/// no second allocation, else the two could call each other without end.
fn allocate<H>(caller: &mut Caller<'_, HostState<H>>, length: usize) -> wasmtime::Result<Result<u32, Status>> {
    let Ok(length) = u32::try_from(length) else { return Ok(Err(Status::InternalFailure)) };
    let Some(malloc) = caller.data_mut().malloc.take() else { return Ok(Err(Status::InternalFailure)) };
    let address = malloc.call(caller.as_context_mut(), length)?;
    caller.data_mut().malloc = Some(malloc);
    Ok(if address == 0 { Err(Status::InvalidMemoryAccess) } else { Ok(address) })
}
