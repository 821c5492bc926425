//! Strict mode: which calls of a filter are not honoured.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use wasmtime::{Caller, Memory, Val};

use crate::abi::Status;
use crate::attributes;
use crate::host_state::HostState;
use crate::meter::Callback;
use crate::stream::StreamHost;

/// Most different reasons that one VM counts; the rest is counted as [`OTHERS`].
const MAX_REASONS: usize = 256;

/// What is counted when there are too many reasons.
const OTHERS: &str = "others";

/// Most different reasons of the process that are logged.
const MAX_REPORTED: usize = 1_000;

/// Longest name of a property or function that is shown, in characters.
const MAX_NAME: usize = 100;

/// Reasons with their counts, in the order in which they came up.
#[derive(Debug, Default)]
pub(crate) struct Unhonoured(Vec<(String, u64)>);

/// What has been logged, by plugin and reason: once for the process, however many VMs there are.
#[derive(Debug, Default)]
pub(crate) struct Reported(Mutex<HashSet<(String, String)>>);

impl Unhonoured {
    /// The counts so far.
    pub(crate) fn counts(&self) -> Vec<(String, u64)> {
        self.0.clone()
    }

    fn count(&mut self, reason: &str) {
        let reason =
            if self.0.len() < MAX_REASONS || self.0.iter().any(|(known, _)| known == reason) { reason } else { OTHERS };
        match self.0.iter_mut().find(|(known, _)| known == reason) {
            Some((_, count)) => *count += 1,
            None => self.0.push((reason.to_owned(), 1)),
        }
    }
}

impl Reported {
    /// True the first time.
    fn is_new(&self, plugin: &str, reason: &str) -> bool {
        let mut reported = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reported.len() < MAX_REPORTED && reported.insert((plugin.to_owned(), reason.to_owned()))
    }
}

/// Counts an answer that is a refusal, and logs it when it is a new one.
pub(crate) fn look<H: StreamHost>(caller: &mut Caller<'_, HostState<H>>, name: &str, params: &[Val], answer: u32) {
    let memory = caller.data().memory;
    let Some(reason) = reason(caller, memory, name, params, answer) else { return };
    let state = caller.data_mut();
    state.unhonoured.count(&reason);
    let plugin = &state.settings.plugin_name;
    if state.shared.reported.is_new(plugin, &reason) {
        tracing::warn!(plugin, reason, "the filter asked for something that it did not get");
    }
}

/// Why an answer is not what the filter wanted; none for answers that belong to a call's normal use.
fn reason<H>(
    caller: &Caller<'_, HostState<H>>,
    memory: Option<Memory>,
    name: &str,
    params: &[Val],
    answer: u32,
) -> Option<String> {
    let Some(function) = name.strip_prefix("proxy_") else {
        // WASI's NOSYS and NOTSUP.
        return matches!(answer, 52 | 58).then(|| format!("{name}: errno {answer}"));
    };
    let text = || memory.and_then(|memory| argument(memory.data(caller), params)).unwrap_or_default();
    let mut reason = format!("{name}: {}", status(answer)?);
    match function {
        "call_foreign_function" => write!(reason, " `{}`", shown(text())).ok()?,
        "get_property" if attributes::is_known(text()) => return None,
        "get_property" | "set_property" => write!(reason, " `{}`", shown(text())).ok()?,
        // Absent headers, keys and metrics are asked for all the time.
        _ if answer == 1 => return None,
        _ => write!(reason, " in {}", Callback::of(caller.data().phase).name()).ok()?,
    }
    Some(reason)
}

/// The text that the first two parameters point to.
fn argument<'a>(memory: &'a [u8], params: &[Val]) -> Option<&'a [u8]> {
    let number = |at: usize| params.get(at).and_then(Val::i32).map(|number| number.cast_unsigned() as usize);
    memory.get(number(0)?..)?.get(..number(1)?)
}

/// A path or name as one reads it.
fn shown(text: &[u8]) -> String {
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    let readable = |c: char| if c == '\0' { '.' } else { c };
    let text = String::from_utf8_lossy(&text[..text.len().min(4 * MAX_NAME)]).into_owned();
    text.chars().take(MAX_NAME).map(readable).flat_map(char::escape_debug).collect()
}

/// Statuses that say that a call was not carried out; the others, such as EMPTY, are answers.
fn status(answer: u32) -> Option<&'static str> {
    matches!(answer, 1..=4 | 6 | 10 | 12).then(|| Status::name_of(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_bounded() {
        let mut unhonoured = Unhonoured::default();
        for number in 0..1_000 {
            unhonoured.count(&number.to_string());
        }
        let counts = unhonoured.counts();
        assert_eq!(counts.len(), MAX_REASONS + 1);
        assert_eq!(counts[MAX_REASONS], (OTHERS.to_owned(), 744));
    }

    #[test]
    fn a_reason_is_new_once_for_a_plugin() {
        let reported = Reported::default();
        assert!(reported.is_new("a", "x") && !reported.is_new("a", "x") && reported.is_new("b", "x"));
    }

    #[test]
    fn names_are_shown_without_control_characters() {
        assert_eq!(shown(b"request\0x\n\0"), "request.x\\n");
        assert_eq!(shown(&[b'a'; 1000]).len(), MAX_NAME);
    }
}
