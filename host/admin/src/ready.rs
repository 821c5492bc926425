//! [`Readiness`]: whether the gateway wants traffic, in Envoy's words.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use http::StatusCode;

/// The states of Envoy's `/ready`, with the numbers of its metric `server.state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Serves.
    Live = 0,
    /// Finishes what it has and takes nothing new from a load balancer.
    Draining = 1,
    /// Has read no configuration yet.
    PreInitializing = 2,
    /// Builds its first snapshot.
    Initializing = 3,
}

impl State {
    /// The state's name as `/ready` says it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "LIVE",
            Self::Draining => "DRAINING",
            Self::PreInitializing => "PRE_INITIALIZING",
            Self::Initializing => "INITIALIZING",
        }
    }

    /// 200 when live, else 503: what a probe looks at.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Live => StatusCode::OK,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// The state of the process. Clones share it; it begins as [`State::PreInitializing`].
#[derive(Clone, Debug)]
pub struct Readiness(Arc<AtomicU8>);

impl Readiness {
    /// Goes over to another state.
    pub fn set(&self, state: State) {
        self.0.store(state as u8, Ordering::Release);
    }

    /// The present state.
    pub fn state(&self) -> State {
        match self.0.load(Ordering::Acquire) {
            0 => State::Live,
            1 => State::Draining,
            2 => State::PreInitializing,
            _ => State::Initializing,
        }
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(AtomicU8::new(State::PreInitializing as u8)))
    }
}
