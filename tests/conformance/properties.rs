//! Properties, by family.

use crate::support::probe::{Probe, asking};

/// The value of each property, in order, read in one callback.
fn read(probe: &Probe, phase: &str, names: &[&str]) -> Vec<String> {
    let calls: Vec<_> = names.iter().map(|name| format!("get_property '{}' &&", name.replace('.', "\\x00"))).collect();
    let request = asking(&format!("{phase} {{ {} }}", calls.join("; "))).header("x-a", "b").header("user-agent", "ua");
    let (_, saw) = probe.saw_to_the_end(request.header("referer", "ref"));
    let values = saw.of(phase).split("get_property=").skip(1).map(|value| value.trim().to_owned());
    values.collect()
}

fn bytes(number: u64) -> String {
    let shown = |byte: u8| {
        if (0x20..0x7f).contains(&byte) { char::from(byte).to_string() } else { format!("\\x{byte:02x}") }
    };
    format!("0:{}", number.to_le_bytes().into_iter().map(shown).collect::<String>())
}

#[test]
fn properties_of_the_request() {
    let probe = Probe::start();
    let names = [
        "request.path",
        "request.url_path",
        "request.host",
        "request.scheme",
        "request.method",
        "request.headers.x-a",
        "request.headers.none",
        "request.referer",
        "request.useragent",
        "request.protocol",
        "request.none",
    ];
    let wanted = ["0:/", "0:/", "0:h", "0:http", "0:GET", "0:b", "1:", "0:ref", "0:ua", "0:HTTP/1.1", "1:"];
    assert_eq!(read(&probe, "request_headers", &names), wanted);
    assert!(read(&probe, "request_headers", &["request.id"])[0].len() > 30);
    assert_eq!(read(&probe, "response_headers", &["request.path", "request.headers.x-a"]), ["0:/", "0:b"]);
    assert_eq!(read(&probe, "log", &["request.path", "request.headers.x-a"]), ["0:/", "0:b"]);
}

#[test]
fn properties_of_the_response() {
    let probe = Probe::start();
    assert_eq!(
        read(&probe, "request_headers", &["response.code", "response.flags", "upstream.address"]),
        ["1:", "1:", "1:"]
    );
    let names = [
        "response.code",
        "response.code_details",
        "response.flags",
        "response.headers.x-upstream",
        "upstream.address",
        "upstream.port",
    ];
    let address = probe.app.address();
    let wanted = [
        bytes(200),
        "0:via_upstream".to_owned(),
        bytes(0),
        "0:app".to_owned(),
        format!("0:{address}"),
        bytes(address.port().into()),
    ];
    assert_eq!(read(&probe, "response_headers", &names), wanted);
    assert_eq!(read(&probe, "log", &["response.code", "upstream.address"]), [bytes(200), format!("0:{address}")]);
}

#[test]
fn properties_of_the_connection() {
    let probe = Probe::start();
    let names = ["destination.address", "destination.port", "connection.mtls", "connection.tls_version"];
    let address = probe.gateway.address();
    let wanted = [format!("0:{address}"), bytes(address.port().into()), "0:\\x00".to_owned(), "1:".to_owned()];
    assert_eq!(read(&probe, "request_headers", &names), wanted);
    let found = read(&probe, "request_headers", &["source.address", "source.port", "connection.id", "connection_id"]);
    assert!(found[0].starts_with("0:127.0.0.1:"), "{found:?}");
    assert!(found[1..].iter().all(|value| value.starts_with("0:")), "{found:?}");
}

#[test]
fn properties_of_the_configuration() {
    let probe = Probe::with("  pluginName: my_root\n");
    let names = ["plugin_name", "plugin_root_id", "xds.cluster_name", "cluster_name"];
    let cluster = "0:outbound|80||app.test";
    assert_eq!(read(&probe, "request_headers", &names), ["0:default.probe", "0:my_root", cluster, cluster]);
    let routes = read(&probe, "request_headers", &["xds.route_name", "route_name", "plugin_vm_id"]);
    assert!(routes.iter().all(|value| value.starts_with("0:")), "{routes:?}");
}

#[test]
fn what_a_filter_sets_it_reads_back() {
    let probe = Probe::start();
    let script = "request_headers { set_property 'a' 'b'; get_property 'a' &&; get_property 'filter_state\\x00wasm.a' &&; \
                  get_property 'none' &&; get_property 'a\\x00' && } response_headers { get_property 'a' && } \
                  log { get_property 'a' && }";
    let (_, saw) = probe.saw_to_the_end(asking(script));
    assert_eq!(
        saw.of("request_headers"),
        "set_property=0 get_property=0:b get_property=0:b get_property=1: get_property=0:b"
    );
    assert_eq!((saw.of("response_headers"), saw.of("log")), ("get_property=0:b", "get_property=0:b"));
    assert_eq!(read(&probe, "request_headers", &["a"]), ["1:"], "another stream has its own");
}

