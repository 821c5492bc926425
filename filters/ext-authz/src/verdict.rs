//! [`Verdict`]: what an authorization service has decided, from a `CheckResponse` or from an HTTP response.

use crate::metadata;
use crate::wire::{Malformed, Value, fields};

/// Status of a refusal that names none, in Envoy's gRPC form.
const FORBIDDEN: u32 = 403;

/// The decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The request goes on, changed.
    Allow(Changes),
    /// The client gets this answer.
    Deny(Denial),
    /// The service could not decide; the configuration does.
    Error,
}

/// What is changed on a request that goes on, and on its response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// On the request's headers, in this order.
    pub request: Vec<Mutation>,
    /// Names of request headers to remove, after that.
    pub remove: Vec<String>,
    /// On the response's headers.
    pub response: Vec<Mutation>,
    /// Query parameters to set.
    pub query: Vec<(String, String)>,
    /// Query parameters to remove.
    pub remove_query: Vec<String>,
    /// Dynamic metadata, as JSON; empty without.
    pub metadata: String,
}

/// An answer for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// HTTP status.
    pub status: u32,
    /// Headers.
    pub headers: Vec<Mutation>,
    /// Body.
    pub body: Vec<u8>,
}

/// A change of one header (`HeaderValueOption`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// Lower case.
    pub name: String,
    /// The value.
    pub value: Vec<u8>,
    /// How.
    pub action: Append,
}

/// `HeaderAppendAction`, and the older `append`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Append {
    /// One more line.
    AppendIfExistsOrAdd,
    /// A line when there is none.
    AddIfAbsent,
    /// The only line.
    OverwriteIfExistsOrAdd,
    /// The only line when there is one.
    OverwriteIfExists,
    /// `append: true`: to the end of the line, after a comma, when there is one.
    JoinIfExists,
}

impl Verdict {
    /// Of a `CheckResponse`. What is no such message is an error.
    pub fn of_grpc(message: &[u8]) -> Self {
        read(message).unwrap_or(Self::Error)
    }
}

fn read(message: &[u8]) -> Result<Verdict, Malformed> {
    let (mut code, mut denied, mut allowed, mut error, mut metadata) = (0, None, None, false, None);
    for field in fields(message) {
        match field? {
            (1, status) => code = number_in(status, 1)?,
            (2, response) => denied = Some(response.bytes()),
            (3, response) => allowed = Some(response.bytes()),
            (4, data) => metadata = Some(data.bytes()),
            (5, _) => error = true,
            _ => {}
        }
    }
    if code == 0 {
        let mut changes = Changes { metadata: json(metadata)?, ..Changes::default() };
        changes.read(allowed.unwrap_or_default())?;
        return Ok(Verdict::Allow(changes));
    }
    if error { Ok(Verdict::Error) } else { denial(denied.unwrap_or_default()).map(Verdict::Deny) }
}

fn json(metadata: Option<&[u8]>) -> Result<String, Malformed> {
    metadata.filter(|data| !data.is_empty()).map_or(Ok(String::new()), metadata::json)
}

impl Changes {
    /// `OkHttpResponse`.
    fn read(&mut self, message: &[u8]) -> Result<(), Malformed> {
        for field in fields(message) {
            match field? {
                (2, option) => self.request.push(mutation(option)?),
                (3, data) => self.metadata = json(Some(data.bytes()))?,
                (5, name) => self.remove.push(name.text().to_ascii_lowercase()),
                (6, option) => self.response.push(mutation(option)?),
                (7, parameter) => self.query.push(pair(parameter)?),
                (8, name) => self.remove_query.push(name.text()),
                _ => {}
            }
        }
        Ok(())
    }
}

/// `DeniedHttpResponse`.
fn denial(message: &[u8]) -> Result<Denial, Malformed> {
    let mut denial = Denial { status: FORBIDDEN, headers: Vec::new(), body: Vec::new() };
    for field in fields(message) {
        match field? {
            (1, status) => denial.status = status_of(number_in(status, 1)?),
            (2, option) => denial.headers.push(mutation(option)?),
            (3, body) => denial.body = body.bytes().to_vec(),
            _ => {}
        }
    }
    Ok(denial)
}

/// What cannot be answered with is a plain refusal.
fn status_of(code: u64) -> u32 {
    u32::try_from(code).ok().filter(|code| (200..600).contains(code)).unwrap_or(FORBIDDEN)
}

/// `HeaderValueOption`.
fn mutation(option: Value<'_>) -> Result<Mutation, Malformed> {
    let mut mutation = Mutation { name: String::new(), value: Vec::new(), action: Append::AppendIfExistsOrAdd };
    let mut old = None;
    for field in fields(option.bytes()) {
        match field? {
            (1, header) => {
                for field in fields(header.bytes()) {
                    match field? {
                        (1, key) => mutation.name = key.text().to_ascii_lowercase(),
                        (2 | 3, value) => mutation.value = value.bytes().to_vec(),
                        _ => {}
                    }
                }
            }
            (2, append) => old = Some(number_in(append, 1)? != 0),
            (3, action) => mutation.action = append_action(action.number()),
            _ => {}
        }
    }
    match old {
        Some(true) => mutation.action = Append::JoinIfExists,
        Some(false) => mutation.action = Append::OverwriteIfExistsOrAdd,
        None => {}
    }
    Ok(mutation)
}

/// An unknown action is taken for the one that leaves nothing of the client's, as in Envoy.
fn append_action(number: u64) -> Append {
    match number {
        0 => Append::AppendIfExistsOrAdd,
        1 => Append::AddIfAbsent,
        3 => Append::OverwriteIfExists,
        _ => Append::OverwriteIfExistsOrAdd,
    }
}

fn pair(message: Value<'_>) -> Result<(String, String), Malformed> {
    let mut pair = (String::new(), String::new());
    for field in fields(message.bytes()) {
        match field? {
            (1, key) => pair.0 = key.text(),
            (2, value) => pair.1 = value.text(),
            _ => {}
        }
    }
    Ok(pair)
}

fn number_in(message: Value<'_>, wanted: u64) -> Result<u64, Malformed> {
    let mut found = 0;
    for field in fields(message.bytes()) {
        let (number, value) = field?;
        if number == wanted {
            found = value.number();
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
