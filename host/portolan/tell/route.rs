//! A route in words: what it asks of a request, and what it does with it.

use portolan_model::{
    CorsPolicy, DirectResponse, FaultAbort, FaultPolicy, Forward, GRPC_STATUSES, HeaderMatch, HeaderOperations, Mirror,
    Origin, Redirect, RetryPolicy, Rewrite, Route, RouteAction, RouteMatch, Share, Sticky, StringMatch,
};

use super::{Told, others, quoted, time};

/// `uri prefix "/api", headers x-user exact "beta"`; `any request` without a condition.
pub(crate) fn conditions(matches: &RouteMatch) -> String {
    let RouteMatch { uri, ignore_uri_case, scheme, method, authority, headers, without_headers, query_params } =
        matches;
    let case = if *ignore_uri_case { " ignoring case" } else { "" };
    let named = |what: &str, one: &HeaderMatch| format!("{what} {} {}", one.name, string(&one.value));
    let single = [
        ("uri", uri.as_ref()),
        ("scheme", scheme.as_deref()),
        ("method", method.as_deref()),
        ("authority", authority.as_deref()),
    ];
    let single = single.into_iter().filter_map(|(what, value)| {
        let value = value?;
        Some(format!("{what} {}{}", string(value), if what == "uri" { case } else { "" }))
    });
    let lists = [("headers", headers), ("withoutHeaders", without_headers), ("queryParams", query_params)];
    let listed = lists.into_iter().flat_map(|(what, list)| list.iter().map(move |one| named(what, one)));
    let all: Vec<_> = single.chain(listed).collect();
    if all.is_empty() { "any request".to_owned() } else { all.join(", ") }
}

fn string(value: &StringMatch) -> String {
    match value {
        StringMatch::Exact(text) => format!("exact {}", quoted(text)),
        StringMatch::Prefix(text) => format!("prefix {}", quoted(text)),
        StringMatch::Regex(text) => format!("regex {}", quoted(text)),
        StringMatch::Present => "present".to_owned(),
    }
}

/// All that a route does besides choosing a destination.
pub(crate) fn action(route: &Route) -> Vec<Told> {
    let origin = &route.origin;
    match &route.action {
        RouteAction::Forward(forward) => self::forward(forward, origin),
        RouteAction::Redirect(redirect) => {
            let told = Told::new("redirect", self::redirect(redirect), Some(origin.place_of("redirect")));
            std::iter::once(told).chain(headers(&redirect.headers, &[origin])).collect()
        }
        RouteAction::DirectResponse(direct) => {
            let told = Told::new("directResponse", direct_response(direct), Some(origin.place_of("directResponse")));
            std::iter::once(told).chain(headers(&direct.headers, &[origin])).collect()
        }
    }
}

fn forward(forward: &Forward, origin: &Origin) -> Vec<Told> {
    let rewrite = forward.rewrite.as_ref().map(|rewrite| {
        let place = origin.parts.place("rewrite").or_else(|| origin.parts.place("headers.request.set.host"));
        Told::new("rewrite", self::rewrite(rewrite), Some(place.unwrap_or_else(|| origin.place())))
    });
    let timeout = forward.timeout_ms.map_or_else(|| "no timeout".to_owned(), |ms| format!("timeout {}", time(ms)));
    let sticky = forward.sticky.as_ref().map(|sticky| Told::new("sticky", self::sticky(sticky), None));
    // With one destination its operations are among the route's.
    let mut origins = vec![origin];
    if let [only] = forward.destinations.as_slice() {
        origins.insert(0, &only.origin);
    }
    let mut told: Vec<_> = rewrite.into_iter().chain(headers(&forward.headers, &origins)).collect();
    told.push(Told::new("timeout", timeout, origin.parts.place("timeout")));
    told.push(Told::new("retries", retries(&forward.retry), origin.parts.place("retries")));
    told.extend(sticky);
    told.extend(
        forward.fault.as_deref().map(|fault| Told::new("fault", self::fault(fault), origin.parts.place("fault"))),
    );
    told.extend(mirrors(&forward.mirrors));
    told.extend(
        forward.cors.as_deref().map(|cors| Told::new("cors", self::cors(cors), origin.parts.place("corsPolicy"))),
    );
    let known = ["destinations", "rewrite", "timeout_ms", "retry", "headers", "sticky", "fault", "mirrors", "cors"];
    told.extend(others(forward, &known).into_iter().map(|told| {
        let place = origin.parts.place(&told.kind);
        Told::new(&told.kind, format!("{} {}", told.kind, told.text), place)
    }));
    told
}

