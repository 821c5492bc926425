//! What is believed of clients and refused of them, in words.

use portolan_model::{EdgePolicy, OwnHeaders, ServerHeader};

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

/// Headers of the gateway's own.
pub(crate) fn own_headers(headers: &OwnHeaders) -> Vec<Told> {
    let OwnHeaders { server, request_id, attempt_count, debug } = headers;
    let server = match server {
        ServerHeader::Own => "portolan".to_owned(),
        ServerHeader::Overwrite(name) => name.clone(),
        ServerHeader::PassThrough => "the upstream's".to_owned(),
    };
    let said = |is_on: &bool| if *is_on { "added" } else { "not added" }.to_owned();
    vec![
        Told::new("server", server, None),
        Told::new("x-request-id", said(request_id), None),
        Told::new("x-envoy-attempt-count", said(attempt_count), None),
        Told::new("envoyDebugHeaders", said(debug), None),
    ]
}
