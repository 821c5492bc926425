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