/// `fault delay 50 ms for 100 %, abort 503 for 0.5 %`.
fn fault(fault: &FaultPolicy) -> String {
    let FaultPolicy { delay, abort } = fault;
    let delay = delay.map(|(ms, share)| format!("delay {} for {}", time(ms), self::share(share)));
    let abort = abort.map(|(abort, share)| format!("abort {} for {}", aborted(abort), self::share(share)));
    format!("fault {}", [delay, abort].into_iter().flatten().collect::<Vec<_>>().join(", "))
}

/// What a fault answers with.
pub(crate) fn aborted(abort: FaultAbort) -> String {
    match abort {
        FaultAbort::Http(status) => status.to_string(),
        FaultAbort::Grpc(status) => {
            format!("grpc-status {}", GRPC_STATUSES.get(usize::from(status)).copied().unwrap_or("UNKNOWN"))
        }
    }
}

/// `0.5 %`.
pub(crate) fn share(share: Share) -> String {
    format!("{} %", f64::from(share) / 10_000.0)
}

/// `mirror to app v1 for 100 %, to app v2 for 5 %`.
fn mirrors(mirrors: &[Mirror]) -> Option<Told> {
    let first = mirrors.first()?;
    let to = |mirror: &Mirror| format!("to {} for {}", crate::change::short(&mirror.cluster_name), share(mirror.share));
    let text = format!("mirror {}", mirrors.iter().map(to).collect::<Vec<_>>().join(", "));
    Some(Told::new("mirrors", text, Some(first.origin.place())))
}

/// `cors exact "https://a.test", methods GET,PUT, max age 60 s`.
fn cors(cors: &CorsPolicy) -> String {
    let CorsPolicy {
        allow_origins,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
        forward_unmatched,
    } = cors;
    let origins: Vec<_> = allow_origins.iter().map(string).collect();
    let mut words =
        vec![format!("cors {}", if origins.is_empty() { "nobody".to_owned() } else { origins.join(" or ") })];
    let lists = [("methods", allow_methods), ("headers", allow_headers), ("exposed headers", expose_headers)];
    words.extend(lists.iter().filter(|(_, list)| !list.is_empty()).map(|(what, list)| format!("{what} {list}")));
    words.extend(max_age.map(|seconds| format!("max age {seconds} s")));
    words.extend(allow_credentials.then(|| "with credentials".to_owned()));
    words.extend((!forward_unmatched).then(|| "other preflights are answered".to_owned()));
    words.join(", ")
}

