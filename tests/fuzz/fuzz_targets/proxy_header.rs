//! The first bytes of a connection as a header of the PROXY protocol.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portolan_fuzz::proxy_header(data));
