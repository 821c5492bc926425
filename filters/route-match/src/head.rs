//! [`Head`]: what the matcher asks of a request; [`RequestHead`] reads it from the host when asked.

use std::cell::{Cell, OnceCell};

use portolan_sdk::{Headers, HostError, Request, split_target};
use serde_json::{Map, Value};

use crate::claims;

/// Single reads of headers after which reading all of them is cheaper.
const SINGLE_READS: u32 = 3;

/// The head of a request.
pub trait Head {
    /// The path without the query.
    fn path(&self) -> &[u8];
    /// What follows the `?`.
    fn query(&self) -> Option<&[u8]>;
    /// Host and port.
    fn authority(&self) -> &[u8];
    /// The method.
    fn method(&self) -> &[u8];
    /// `http` or `https`.
    fn scheme(&self) -> &[u8];
    /// True when `holds` says so for one of the lines of a header, which are tried in order. Names are lower case,
    /// pseudo names are allowed, and claims of a token, see [`claims`].
    fn any_value(&self, name: &str, holds: &mut dyn FnMut(&[u8]) -> bool) -> bool;
}

/// The head of the request that a callback handles.
pub(crate) struct RequestHead<'a> {
    request: &'a Request<'a>,
    path: &'a [u8],
    query: Option<&'a [u8]>,
    authority: &'a [u8],
    method: OnceCell<&'a [u8]>,
    scheme: OnceCell<&'a [u8]>,
    headers: OnceCell<Headers<'a>>,
    single_reads: Cell<u32>,
    claims: OnceCell<Map<String, Value>>,
    /// The first failed host call: matching goes on with empty values, but its result is void.
    error: Cell<Option<HostError>>,
}

impl<'a> RequestHead<'a> {
    pub(crate) fn read(request: &'a Request<'a>) -> Result<Self, HostError> {
        let (path, query) = split_target(request.target()?);
        Ok(Self {
            request,
            path,
            query,
            authority: request.authority()?,
            method: OnceCell::new(),
            scheme: OnceCell::new(),
            headers: OnceCell::new(),
            single_reads: Cell::new(0),
            claims: OnceCell::new(),
            error: Cell::new(None),
        })
    }

    /// An error when a host call failed meanwhile.
    pub(crate) fn outcome(&self) -> Result<(), HostError> {
        self.error.get().map_or(Ok(()), Err)
    }

    fn note<T: Default>(&self, result: Result<T, HostError>) -> T {
        result.unwrap_or_else(|error| {
            self.error.set(Some(error));
            T::default()
        })
    }

    /// Of the token; none before a filter has found one good.
    fn claims(&self) -> &Map<String, Value> {
        self.claims.get_or_init(|| {
            let payload = self.note(self.request.property(claims::PAYLOAD_PROPERTY));
            payload.and_then(|json| serde_json::from_slice(json).ok()).unwrap_or_default()
        })
    }

    fn all(&self) -> Headers<'a> {
        let read = || {
            self.request.headers().unwrap_or_else(|error| {
                self.error.set(Some(error));
                Headers::default()
            })
        };
        self.headers.get_or_init(read).clone()
    }
}

impl Head for RequestHead<'_> {
    fn path(&self) -> &[u8] {
        self.path
    }

    fn query(&self) -> Option<&[u8]> {
        self.query
    }

    fn authority(&self) -> &[u8] {
        self.authority
    }

    fn method(&self) -> &[u8] {
        self.method.get_or_init(|| self.note(self.request.method()))
    }

    fn scheme(&self) -> &[u8] {
        self.scheme.get_or_init(|| self.note(self.request.scheme()))
    }

    fn any_value(&self, name: &str, holds: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        if name.starts_with(':') {
            return self.note(self.request.header(name)).is_some_and(holds);
        }
        if claims::is_claim(name) {
            return claims::any_value(self.claims(), name, holds);
        }
        if self.headers.get().is_none() && self.single_reads.get() < SINGLE_READS {
            self.single_reads.set(self.single_reads.get() + 1);
            match self.note(self.request.header(name)) {
                None => return false,
                Some(first) if holds(first) => return true,
                // There may be more lines of this name.
                Some(_) => {}
            }
        }
        self.all().any(|(known, value)| known == name.as_bytes() && holds(value))
    }
}
