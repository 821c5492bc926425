//! For the fuzzer: everything that reads bytes which a guest has written.

use crate::abi::{pairs, protobuf};
use crate::hostcalls;

/// Runs each decoder over the bytes; the pair codec must give back what it is given.
pub fn decode(data: &[u8]) {
    if let Some(list) = pairs::decode(data) {
        let mut bytes = Vec::new();
        pairs::encode(&list, &mut bytes);
        assert_eq!(pairs::decode(&bytes), Some(list));
    }
    protobuf::read(data, |_, _| {});
    hostcalls::decode_arguments(data);
}
