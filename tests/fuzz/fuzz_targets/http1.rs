//! Any bytes of a client past the guard of HTTP/1.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portolan_fuzz::http1::http1(data));
