//! The part of WASI that toolchains make every module import, as `wasi_snapshot_preview1` and `wasi_unstable`.
//!
//! No files, no arguments, no host environment, no sleeping: standard output and error go to the log, the environment
//! is the plugin's configuration.

use rand::RngCore;
use wasmtime::{Caller, Linker};

use super::timer::unix_nanoseconds;
use super::{ENV, link_constant};
use crate::abi::{LogLevel, Status};
use crate::guest::{bytes, early_view, write, write_u32, write_u64};
use crate::host_state::HostState;
use crate::stream::StreamHost;
use crate::trap::ProcExit;

const MODULES: [&str; 2] = ["wasi_snapshot_preview1", "wasi_unstable"];

/// WASI's error numbers.
const BADF: u32 = 8;
const FAULT: u32 = 21;
const INVAL: u32 = 28;
const NOENT: u32 = 44;
const NOSYS: u32 = 52;
const NOTSUP: u32 = 58;

/// Most random bytes of one call.
const MAX_RANDOM: u32 = 64 * 1024;

/// Most pieces of one write.
const MAX_PIECES: u32 = 1024;

/// Most bytes taken from one write: the guest is told how many they were and writes the rest again.
const MAX_LINE: usize = 64 * 1024;

/// Functions that only answer with a number: name, parameters, answer.
const CONSTANT: [(&str, &str, u32); 36] = [
    ("args_get", "ii", 0),
    ("fd_advise", "iIIi", BADF),
    ("fd_allocate", "iII", BADF),
    ("fd_close", "i", 0),
    ("fd_datasync", "i", BADF),
    ("fd_fdstat_set_flags", "ii", NOSYS),
    ("fd_fdstat_set_rights", "iII", BADF),
    ("fd_filestat_get", "ii", BADF),
    ("fd_filestat_set_size", "iI", BADF),
    ("fd_filestat_set_times", "iIIi", BADF),
    ("fd_pread", "iiiIi", BADF),
    ("fd_prestat_dir_name", "iii", NOSYS),
    ("fd_prestat_get", "ii", BADF),
    ("fd_pwrite", "iiiIi", BADF),
    ("fd_read", "iiii", NOSYS),
    ("fd_readdir", "iiiIi", BADF),
    ("fd_renumber", "ii", BADF),
    ("fd_seek", "iIii", 0),
    ("fd_sync", "i", BADF),
    ("fd_tell", "ii", NOTSUP),
    ("path_create_directory", "iii", NOENT),
    ("path_filestat_get", "iiiii", NOTSUP),
    ("path_filestat_set_times", "iiiiIIi", NOENT),
    ("path_link", "iiiiiii", NOENT),
    ("path_open", "iiiiiIIii", NOENT),
    ("path_readlink", "iiiiii", NOENT),
    ("path_remove_directory", "iii", NOENT),
    ("path_rename", "iiiiii", NOENT),
    ("path_symlink", "iiiii", NOENT),
    ("path_unlink_file", "iii", NOENT),
    ("proc_raise", "i", NOSYS),
    ("sched_yield", "", 0),
    ("sock_accept", "iii", NOSYS),
    ("sock_recv", "iiiiii", NOSYS),
    ("sock_send", "iiiii", NOSYS),
    ("sock_shutdown", "ii", NOSYS),
];

pub(super) fn link<H: StreamHost>(linker: &mut Linker<HostState<H>>) -> wasmtime::Result<()> {
    for module in MODULES {
        for (name, params, answer) in CONSTANT {
            link_constant(linker, module, name, params, answer)?;
        }
        link_environment(linker, module)?;
        link_clocks(linker, module)?;
        link_descriptors(linker, module)?;
        linker.func_wrap(module, "proc_exit", |code: u32| -> wasmtime::Result<()> { Err(ProcExit(code).into()) })?;
    }
    // Emscripten's modules import these two beside WASI.
    linker.func_wrap(ENV, "emscripten_notify_memory_growth", |_memory: u32| {})?;
    linker.func_wrap(ENV, "pthread_equal", |one: u32, other: u32| u32::from(one == other))?;
    Ok(())
}

fn link_environment<H: StreamHost>(linker: &mut Linker<HostState<H>>, module: &str) -> wasmtime::Result<()> {
    linker.func_wrap(module, "args_sizes_get", |mut caller: Caller<'_, HostState<H>>, count: u32, size: u32| {
        serve(&mut caller, |memory, _| {
            write_u32(memory, count, 0)?;
            write_u32(memory, size, 0)?;
            Ok(0)
        })
    })?;
    linker.func_wrap(module, "environ_sizes_get", |mut caller: Caller<'_, HostState<H>>, count: u32, size: u32| {
        serve(&mut caller, |memory, state| {
            let env = &state.settings.env;
            let bytes: usize = env.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
            write_u32(memory, count, env.len() as u32)?;
            write_u32(memory, size, bytes as u32)?;
            Ok(0)
        })
    })?;
    linker.func_wrap(module, "environ_get", |mut caller: Caller<'_, HostState<H>>, pointers: u32, texts: u32| {
        serve(&mut caller, |memory, state| write_environment(memory, &state.settings.env, pointers, texts))
    })?;
    Ok(())
}

