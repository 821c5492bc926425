//! What is believed of clients and refused of them, in words.

use portolan_model::EdgePolicy;

use super::{Told, plugin::word};

/// Whose word counts, and which header names are refused.
pub(crate) fn edge_policy(policy: &EdgePolicy) -> Vec<Told> {
    let EdgePolicy { num_trusted_proxies, forward_client_cert, underscores } = policy;
    vec![
        Told::new("numTrustedProxies", num_trusted_proxies.to_string(), None),
        Told::new("forwardClientCertDetails", word(forward_client_cert), None),
        Told::new("headersWithUnderscores", word(underscores), None),
    ]
}
