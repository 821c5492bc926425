//! What the guest remembers: its contexts, the scripts of callbacks without a stream, and the last values of the host.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::calls;

/// One stream.
#[derive(Default)]
pub(crate) struct Context {
    /// What the request wants to be called in the log.
    pub(crate) name: String,
    /// What it asks for.
    pub(crate) script: String,
    /// What was seen so far.
    pub(crate) saw: String,
}

#[derive(Default)]
struct State {
    contexts: HashMap<i32, Context>,
    root_script: String,
    allocator_script: Option<String>,
    last: i32,
    root: i32,
    kept: i64,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::new(State::default());
}

pub(crate) fn open(id: i32, _parent: i32) {
    STATE.with_borrow_mut(|state| state.contexts.insert(id, Context::default()));
}

pub(crate) fn open_root(id: i32) {
    STATE.with_borrow_mut(|state| state.root = id);
}

pub(crate) fn close(id: i32) -> Option<Context> {
    STATE.with_borrow_mut(|state| state.contexts.remove(&id))
}

pub(crate) fn with_context<R>(id: i32, run: impl FnOnce(&mut Context) -> R) -> Option<R> {
    STATE.with_borrow_mut(|state| state.contexts.get_mut(&id).map(run))
}

/// Later scripts come first, so that a request can replace what an earlier one has asked for.
pub(crate) fn add_root_script(text: &str) {
    STATE.with_borrow_mut(|state| state.root_script = format!("{text} {}", state.root_script));
}

/// The script of a stream's callback, or of one without a stream.
pub(crate) fn script_of(id: i32, phase: &str) -> Option<String> {
    STATE.with_borrow(|state| {
        let text = state.contexts.get(&id).map_or(&state.root_script, |context| &context.script);
        let text = if phase == "context_create" { &state.root_script } else { text };
        block(text, phase)
    })
}

/// Keeps what a callback saw, or logs it where there is no stream.
pub(crate) fn told(id: i32, saw: &str) {
    let add = |context: &mut Context| {
        let saw = if context.saw.is_empty() { saw.to_owned() } else { format!("{} | {saw}", context.saw) };
        context.saw = saw;
    };
    if with_context(id, add).is_none() {
        calls::log(&format!("probe root | {saw} ||"));
    }
}

pub(crate) fn set_last(id: i32) {
    STATE.with_borrow_mut(|state| state.last = id);
}

/// The stream that came last to this VM.
pub(crate) fn last() -> i32 {
    STATE.with_borrow(|state| state.last)
}

pub(crate) fn root() -> i32 {
    STATE.with_borrow(|state| state.root)
}

/// A number kept from one callback to the next.
pub(crate) fn kept() -> i64 {
    STATE.with_borrow(|state| state.kept)
}

pub(crate) fn keep(value: i64) {
    STATE.with_borrow_mut(|state| state.kept = value);
}

/// What the allocator does once, the next time that it is asked.
pub(crate) fn set_allocator_script(text: &str) {
    STATE.with_borrow_mut(|state| state.allocator_script = Some(text.to_owned()));
}

pub(crate) fn take_allocator_script() -> Option<String> {
    STATE.with_borrow_mut(|state| state.allocator_script.take())
}

/// The text between the braces after a name; braces may be nested.
pub(crate) fn block(text: &str, name: &str) -> Option<String> {
    let mut from = 0;
    loop {
        let at = from + text[from..].find(name)?;
        from = at + name.len();
        let whole_word = at == 0 || !text.as_bytes()[at - 1].is_ascii_alphanumeric() && text.as_bytes()[at - 1] != b'_';
        let Some(rest) = text[from..].trim_start().strip_prefix('{').filter(|_| whole_word) else { continue };
        let mut depth = 1;
        for (end, c) in rest.char_indices() {
            depth += match c {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            if depth == 0 {
                return Some(rest[..end].to_owned());
            }
        }
        return None;
    }
}
