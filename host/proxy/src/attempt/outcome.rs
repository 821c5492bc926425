//! [`Try`]: what came of one try.

use crate::local_reply::{Failure, Reply};
use crate::router::Answer;

/// What came of one try.
pub(super) enum Try {
    Answered(Box<Answer>),
    /// A filter answered while the body was under way.
    Replied(Box<Reply>),
    Failed {
        failure: Failure,
        cause: Option<String>,
        /// Why there was no connection.
        reason: Option<String>,
        unsent: bool,
        reused: bool,
    },
}

pub(super) fn failed(failure: Failure, cause: Option<String>) -> Try {
    Try::Failed { failure, cause, reason: None, unsent: true, reused: false }
}

/// There is no connection, or none under TLS.
pub(super) fn unreachable_because(reason: String) -> Try {
    // The log tells it as it is, beside the address.
    let cause = Some(reason.clone());
    Try::Failed { failure: Failure::Connect, cause, reason: Some(reason), unsent: true, reused: false }
}

pub(super) fn sent_and_failed(failure: Failure, cause: String) -> Try {
    Try::Failed { failure, cause: Some(cause), reason: None, unsent: false, reused: false }
}
