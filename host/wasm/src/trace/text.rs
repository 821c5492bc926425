//! The text form: `on_request_headers(4, end=true)`, `get_header("authorization") = none`.

use std::fmt::{self, Display, Formatter, Write};

use super::{Argument, CallStatus, CallbackTrace, HostCall, Outcome, Value};

/// Pairs of a list that are written out; the rest is counted.
const PAIRS: usize = 6;

/// Bytes that are no text and are written out.
const BYTES: usize = 16;

impl CallbackTrace {
    /// Name and arguments: `on_request_headers(4, end=true)`.
    pub fn asked(&self) -> String {
        format!("{}({})", self.name(), list(&self.arguments))
    }

    /// How it ended: `-> Continue`; empty where there is nothing to answer. A guest's backtrace follows on lines of its own.
    pub fn answered(&self) -> String {
        match &self.outcome {
            Outcome::Done => String::new(),
            outcome => format!("-> {outcome}"),
        }
    }
}

impl HostCall {
    /// Word and arguments: `get_header("authorization")`.
    pub fn asked(&self) -> String {
        format!("{}({})", self.word, list(&self.arguments))
    }

    /// What came of it: `= none`, `-> BAD_ARGUMENT`; empty where it is done and there is nothing to tell.
    pub fn answered(&self) -> String {
        match self.status {
            CallStatus::Ok if self.results.is_empty() => String::new(),
            CallStatus::Ok => format!("= {}", list(&self.results)),
            // What is looked for and not there is an answer like any other.
            CallStatus::Status("NOT_FOUND") if self.word.starts_with("get_") => "= none".to_owned(),
            CallStatus::Status(name) => format!("-> {name}"),
            CallStatus::Errno(number) => format!("-> errno {number}"),
            CallStatus::Failed => "-> failed".to_owned(),
        }
    }

    /// True when the host has not done what it was asked for; what is not there to be read is no such thing.
    pub fn is_refused(&self) -> bool {
        match self.status {
            CallStatus::Ok => false,
            CallStatus::Status("NOT_FOUND") => !self.word.starts_with("get_"),
            // A queue that is empty, and a value that somebody else has written, are answers.
            CallStatus::Status(name) => name != "EMPTY" && name != "CAS_MISMATCH",
            CallStatus::Errno(_) | CallStatus::Failed => true,
        }
    }
}

/// One line without its calls.
impl Display for CallbackTrace {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(format!("{} {}", self.asked(), self.answered()).trim_end())
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::Continue => "Continue",
            Self::Pause => "Pause",
            Self::Reply => "Reply",
            Self::True => "true",
            Self::False => "false",
            Self::Failed(reason) => return write!(f, "failed: {reason}"),
        })
    }
}

/// One line.
impl Display for HostCall {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(format!("{} {}", self.asked(), self.answered()).trim_end())
    }
}

impl Display for Argument {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.label {
            "" => self.value.fmt(f),
            label => write!(f, "{label}={}", self.value),
        }
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Millis(number) => write!(f, "{number} ms"),
            Self::Flag(flag) => flag.fmt(f),
            Self::Word(word) => f.write_str(word),
            Self::Text { text, bytes } => {
                write!(f, "{text:?}")?;
                if self.is_cut() { write!(f, "… ({bytes} bytes)") } else { Ok(()) }
            }
            Self::Bytes { shown, bytes } => {
                f.write_str("0x")?;
                shown.iter().take(BYTES).try_for_each(|byte| write!(f, "{byte:02x}"))?;
                if *bytes > BYTES { write!(f, "… ({bytes} bytes)") } else { Ok(()) }
            }
            Self::Pairs { shown, count } => pairs(f, shown, *count),
            Self::Hidden => f.write_str("(hidden)"),
            Self::Unreadable => f.write_str("(unreadable)"),
        }
    }
}

fn list(arguments: &[Argument]) -> String {
    arguments.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn pairs(f: &mut Formatter<'_>, shown: &[(String, String)], count: usize) -> fmt::Result {
    f.write_char('[')?;
    for (place, (name, value)) in shown.iter().take(PAIRS).enumerate() {
        f.write_str(if place == 0 { "" } else { ", " })?;
        escaped(f, name)?;
        f.write_str(": ")?;
        escaped(f, value)?;
    }
    let more = count - shown.len().min(PAIRS);
    if more > 0 {
        write!(f, ", and {more} more")?;
    }
    f.write_char(']')
}

/// Without control characters, and with quotation marks as they are.
fn escaped(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    text.chars().try_for_each(|character| match character {
        control if control.is_control() => write!(f, "{}", control.escape_default()),
        other => f.write_char(other),
    })
}
