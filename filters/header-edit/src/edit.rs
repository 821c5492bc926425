//! [`Edits`]: what is done to the headers of one message, in Envoy's order: what is removed goes first, so that what is
//! added stays.

use portolan_filter_conditions::{HeaderName, Pattern, StringMatch};
use portolan_sdk::{HostError, Request, Response};

use crate::template::{Source, Template};

/// Steps on the headers of a message, in the order in which they are done.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    /// Headers that go, all values of each.
    pub remove: Vec<HeaderName>,
    /// Headers go whose name fulfils one of these.
    pub remove_matching: Vec<StringMatch>,
    /// Old and new name; values that are there under the new name stay before those that come.
    pub rename: Vec<(HeaderName, HeaderName)>,
    /// Parts of values that are replaced.
    pub replace: Vec<Replacement>,
    /// Headers that have this value and no other afterwards; none at all where the value turns out empty.
    pub set: Vec<(HeaderName, Template)>,
    /// Values that come on top; nothing where the value turns out empty, as in Envoy.
    pub add: Vec<(HeaderName, Template)>,
}

/// A part of a header's values that is replaced.
#[derive(Clone, Debug)]
pub struct Replacement {
    /// The header, every value of it.
    pub header: HeaderName,
    /// The part.
    pub pattern: Pattern,
    /// What comes in its place, with `$1` and `${name}` for groups.
    pub with: String,
}

/// Name and value of a header line.
pub type Line = (Vec<u8>, Vec<u8>);

/// The headers of a message.
pub trait Lines {
    /// Name and value of each, in order.
    ///
    /// # Errors
    /// When the host does not tell.
    fn lines(&self) -> Result<Vec<Line>, HostError>;

    /// Replaces all values.
    ///
    /// # Errors
    /// When the host refuses.
    fn set(&self, name: &str, value: &[u8]) -> Result<(), HostError>;

    /// Adds a value.
    ///
    /// # Errors
    /// When the host refuses.
    fn add(&self, name: &str, value: &[u8]) -> Result<(), HostError>;

    /// Removes all values.
    ///
    /// # Errors
    /// When the host refuses.
    fn remove(&self, name: &str) -> Result<(), HostError>;
}

impl Edits {
    /// Does it all.
    ///
    /// # Errors
    /// When the host fails; what was done by then stays.
    pub fn apply<'a>(
        &self,
        message: &impl Lines,
        look_up: impl Fn(&Source) -> Result<Option<&'a [u8]>, HostError>,
    ) -> Result<(), HostError> {
        for name in &self.remove {
            message.remove(name.as_str())?;
        }
        if !self.remove_matching.is_empty() {
            self.remove_by_name(message)?;
        }
        for (from, to) in &self.rename {
            rename(message, from, to)?;
        }
        for replacement in &self.replace {
            replacement.apply(message)?;
        }
        for (name, template) in &self.set {
            match template.render(&look_up)? {
                value if !value.is_empty() => message.set(name.as_str(), &value)?,
                // A pseudo header is always there.
                _ if name.is_pseudo() => {}
                _ => message.remove(name.as_str())?,
            }
        }
        for (name, template) in &self.add {
            let value = template.render(&look_up)?;
            if !value.is_empty() {
                message.add(name.as_str(), &value)?;
            }
        }
        Ok(())
    }

    fn remove_by_name(&self, message: &impl Lines) -> Result<(), HostError> {
        let is_meant =
            |name: &[u8]| !is_fixed(name) && self.remove_matching.iter().any(|condition| condition.holds(name));
        for (name, _) in message.lines()?.iter().filter(|(name, _)| is_meant(name)) {
            if let Ok(name) = std::str::from_utf8(name) {
                message.remove(name)?;
            }
        }
        Ok(())
    }
}

impl Replacement {
    fn apply(&self, message: &impl Lines) -> Result<(), HostError> {
        let name = self.header.as_str();
        let values = values(message, name)?;
        let new: Vec<_> = values.iter().map(|value| self.pattern.replace(value, &self.with)).collect();
        if new.iter().all(Option::is_none) {
            return Ok(());
        }
        for (i, (old, new)) in values.iter().zip(&new).enumerate() {
            let value = new.as_ref().unwrap_or(old);
            if i == 0 { message.set(name, value)? } else { message.add(name, value)? }
        }
        Ok(())
    }
}

/// Headers that say where a message ends or where it goes: a pattern for names does not take them along.
pub(crate) fn is_fixed(name: &[u8]) -> bool {
    name.starts_with(b":")
        || [&b"content-length"[..], b"transfer-encoding", b"connection", b"upgrade", b"te"].contains(&name)
}

fn rename(message: &impl Lines, from: &HeaderName, to: &HeaderName) -> Result<(), HostError> {
    let values = values(message, from.as_str())?;
    if values.is_empty() {
        return Ok(());
    }
    message.remove(from.as_str())?;
    values.iter().try_for_each(|value| message.add(to.as_str(), value))
}

fn values(message: &impl Lines, name: &str) -> Result<Vec<Vec<u8>>, HostError> {
    let lines = message.lines()?.into_iter();
    Ok(lines.filter(|(known, _)| known == name.as_bytes()).map(|(_, value)| value).collect())
}

macro_rules! lines_of {
    ($message:ident) => {
        impl Lines for $message<'_> {
            fn lines(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, HostError> {
                Ok(self.headers()?.map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec())).collect())
            }

            fn set(&self, name: &str, value: &[u8]) -> Result<(), HostError> {
                self.set_header(name, value)
            }

            fn add(&self, name: &str, value: &[u8]) -> Result<(), HostError> {
                self.add_header(name, value)
            }

            fn remove(&self, name: &str) -> Result<(), HostError> {
                self.remove_header(name)
            }
        }
    };
}

lines_of!(Request);
lines_of!(Response);

#[cfg(test)]
mod tests;