fn link_clocks<H: StreamHost>(linker: &mut Linker<HostState<H>>, module: &str) -> wasmtime::Result<()> {
    linker.func_wrap(
        module,
        "clock_time_get",
        |mut caller: Caller<'_, HostState<H>>, clock: u32, _precision: u64, out: u32| {
            serve(&mut caller, |memory, state| {
                let time = match clock {
                    0 => unix_nanoseconds(),
                    1 => u64::try_from(state.started.elapsed().as_nanos()).unwrap_or(u64::MAX),
                    _ => return Ok(NOTSUP),
                };
                write_u64(memory, out, time)?;
                Ok(0)
            })
        },
    )?;
    linker.func_wrap(module, "clock_res_get", |mut caller: Caller<'_, HostState<H>>, clock: u32, out: u32| {
        serve(&mut caller, |memory, _| {
            if clock > 1 {
                return Ok(NOTSUP);
            }
            write_u64(memory, out, 1)?;
            Ok(0)
        })
    })?;
    linker.func_wrap(module, "random_get", |mut caller: Caller<'_, HostState<H>>, address: u32, length: u32| {
        serve(&mut caller, |memory, _| {
            if length > MAX_RANDOM {
                return Ok(INVAL);
            }
            let end = address as usize + length as usize;
            let slot = memory.get_mut(address as usize..end).ok_or(Status::InvalidMemoryAccess)?;
            rand::rng().fill_bytes(slot);
            Ok(0)
        })
    })?;
    // Says that nothing has happened, at once: a guest that wants to sleep does not stop the worker.
    linker.func_wrap(
        module,
        "poll_oneoff",
        |mut caller: Caller<'_, HostState<H>>, _wanted: u32, _events: u32, _count: u32, out: u32| {
            serve(&mut caller, |memory, _| {
                write_u32(memory, out, 0)?;
                Ok(0)
            })
        },
    )?;
    Ok(())
}

fn link_descriptors<H: StreamHost>(linker: &mut Linker<HostState<H>>, module: &str) -> wasmtime::Result<()> {
    linker.func_wrap(
        module,
        "fd_write",
        |mut caller: Caller<'_, HostState<H>>, descriptor: u32, pieces: u32, count: u32, out: u32| {
            serve(&mut caller, |memory, state| {
                let level = match descriptor {
                    1 => LogLevel::Info,
                    2 => LogLevel::Error,
                    _ => return Ok(BADF),
                };
                if count > MAX_PIECES {
                    return Ok(INVAL);
                }
                let (line, written) = gather(memory, pieces, count)?;
                if !line.is_empty() && state.log.wants(level) {
                    state.log.write(level, &line);
                }
                write_u32(memory, out, written)?;
                Ok(0)
            })
        },
    )?;
    // File type 2 is a character device; no flags; the right to write only.
    linker.func_wrap(module, "fd_fdstat_get", |mut caller: Caller<'_, HostState<H>>, descriptor: u32, out: u32| {
        serve(&mut caller, |memory, _| {
            if descriptor != 1 && descriptor != 2 {
                return Ok(BADF);
            }
            write_u64(memory, out, 2)?;
            write_u64(memory, out.saturating_add(8), 64)?;
            write_u64(memory, out.saturating_add(16), 0)?;
            Ok(0)
        })
    })?;
    Ok(())
}

/// Runs a WASI function: like the ABI's own, but with WASI's error numbers.
fn serve<H>(
    caller: &mut Caller<'_, HostState<H>>,
    run: impl FnOnce(&mut [u8], &mut HostState<H>) -> Result<u32, Status>,
) -> u32 {
    early_view(caller).and_then(|(memory, state)| run(memory, state)).unwrap_or(FAULT)
}

fn write_environment(
    memory: &mut [u8],
    env: &[(String, String)],
    mut pointers: u32,
    mut texts: u32,
) -> Result<u32, Status> {
    for (name, value) in env {
        let entry = [name.as_bytes(), b"=", value.as_bytes(), b"\0"].concat();
        write_u32(memory, pointers, texts)?;
        write(memory, texts, &entry)?;
        pointers = pointers.checked_add(4).ok_or(Status::InvalidMemoryAccess)?;
        texts = texts.checked_add(entry.len() as u32).ok_or(Status::InvalidMemoryAccess)?;
    }
    Ok(0)
}

/// The pieces of a write as one line, and how many bytes were taken. An empty piece may point anywhere, as in Envoy.
fn gather(memory: &[u8], pieces: u32, count: u32) -> Result<(Vec<u8>, u32), Status> {
    let mut line = Vec::new();
    for piece in bytes(memory, pieces, count * 8)?.chunks_exact(8) {
        let number = |at: usize| u32::from_le_bytes([piece[at], piece[at + 1], piece[at + 2], piece[at + 3]]);
        if number(4) > 0 {
            let text = bytes(memory, number(0), number(4))?;
            line.extend_from_slice(&text[..text.len().min(MAX_LINE - line.len())]);
        }
    }
    let written = line.len() as u32;
    Ok((line, written))
}
