//! The guest's memory as the host uses it: blocks that it asked for, and places where it writes its answers.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most memory that is kept for the host's answers. Older blocks are given back.
const MOST_BLOCKS: usize = 64;

thread_local! {
    static BLOCKS: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Where host functions write numbers, addresses and lengths.
static PLACES: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];

/// Gives the host memory of this size.
pub(crate) fn allocate(size: usize) -> i32 {
    let block = vec![0_u8; size].into_boxed_slice();
    let address = block.as_ptr() as usize as i32;
    BLOCKS.with_borrow_mut(|blocks| {
        if blocks.len() == MOST_BLOCKS {
            blocks.remove(0);
        }
        blocks.push(block);
    });
    address
}

/// What the host has put at an address that it was given.
pub(crate) fn read(address: u32, length: u32) -> String {
    if length == 0 {
        return String::new();
    }
    let length = length as usize;
    BLOCKS.with_borrow(|blocks| {
        let mut found = blocks.iter().rev().filter(|block| block.as_ptr() as usize as u32 == address);
        match found.find(|block| block.len() >= length) {
            Some(block) => block[..length].iter().map(|byte| shown(*byte)).collect(),
            None => format!("<{length} bytes at {address}>"),
        }
    })
}

/// A byte as it can stand in a header: what is not plain text becomes `\xNN`.
fn shown(byte: u8) -> String {
    if (0x20..0x7f).contains(&byte) { char::from(byte).to_string() } else { format!("\\x{byte:02x}") }
}

/// Address of a place, set to 0.
pub(crate) fn place(number: usize) -> i32 {
    let place = &PLACES[number % PLACES.len()];
    place.store(0, Ordering::SeqCst);
    place.as_ptr() as usize as i32
}

/// What is at a place.
pub(crate) fn at(number: usize) -> u64 {
    PLACES[number % PLACES.len()].load(Ordering::SeqCst)
}
