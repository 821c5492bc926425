//! `upstream.*`: nothing of it is there before the first try.

use super::{duration, number, text, upstream_address};
use crate::context::StreamContext;

pub(super) fn write(context: &StreamContext, name: &[u8], out: &mut Vec<u8>) -> bool {
    if context.attempts == 0 {
        return false;
    }
    let course = context.course.as_ref();
    match name {
        b"address" | b"port" => context.endpoint.as_ref().is_some_and(|of| upstream_address(of.address, name, out)),
        b"local_address" => {
            course.and_then(|course| course.upstream_local).is_some_and(|local| text(&local.to_string(), out))
        }
        b"request_attempt_count" => number(u64::from(context.attempts), out),
        b"cx_pool_ready_duration" => duration(course.and_then(|course| course.pool_ready), out),
        b"transport_failure_reason" => course.is_some_and(|course| text(&course.transport_failure, out)),
        b"num_endpoints" => {
            let cluster = context.choice.and_then(|choice| context.snapshot.cluster(choice.cluster));
            cluster.is_some_and(|cluster| number(cluster.state.endpoints().endpoints.len() as u64, out))
        }
        // Names of a TLS connection to the upstream: there is none yet.
        _ => false,
    }
}
