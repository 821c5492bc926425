//! Any routes and requests through the matcher.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portolan_fuzz::matcher::matcher(data));
