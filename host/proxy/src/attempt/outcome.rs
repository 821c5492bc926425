//! [`Try`]: what came of one try.

use portolan_telemetry::ClusterMetrics;

use crate::local_reply::{Failure, Reply};
use crate::pool::CheckoutError;
use crate::router::Answer;
use crate::upstream::ConnectError;

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

/// What it means that the pool gave no connection.
pub(super) fn no_connection(metrics: &ClusterMetrics, error: CheckoutError) -> Try {
    let failure = match &error {
        CheckoutError::Overflow => {
            metrics.upstream_rq_pending_overflow.inc();
            Failure::Overflow
        }
        CheckoutError::Connect(_, ConnectError::Timeout) => Failure::ConnectTimeout,
        CheckoutError::Connect(..) | CheckoutError::Handshake(..) => Failure::Connect,
    };
    if failure != Failure::Overflow {
        metrics.upstream_rq_pending_failure_eject.inc();
    }
    match error {
        CheckoutError::Connect(_, ConnectError::Failed(reason)) => unreachable_because(reason),
        other => failed(failure, Some(other.to_string())),
    }
}
