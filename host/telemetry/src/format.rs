//! [`Format`]: the compiler of Envoy's access-log format strings.
//!
//! `%COMMAND(X?Y):Z%` becomes a step once; a request then runs the steps. Text that a client chose is escaped, so that it
//! can end neither its quotes nor its line.

mod fields;
mod json;
#[cfg(test)]
mod tests;
mod words;

use crate::StreamInfo;
pub use fields::protocol_name;
use fields::{Field, Form};
use words::Word;

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

/// Istio's default JSON format.
pub const DEFAULT_JSON_FORMAT: &str = r#"{
"start_time": "%START_TIME%", "route_name": "%ROUTE_NAME%", "method": "%REQ(:METHOD)%",
"path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "protocol": "%PROTOCOL%", "response_code": "%RESPONSE_CODE%",
"response_flags": "%RESPONSE_FLAGS%", "response_code_details": "%RESPONSE_CODE_DETAILS%",
"connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%", "bytes_received": "%BYTES_RECEIVED%",
"bytes_sent": "%BYTES_SENT%", "duration": "%DURATION%",
"upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%", "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
"user_agent": "%REQ(USER-AGENT)%", "request_id": "%REQ(X-REQUEST-ID)%", "authority": "%REQ(:AUTHORITY)%",
"upstream_host": "%UPSTREAM_HOST%", "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
"upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%", "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
"downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%", "requested_server_name": "%REQUESTED_SERVER_NAME%",
"upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%"
}"#;

/// Why a format string was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A `%` that begins a command which no `%` ends.
    #[error("`{0}` has no closing `%`; a literal percent sign is written `%%`")]
    Unclosed(String),
    /// A command that is not served.
    #[error("unknown command `%{0}%`")]
    UnknownCommand(String),
    /// `REQ`, `RESP` or `TRAILER` of what is no header name.
    #[error("`{0}` is no header name")]
    HeaderName(String),
    /// A JSON format that is none.
    #[error("the JSON format is no object: {0}")]
    Json(String),
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

/// A compiled format.
#[derive(Clone, Debug)]
pub struct Format {
    layout: Layout,
    /// What is absent leaves nothing.
    omit_empty: bool,
    wants_headers: bool,
}

#[derive(Clone, Debug)]
enum Layout {
    Text(Template),
    Json(json::Node),
}

/// Text with values in it.
#[derive(Clone, Debug)]
struct Template {
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    Literal(Box<str>),
    Value(Value),
}

/// The first of the two that is present, cut to a number of bytes.
#[derive(Clone, Debug)]
struct Value {
    field: Field,
    otherwise: Option<Field>,
    max_bytes: usize,
}

impl Format {
    /// Compiles a format string.
    pub fn compile(text: &str) -> Result<Self, FormatError> {
        let template = Template::compile(text)?;
        let wants_headers = template.wants_headers();
        Ok(Self { layout: Layout::Text(template), omit_empty: false, wants_headers })
    }

    /// Compiles an object, written as JSON, whose texts are format strings: Envoy's `json_format`.
    pub fn compile_json(text: &str) -> Result<Self, FormatError> {
        let node = json::Node::compile(text)?;
        let wants_headers = node.wants_headers();
        Ok(Self { layout: Layout::Json(node), omit_empty: false, wants_headers })
    }

    /// What is absent leaves nothing, instead of `-` in text and null in JSON.
    #[must_use]
    pub fn omitting_empty(self, omit_empty: bool) -> Self {
        Self { omit_empty, ..self }
    }

    /// Appends a header's value: nothing is escaped, and what is absent leaves nothing.
    pub fn write_header(&self, info: &StreamInfo, out: &mut Vec<u8>) {
        if let Layout::Text(template) = &self.layout {
            template.write(info, b"", Form::Raw, out);
        }
    }

    /// True when lines name headers beyond those that every [`StreamInfo`] keeps: its header maps must be filled.
    pub fn wants_headers(&self) -> bool {
        self.wants_headers
    }

    /// Appends the line of one request to `out`, without a line end of its own.
    pub fn write(&self, info: &StreamInfo, out: &mut Vec<u8>) {
        match &self.layout {
            Layout::Text(template) => template.write(info, if self.omit_empty { b"" } else { b"-" }, Form::Line, out),
            Layout::Json(node) => node.write(info, self.omit_empty, out),
        }
    }
}

impl Template {
    fn compile(text: &str) -> Result<Self, FormatError> {
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
            steps.push(Step::Value(value(&after[..end])?));
            rest = &after[end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            steps.push(Step::Literal(literal.into()));
        }
        Ok(Self { steps })
    }

    fn wants_headers(&self) -> bool {
        let values = self.steps.iter().filter_map(|step| match step {
            Step::Value(value) => Some(value),
            Step::Literal(_) => None,
        });
        values.flat_map(|value| [Some(&value.field), value.otherwise.as_ref()]).flatten().any(Field::wants_headers)
    }

    fn write(&self, info: &StreamInfo, absent: &[u8], form: Form, out: &mut Vec<u8>) {
        for step in &self.steps {
            match step {
                Step::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Step::Value(value) => {
                    if !value.write(info, form, out) {
                        out.extend_from_slice(absent);
                    }
                }
            }
        }
    }
}

impl Value {
    /// False, and nothing appended, when the request has neither.
    fn write(&self, info: &StreamInfo, form: Form, out: &mut Vec<u8>) -> bool {
        self.field.write(info, self.max_bytes, form, out)
            || self.otherwise.as_ref().is_some_and(|field| field.write(info, self.max_bytes, form, out))
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
fn value(command: &str) -> Result<Value, FormatError> {
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
        ("REQ" | "REQ_WITHOUT_QUERY" | "RESP" | "TRAILER", Some(headers)) => {
            let (first, second) = headers.split_once('?').map_or((headers, None), |(a, b)| (a, Some(b)));
            let second = second.map(|header| Field::header(name, header)).transpose()?;
            (Field::header(name, first)?, second)
        }
        ("START_TIME", Some(pattern)) => (Field::time(pattern)?, None),
        ("PATH", argument) => (Field::Word(Word::path(argument.unwrap_or_default())?), None),
        ("QUERY_PARAM", Some(name)) => (Field::Word(Word::QueryParam(name.into())), None),
        ("GRPC_STATUS", argument) => (Field::Word(Word::grpc_status(argument.unwrap_or_default())?), None),
        ("DYNAMIC_METADATA", Some(name)) => (Field::DynamicMetadata(name.into()), None),
        // Of what Envoy keeps there nothing is kept here.
        _ if Field::is_always_absent(name) && Field::command(name).is_none() => (Field::Absent, None),
        (_, None) => (Field::command(name).ok_or_else(|| FormatError::UnknownCommand(command.to_owned()))?, None),
        (_, Some(_)) if Field::command(name).is_some() => return Err(malformed()),
        (_, Some(_)) => return Err(FormatError::UnknownCommand(command.to_owned())),
    };
    Ok(Value { field, otherwise, max_bytes })
}
