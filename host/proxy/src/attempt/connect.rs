//! The other end of a CONNECT that ends here: a connection to an endpoint, tried as often as a request would be.

use std::pin::pin;
use std::rc::Rc;

use super::Attempts;
use super::outcome::{Try, no_connection};
use crate::deadline::within;
use crate::lease::OpenConnection;
use crate::local_reply::{Failure, Reply};
use crate::pool::{CheckoutError, EndpointPool, PoolLimits, Wanted};
use crate::router::Upstream;
use crate::upstream::{Application, Socket};

/// A connection to an endpoint, counted until it is dropped.
pub(crate) struct Opened {
    pub(crate) socket: Socket,
    pub(crate) open: Rc<OpenConnection>,
    pub(crate) upstream: Upstream,
}

impl Attempts<'_> {
    /// Connects to an endpoint over TCP, with the cluster's TLS where it has some.
    pub(crate) async fn connect(&mut self) -> Result<Opened, Box<Reply>> {
        let mut deadline = self.deadline.take();
        let opened = within(deadline.as_mut(), pin!(self.connect_to_any())).await;
        opened.unwrap_or_else(|| Err(Box::new(self.timed_out())))
    }

    async fn connect_to_any(&mut self) -> Result<Opened, Box<Reply>> {
        loop {
            self.tries += 1;
            let failure = match self.pick() {
                Ok(pool) => match self.connect_to(&pool).await {
                    Ok(opened) => return Ok(opened),
                    Err(error) => {
                        self.job.stream.fail_try_span(Failure::Connect);
                        no_connection(&self.job.cluster.state.metrics, error)
                    }
                },
                Err(failure) => failure,
            };
            let Try::Failed { failure, cause, reason, .. } = failure else { continue };
            if let Some(reply) = self.give_up(failure, cause, reason, true).await {
                return Err(reply);
            }
        }
    }

    async fn connect_to(&mut self, pool: &Rc<EndpointPool>) -> Result<Opened, CheckoutError> {
        let (stream, cluster) = (self.job.stream, self.job.cluster);
        let limits = PoolLimits { breakers: stream.with_state(|state| state.host.limits), ..cluster.limits };
        let Some(place) = cluster.state.open_connection(limits.breakers.max_connections) else {
            cluster.state.metrics.upstream_cx_overflow.inc();
            return Err(CheckoutError::Overflow);
        };
        stream.with_state(|state| state.host.endpoint = Some(pool.endpoint.clone()));
        let (transport, key) = (&cluster.transport, self.key.clone());
        let wanted = Wanted { limits, transport, key, is_http2: false, fresh: true };
        let opened = self.pool.open(pool, &wanted, Application::Tcp, place).await;
        let (socket, open) = opened.inspect_err(|error| self.note_failure(error))?;
        stream.note(|info| info.upstream_local = socket.local());
        Ok(Opened { socket, open, upstream: self.upstream(pool) })
    }
}
