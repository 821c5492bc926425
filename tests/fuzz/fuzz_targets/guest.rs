//! Bytes of a guest through all that reads them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portolan_fuzz::guest(data));