fn rewrite(rewrite: &Rewrite) -> String {
    let Rewrite { uri, uri_regex, authority } = rewrite;
    let uri = uri.as_ref().map(|uri| format!("uri {}", quoted(uri)));
    let regex = uri_regex.as_ref().map(|(from, to)| format!("uri hits of {} to {}", quoted(from), quoted(to)));
    let authority = authority.as_ref().map(|authority| format!("authority {}", quoted(authority)));
    [uri, regex, authority].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// `remove x-a`, `set x-a: b`, `add x-a: b`, for requests and for responses, in the order in which they are carried out.
pub(crate) fn headers(operations: &HeaderOperations, origins: &[&Origin]) -> Vec<Told> {
    let HeaderOperations { request_remove, request_set, request_add, response_remove, response_set, response_add } =
        operations;
    let place = |part: String| {
        let written = origins.iter().find_map(|origin| origin.parts.place(&part));
        written.or_else(|| origins.first().map(|origin| origin.place()))
    };
    let directions = [
        ("request", request_remove, request_set, request_add),
        ("response", response_remove, response_set, response_add),
    ];
    let mut told = Vec::new();
    for (direction, remove, set, add) in directions {
        let kind = format!("headers.{direction}");
        let removed = remove
            .iter()
            .map(|name| Told::new(&kind, format!("{direction} remove {name}"), place(format!("{kind}.remove.{name}"))));
        told.extend(removed);
        for (verb, pairs) in [("set", set), ("add", add)] {
            told.extend(pairs.iter().map(|(name, value)| {
                let text = format!("{direction} {verb} {name}: {}", portolan_config::render::escape(value));
                Told::new(&kind, text, place(format!("{kind}.{verb}.{name}")))
            }));
        }
    }
    told
}

/// `retries 2 on connect-failure refused-stream cancelled unavailable`.
pub(crate) fn retries(retry: &RetryPolicy) -> String {
    if retry.attempts == 0 {
        return "no retries".to_owned();
    }
    let flags = [
        (retry.on_5xx, "5xx"),
        (retry.gateway_error, "gateway-error"),
        (retry.reset, "reset"),
        (retry.connect_failure, "connect-failure"),
        (retry.refused_stream, "refused-stream"),
        (retry.retriable_4xx, "retriable-4xx"),
        (retry.reset_before_request, "reset-before-request"),
        (retry.envoy_ratelimited, "envoy-ratelimited"),
    ];
    let on = flags.iter().filter(|(set, _)| *set).map(|(_, name)| (*name).to_owned());
    let grpc = retry.grpc_statuses.iter().filter_map(|status| GRPC_STATUSES.get(usize::from(*status)));
    let grpc = grpc.map(|name| name.to_ascii_lowercase().replace('_', "-"));
    let on: Vec<_> = on.chain(retry.status_codes.iter().map(u16::to_string)).chain(grpc).collect();
    let each = retry.per_try_timeout_ms.map(|ms| format!(", each within {}", time(ms))).unwrap_or_default();
    format!("retries {} on {}{each}", retry.attempts, on.join(" "))
}

fn sticky(sticky: &Sticky) -> String {
    match sticky {
        Sticky::Cookie(name) => format!("sticky by cookie {name}"),
        Sticky::Header(name) => format!("sticky by header {name}"),
    }
}

fn redirect(redirect: &Redirect) -> String {
    let Redirect { uri, prefix_rewrite, authority, port, port_from_request, scheme, keep_port, status, .. } = redirect;
    let mut words = vec![format!("redirect {status}")];
    words.extend(scheme.as_ref().map(|scheme| format!("scheme {scheme}")));
    words.extend(authority.as_ref().map(|authority| format!("authority {}", quoted(authority))));
    words.extend(port.map(|port| format!("port {port}")));
    words.extend(port_from_request.then(|| "the listener's port".to_owned()));
    words.extend(keep_port.then(|| "the port that was asked for".to_owned()));
    words.extend(uri.as_ref().map(|uri| format!("uri {}", quoted(uri))));
    words.extend(prefix_rewrite.as_ref().map(|prefix| format!("prefix to {}", quoted(prefix))));
    let known =
        ["uri", "prefix_rewrite", "authority", "port", "port_from_request", "scheme", "keep_port", "status", "headers"];
    words.extend(others(redirect, &known).into_iter().map(|told| format!("{} {}", told.kind, told.text)));
    words.join(", ")
}

fn direct_response(direct: &DirectResponse) -> String {
    match (direct.body.len(), std::str::from_utf8(&direct.body)) {
        (0, _) => format!("direct response {}", direct.status),
        (1..=60, Ok(text)) => format!("direct response {} {}", direct.status, quoted(text)),
        (length, _) => format!("direct response {}, {length} bytes ({:08x})", direct.status, checksum(&direct.body)),
    }
}

/// Tells long bodies apart.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