/// The number in an answer of 8 bytes; none when it is absent or no number.
fn number(answer: &str) -> Option<u64> {
    let escaped = answer.strip_prefix("0:")?;
    let mut value = Vec::new();
    let mut rest = escaped;
    while let Some(character) = rest.chars().next() {
        if let Some(code) = rest.strip_prefix("\\x") {
            value.push(u8::from_str_radix(&code[..2], 16).ok()?);
            rest = &code[2..];
        } else {
            value.push(u8::try_from(character).ok()?);
            rest = &rest[character.len_utf8()..];
        }
    }
    Some(u64::from_le_bytes(value.try_into().ok()?))
}

#[test]
fn sizes_and_times_are_told_when_they_are_known() {
    let probe = Probe::start();
    let early =
        read(&probe, "request_headers", &["request.size", "request.total_size", "request.time", "request.duration"]);
    assert_eq!((early[0].as_str(), early[3].as_str()), (bytes(0).as_str(), "1:"), "{early:?}");
    assert!(number(&early[1]).is_some_and(|size| size > 40), "{early:?}");
    assert!(number(&early[2]).is_some_and(|time| time > 1_600_000_000_000_000_000), "{early:?}");
    let late =
        read(&probe, "log", &["request.duration", "response.size", "response.total_size", "response.backend_latency"]);
    let numbers: Vec<_> = late.iter().map(|answer| number(answer)).collect();
    assert!(numbers.iter().all(Option::is_some), "{late:?}");
    assert!(numbers[0] >= numbers[3] && numbers[2] > numbers[1], "{numbers:?}");
}

#[test]
fn the_upstream_is_known_once_it_is_tried() {
    let probe = Probe::start();
    let names = ["upstream.local_address", "upstream.request_attempt_count", "upstream.cx_pool_ready_duration"];
    assert_eq!(read(&probe, "request_headers", &names), ["1:", "1:", "1:"]);
    let found = read(&probe, "response_headers", &names);
    assert!(found[0].starts_with("0:127.0.0.1:"), "{found:?}");
    assert_eq!(found[1], bytes(1));
    assert!(number(&found[2]).is_some(), "{found:?}");
    let names =
        ["upstream.transport_failure_reason", "upstream.num_endpoints", "response.grpc_status", "upstream.tls_version"];
    assert_eq!(read(&probe, "response_headers", &names), ["0:".to_owned(), bytes(1), bytes(2), "1:".to_owned()]);
}

#[test]
fn names_and_metadata_of_the_configuration_are_istio_s() {
    let probe = Probe::start();
    let names =
        ["xds.listener_direction", "listener_direction", "xds.filter_chain_name", "metadata", "xds.listener_metadata"];
    let wanted = [bytes(2), bytes(2), "0:".to_owned(), "0:".to_owned(), "0:".to_owned()];
    assert_eq!(read(&probe, "request_headers", &names), wanted);
    let names =
        ["xds.virtual_host_name", "xds.route_metadata.filter_metadata.istio.config", "xds.node.cluster", "node.id"];
    let found = read(&probe, "request_headers", &names);
    assert!(found[0].starts_with("0:") && found[0].len() > 3, "{found:?}");
    assert!(
        found[1].starts_with("0:/apis/networking.istio.io/v1alpha3/namespaces/default/virtual-service/"),
        "{found:?}"
    );
    assert_eq!(found[2], "0:portolan");
    assert!(found[3].len() > 3, "{found:?}");
    let absent =
        ["metadata.filter_metadata.x", "upstream_filter_state.x", "xds.upstream_host_metadata", "xds.unheard_of"];
    assert_eq!(read(&probe, "request_headers", &absent), ["1:"; 4]);
}

#[test]
fn whole_maps_are_pairs_and_plugins_know_their_memory() {
    let probe = Probe::start();
    let found = read(
        &probe,
        "request_headers",
        &["request.headers", "request.headers.:path", "x_request_id", "plugin_vm_memory"],
    );
    assert!(found[0].contains(":authority\\x00h\\x00") && found[0].contains("x-a\\x00b\\x00"), "{found:?}");
    assert_eq!(found[1], "0:/");
    assert!(found[2].len() > 30, "{found:?}");
    assert!(number(&found[3]).is_some_and(|bytes| bytes >= 65_536 && bytes % 65_536 == 0), "{found:?}");
    assert_eq!(read(&probe, "request_headers", &["response.headers", "response.trailers"]), ["1:", "1:"]);
    assert!(read(&probe, "response_headers", &["response.headers"])[0].contains("x-upstream\\x00app\\x00"));
}

#[test]
fn what_is_the_host_s_cannot_be_set() {
    let probe = Probe::start();
    let script = "request_headers { set_property 'request\\x00path' '/x'; set_property 'route_name' 'x'; \
                  set_property 'source\\x00address' 'x'; set_property 'mcp_tool' 'x' }";
    let (_, saw) = probe.saw_to_the_end(asking(script));
    assert_eq!(saw.of("request_headers"), "set_property=2 set_property=2 set_property=2 set_property=0");
}
