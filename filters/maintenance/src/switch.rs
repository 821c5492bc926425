//! The switch: a value that all VMs of the plugin share, and the requests that turn it.

use portolan_sdk::prelude::*;
use portolan_sdk::shared;

use crate::config::Switch;

/// Where the host keeps it. It is gone when the gateway ends.
const KEY: &str = "maintenance";

/// True when it is on.
///
/// # Errors
/// When the host does not tell.
pub(crate) fn is_on() -> Result<bool, HostError> {
    Ok(shared::value(KEY)?.is_some_and(|value| value.bytes == b"on"))
}

impl Switch {
    /// Answers a request to the switch's path.
    pub(crate) fn turn(&self, request: &Request<'_>) -> Result<Action, HostError> {
        let authorization = request.header("authorization")?.unwrap_or_default();
        let is_meant =
            authorization.strip_prefix(b"Bearer ").is_some_and(|token| is_same(token, self.token.as_bytes()));
        if !is_meant {
            return request
                .reply(&LocalReply::new(403).body(b"the token is missing or wrong\n").details("maintenance_switch"));
        }
        match request.method()? {
            b"PUT" => shared::set(KEY, b"on")?,
            b"DELETE" => shared::set(KEY, b"off")?,
            b"GET" => {}
            _ => {
                let reply = LocalReply::new(405).header("allow", "GET, PUT, DELETE").details("maintenance_switch");
                return request.reply(&reply);
            }
        }
        let state: &[u8] = if is_on()? { b"on\n" } else { b"off\n" };
        request
            .reply(&LocalReply::new(200).header("cache-control", "no-store").body(state).details("maintenance_switch"))
    }
}

/// Looks at every byte, so that the time tells nothing of where they differ.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}
