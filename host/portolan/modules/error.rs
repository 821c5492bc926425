//! [`FetchError`]: why a module could not be fetched.

use std::error::Error;
use std::time::Duration;

/// Why a module could not be fetched.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// Not an address that can be asked.
    #[error("`{0}` is no address of a module")]
    Address(String),
    /// Link-local addresses hold the metadata services of clouds, which answer with credentials.
    #[error("{0} is link-local, where nothing is fetched from")]
    LinkLocal(String),
    /// Nobody there, or it broke off.
    #[error("{host} cannot be reached: {reason}")]
    Unreachable {
        /// Who was asked.
        host: String,
        /// What the system says.
        reason: String,
    },
    /// It took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// It refused.
    #[error("{host} answers {status} for {what}")]
    Status {
        /// Who was asked.
        host: String,
        /// HTTP status.
        status: u16,
        /// What was asked for.
        what: String,
    },
    /// More bytes than a module may have.
    #[error("more than {} MiB", .0 / (1024 * 1024))]
    TooLarge(u64),
    /// Other bytes than were asked for.
    #[error("the SHA-256 of the {what} is {found}, and {wanted} is wanted")]
    Digest {
        /// `module`, `image`, `layer`.
        what: &'static str,
        /// In hex.
        found: String,
        /// In hex.
        wanted: String,
    },
    /// An answer that is none.
    #[error("{0}")]
    Malformed(String),
    /// Not signed by the key that is asked for.
    #[error("{0}")]
    Signature(String),
    /// No network client could be made.
    #[error("cannot set up the client for modules: {0}")]
    Setup(String),
}

impl FetchError {
    /// True when asking again at once would bring the same answer.
    pub(crate) fn is_lasting(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout(_) => false,
            Self::Status { status, .. } => *status < 500 && !matches!(status, 408 | 425 | 429),
            _ => true,
        }
    }

    /// Of a failed exchange with `host`. The address itself is left out, since its query may hold a token.
    pub(super) fn of_exchange(host: &str, error: reqwest::Error) -> Self {
        let error = error.without_url();
        let mut reason: &dyn Error = &error;
        while let Some(source) = reason.source() {
            reason = source;
            if let Some(link_local) = reason.downcast_ref::<FetchError>() {
                return link_local.clone();
            }
        }
        Self::Unreachable { host: host.to_owned(), reason: reason.to_string() }
    }
}
