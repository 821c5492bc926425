//! [`Format`]: the compiler of Envoy's access-log format strings.
//!
//! `%COMMAND(X?Y):Z%` becomes a step once; a request then runs the steps. Text that a client chose is escaped, so that it
//! can end neither its quotes nor its line.

mod fields;
#[cfg(test)]
mod tests;

use crate::StreamInfo;
use fields::Field;

/// Istio's default text format, without its line end.
pub const DEFAULT_FORMAT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% ",
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% ",
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ",
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" ",
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER% ",
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% ",
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%",
);

/// Why a format string was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A `%` that begins a command which no `%` ends.
    #[error("`{0}` has no closing `%`; a literal percent sign is written `%%`")]
    Unclosed(String),
    /// A command that is not served.
    #[error("unknown command `%{0}%`")]
    UnknownCommand(String),
    /// `REQ` or `RESP` with a header that is not kept for the log.
    #[error("header `{0}` is not kept for the access log")]
    UnknownHeader(String),
    /// Parentheses or length that cannot be read.
    #[error("`%{0}%` is malformed; expected `%COMMAND(ARGUMENTS):LENGTH%`")]
    Malformed(String),
    /// A `START_TIME` pattern that cannot be printed.
    #[error("time format `{pattern}`: {reason}")]
    TimeFormat {
        /// As written.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A compiled format string.
#[derive(Clone, Debug)]
pub struct Format {
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    Literal(Box<str>),
    /// The first of the two that is present, cut to a number of bytes.
    Value {
        field: Field,
        otherwise: Option<Field>,
        max_bytes: usize,
    },
}

impl Format {
    /// Compiles a format string.
    pub fn compile(text: &str) -> Result<Self, FormatError> {
        let mut steps = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(percent) = rest.find('%') {
            literal.push_str(&rest[..percent]);
            let after = &rest[percent + 1..];
            if let Some(after) = after.strip_prefix('%') {
                literal.push('%');
                rest = after;
                continue;
            }
            let end = command_end(after).ok_or_else(|| FormatError::Unclosed(rest[percent..].to_owned()))?;
            if !literal.is_empty() {
                steps.push(Step::Literal(std::mem::take(&mut literal).into()));
            }
            steps.push(value(&after[..end])?);
            rest = &after[end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            steps.push(Step::Literal(literal.into()));
        }
        Ok(Self { steps })
    }

    /// Appends the line of one request to `out`, without a line end of its own.
    pub fn write(&self, info: &StreamInfo, out: &mut Vec<u8>) {
        for step in &self.steps {
            match step {
                Step::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Step::Value { field, otherwise, max_bytes } => {
                    let written = field.write(info, *max_bytes, out)
                        || otherwise.as_ref().is_some_and(|field| field.write(info, *max_bytes, out));
                    if !written {
                        out.push(b'-');
                    }
                }
            }
        }
    }
}

/// Where the command ends: at the first `%` outside of its parentheses, for a time pattern has percent signs of its own.
fn command_end(text: &str) -> Option<usize> {
    let mut inside = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => inside = true,
            b')' => inside = false,
            b'%' if !inside => return Some(at),
            _ => {}
        }
    }
    None
}

/// `COMMAND`, `COMMAND(ARGUMENTS)`, each with `:LENGTH` or without.
fn value(command: &str) -> Result<Step, FormatError> {
    let malformed = || FormatError::Malformed(command.to_owned());
    let name_end = command.find(['(', ':']).unwrap_or(command.len());
    let (name, rest) = command.split_at(name_end);
    let (arguments, rest) = match rest.strip_prefix('(') {
        Some(rest) => rest.split_once(')').map(|(inside, rest)| (Some(inside), rest)).ok_or_else(malformed)?,
        None => (None, rest),
    };
    let max_bytes = match rest.strip_prefix(':') {
        Some(length) => length.parse().map_err(|_| malformed())?,
        None if rest.is_empty() => usize::MAX,
        None => return Err(malformed()),
    };
    let (field, otherwise) = match (name, arguments) {
        ("REQ" | "RESP", Some(headers)) => {
            let (first, second) = headers.split_once('?').map_or((headers, None), |(a, b)| (a, Some(b)));
            let second = second.map(|header| Field::header(name, header)).transpose()?;
            (Field::header(name, first)?, second)
        }
        ("START_TIME", Some(pattern)) => (Field::time(pattern)?, None),
        (_, None) => (Field::command(name).ok_or_else(|| FormatError::UnknownCommand(command.to_owned()))?, None),
        (_, Some(_)) if Field::command(name).is_some() => return Err(malformed()),
        (_, Some(_)) => return Err(FormatError::UnknownCommand(command.to_owned())),
    };
    Ok(Step::Value { field, otherwise, max_bytes })
}
