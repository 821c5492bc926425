//! The text form: `on_request_headers(4, end=true)`, `get_header("authorization") = none`.

use std::fmt::{self, Display, Formatter, Write};

use super::{Argument, CallStatus, CallbackTrace, HostCall, Outcome, Value};

/// Pairs of a list that are written out; the rest is counted.
const PAIRS: usize = 6;

/// Bytes that are no text and are written out.
const BYTES: usize = 16;

/// One line without its calls: name, arguments, outcome; a failure's backtrace follows on lines of its own.
impl Display for CallbackTrace {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.name())?;
        list(f, &self.arguments)?;
        match &self.outcome {
            Outcome::Done => f.write_char(')'),
            outcome => write!(f, ") -> {outcome}"),
        }
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

/// One line: word, arguments, and what came of it.
impl Display for HostCall {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.word)?;
        list(f, &self.arguments)?;
        f.write_char(')')?;
        match self.status {
            CallStatus::Ok if self.results.is_empty() => Ok(()),
            CallStatus::Ok => {
                f.write_str(" = ")?;
                list(f, &self.results)
            }
            // What is looked for and not there is an answer like any other.
            CallStatus::Status("NOT_FOUND") if self.word.starts_with("get_") => f.write_str(" = none"),
            CallStatus::Status(name) => write!(f, " -> {name}"),
            CallStatus::Errno(number) => write!(f, " -> errno {number}"),
            CallStatus::Failed => f.write_str(" -> failed"),
        }
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

fn list(f: &mut Formatter<'_>, arguments: &[Argument]) -> fmt::Result {
    for (place, argument) in arguments.iter().enumerate() {
        f.write_str(if place == 0 { "" } else { ", " })?;
        argument.fmt(f)?;
    }
    Ok(())
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
