//! The language of the scripts: host functions by name, with their arguments as the ABI has them.
//!
//! `NAME ARGUMENTS; NAME ARGUMENTS`. Arguments: a number; `'text'`, its address and length (`\xNN` is a byte);
//! `[a=b,c=d]`, address and length of serialised pairs; `&`, where the host writes a number of 4 bytes, `&8` of 8;
//! `&&`, where it writes address and length of a value; `$id`, `$root`, `$last` (the stream that came last), `$out` (the
//! last number written to a `&`), `$kept`. What was seen is `NAME=STATUS` with `:VALUE` for each `&`.
//!
//! Beside host functions: `return N`, `spin`, `trap`, `grow PAGES`, `bomb`, `recurse`, `exit N`, `keep` (`$out` as `$kept`),
//! `is` (writes its arguments down), `times N { .. }`, `allocator { .. }` (what the allocator does when it is asked next).

use crate::{calls, memory, state};

/// Runs statements; what they saw, and what they want the callback to answer.
pub(crate) fn run(text: &str, id: i32) -> (String, Option<i32>) {
    let (mut saw, mut answer) = (Vec::new(), None);
    for statement in statements(text) {
        let (name, rest) = statement.split_once(' ').unwrap_or((statement, ""));
        match name {
            "return" => answer = rest.trim().parse().ok(),
            "keep" => state::keep(calls::last_number()),
            "allocator" => state::set_allocator_script(&state::block(statement, "allocator").unwrap_or_default()),
            "times" => {
                let count = rest.trim().split(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0_u32);
                let (_, body) = rest.split_once('{').unwrap_or_default();
                let body = body.trim_end().trim_end_matches('}');
                let mut last = String::new();
                for _ in 0..count {
                    last = run(body, id).0;
                }
                saw.push(format!("{count} times, last {last}"));
            }
            _ if crime(name, rest) => {}
            _ => saw.push(call(name, rest, id)),
        }
    }
    (saw.join(" "), answer)
}

/// What no good filter does.
fn crime(name: &str, rest: &str) -> bool {
    let number = || rest.trim().parse::<usize>().unwrap_or(0);
    match name {
        "spin" => loop {
            std::hint::black_box(0);
        },
        "trap" => panic!("asked to trap"),
        "exit" => std::process::exit(number() as i32),
        "recurse" => {
            std::hint::black_box(descend(1));
        }
        "bomb" => {
            let mut all = Vec::new();
            loop {
                all.push(std::hint::black_box(vec![1_u8; 1 << 20]));
            }
        }
        "grow" => {
            std::hint::black_box(Vec::<u8>::with_capacity(number() * 65_536));
        }
        _ => return false,
    }
    true
}

fn descend(depth: u64) -> u64 {
    let here = std::hint::black_box([depth; 16]);
    if depth == u64::MAX { here[3] } else { descend(depth + 1) + here[7] }
}

/// One call of a host function.
fn call(name: &str, rest: &str, id: i32) -> String {
    let mut arguments = Arguments { values: Vec::new(), texts: Vec::new(), outs: Vec::new() };
    for word in words(rest) {
        arguments.push(&word, id);
    }
    if name == "is" {
        let values = arguments.values.iter().map(i64::to_string).collect::<Vec<_>>();
        return values.join(",");
    }
    match calls::call(name, &arguments.values) {
        Some(status) => format!("{name}={status}{}", arguments.answers()),
        None => format!("{name}=?"),
    }
}

/// What the host may write, by the number of its place.
enum Out {
    Number(usize),
    Long(usize),
    Value(usize),
}

struct Arguments {
    values: Vec<i64>,
    /// Kept until the call is over.
    texts: Vec<Vec<u8>>,
    outs: Vec<Out>,
}

impl Arguments {
    fn push(&mut self, word: &str, id: i32) {
        let places = self.outs.iter().map(|out| if matches!(out, Out::Value(_)) { 2 } else { 1 }).sum();
        match word {
            "&" => {
                self.values.push(memory::place(places).into());
                self.outs.push(Out::Number(places));
            }
            "&8" => {
                self.values.push(memory::place(places).into());
                self.outs.push(Out::Long(places));
            }
            "&&" => {
                self.values.push(memory::place(places).into());
                self.values.push(memory::place(places + 1).into());
                self.outs.push(Out::Value(places));
            }
            "$id" => self.values.push(id.into()),
            "$root" => self.values.push(state::root().into()),
            "$last" => self.values.push(state::last().into()),
            "$out" => self.values.push(calls::last_number()),
            "$kept" => self.values.push(state::kept()),
            _ if word.starts_with('\'') => self.text(unescaped(word.trim_matches('\''))),
            _ if word.starts_with('[') => self.text(pairs(word.trim_matches(['[', ']']))),
            _ => self.values.push(word.parse().unwrap_or(-77)),
        }
    }

    fn text(&mut self, text: Vec<u8>) {
        self.values.push(i64::from(text.as_ptr() as usize as u32));
        self.values.push(text.len() as i64);
        self.texts.push(text);
    }

    fn answers(&self) -> String {
        let mut answers = String::new();
        for out in &self.outs {
            let answer = match out {
                Out::Number(place) => {
                    let number = memory::at(*place) as u32;
                    calls::set_last_number(number.into());
                    number.to_string()
                }
                Out::Long(place) => memory::at(*place).to_string(),
                Out::Value(place) => memory::read(memory::at(*place) as u32, memory::at(place + 1) as u32),
            };
            answers = format!("{answers}:{answer}");
        }
        answers
    }
}

/// The pieces between semicolons outside of quotes and braces.
fn statements(text: &str) -> Vec<&str> {
    parted(text, ';').into_iter().map(str::trim).filter(|statement| !statement.is_empty()).collect()
}

fn words(text: &str) -> Vec<String> {
    parted(text, ' ').into_iter().filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn parted(text: &str, by: char) -> Vec<&str> {
    let (mut pieces, mut from, mut quoted, mut depth) = (Vec::new(), 0, false, 0);
    for (at, c) in text.char_indices() {
        match c {
            '\'' => quoted = !quoted,
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ if c == by && !quoted && depth == 0 => {
                pieces.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    pieces.push(&text[from..]);
    pieces
}

/// `\xNN` is a byte.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut pieces = text.split("\\x");
    bytes.extend_from_slice(pieces.next().unwrap_or_default().as_bytes());
    for piece in pieces {
        bytes.push(u8::from_str_radix(piece.get(..2).unwrap_or("00"), 16).unwrap_or(0));
        bytes.extend_from_slice(piece.get(2..).unwrap_or_default().as_bytes());
    }
    bytes
}

/// `a=b,c=d` as the ABI writes pairs down.
fn pairs(text: &str) -> Vec<u8> {
    let pairs: Vec<_> = text.split(',').filter_map(|pair| pair.split_once('=')).collect();
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| (unescaped(name), unescaped(value))).collect();
    let mut bytes = (pairs.len() as u32).to_le_bytes().to_vec();
    for (name, value) in &pairs {
        bytes.extend_from_slice(&(name.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
    }
    for (name, value) in &pairs {
        for part in [name, value] {
            bytes.extend_from_slice(part);
            bytes.push(0);
        }
    }
    bytes
}
