//! What a verdict does to the message.

use portolan_sdk::prelude::*;

use crate::query;
use crate::verdict::{Append, Changes, Denial, Mutation};

/// Where later filters find the service's dynamic metadata, as JSON.
const METADATA_PROPERTY: &str = "ext_authz.metadata";

/// A message whose headers can be changed.
trait Head {
    fn header(&self, name: &str) -> Result<Option<&[u8]>, HostError>;
    fn set(&self, name: &str, value: &[u8]) -> Result<(), HostError>;
    fn add(&self, name: &str, value: &[u8]) -> Result<(), HostError>;
}

macro_rules! head {
    ($message:ident) => {
        impl Head for $message<'_> {
            fn header(&self, name: &str) -> Result<Option<&[u8]>, HostError> {
                self.header(name)
            }

            fn set(&self, name: &str, value: &[u8]) -> Result<(), HostError> {
                self.set_header(name, value)
            }

            fn add(&self, name: &str, value: &[u8]) -> Result<(), HostError> {
                self.add_header(name, value)
            }
        }
    };
}

head!(Request);
head!(Response);

/// Changes a request that may go on; true when anything about it is another now.
pub(crate) fn on_request(request: &Request<'_>, changes: &Changes) -> Result<bool, HostError> {
    for mutation in &changes.request {
        mutate(request, mutation)?;
    }
    // Without these a request is none; Envoy leaves them as well.
    let removable = |name: &&String| !name.starts_with(':') && *name != "host";
    for name in changes.remove.iter().filter(removable) {
        request.remove_header(name)?;
    }
    let changes_query = !changes.query.is_empty() || !changes.remove_query.is_empty();
    if changes_query {
        let target = query::change(request.target()?, &changes.query, &changes.remove_query);
        request.set_header(":path", &target)?;
    }
    if !changes.metadata.is_empty() {
        request.set_property(METADATA_PROPERTY, changes.metadata.as_bytes())?;
    }
    Ok(changes_query || !changes.request.is_empty() || !changes.remove.is_empty())
}

/// Changes the response of an allowed request.
pub(crate) fn on_response(response: &Response<'_>, mutations: &[Mutation]) -> Result<(), HostError> {
    mutations.iter().try_for_each(|mutation| mutate(response, mutation))
}

fn mutate(head: &impl Head, mutation: &Mutation) -> Result<(), HostError> {
    let Mutation { name, value, action } = mutation;
    let present = || head.header(name);
    match action {
        Append::AppendIfExistsOrAdd => head.add(name, value),
        Append::OverwriteIfExistsOrAdd => head.set(name, value),
        Append::AddIfAbsent if present()?.is_none() => head.add(name, value),
        Append::OverwriteIfExists if present()?.is_some() => head.set(name, value),
        Append::JoinIfExists => match present()? {
            Some(old) => head.set(name, &[old, b",", value].concat()),
            None => Ok(()),
        },
        Append::AddIfAbsent | Append::OverwriteIfExists => Ok(()),
    }
}

/// Answers with the service's refusal. A value that is no text is left out: a local reply has texts only.
pub(crate) fn reply(request: &Request<'_>, denial: &Denial) -> Result<Action, HostError> {
    let mut lines: Vec<(&str, &str)> = Vec::new();
    for Mutation { name, value, action } in &denial.headers {
        let Ok(value) = std::str::from_utf8(value) else { continue };
        let present = lines.iter().any(|(known, _)| known == name);
        match action {
            Append::AddIfAbsent if present => continue,
            Append::OverwriteIfExists | Append::JoinIfExists if !present => continue,
            Append::OverwriteIfExists | Append::OverwriteIfExistsOrAdd => lines.retain(|(known, _)| known != name),
            _ => {}
        }
        lines.push((name, value));
    }
    let reply = LocalReply::new(denial.status).body(&denial.body).details("ext_authz_denied");
    request.reply(&lines.into_iter().fold(reply, |reply, (name, value)| reply.header(name, value)))
}
