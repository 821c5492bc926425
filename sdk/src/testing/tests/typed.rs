//! Typed reads: whatever bytes the host gives, there is a value or none.

use proptest::prelude::*;

use crate::prelude::*;
use crate::testing::TestHost;

/// Reads everything that has a type.
struct Reader;

impl Filter for Reader {
    type Config = NoConfig;
    type Stream = ();

    const ON_ERROR: OnError = OnError::Fail;

    fn configure(_: NoConfig) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn stream(&self) {}

    fn on_request_headers(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
        request.segments()?.count();
        request.params()?.count();
        request.param("a")?;
        request.cookie("a")?;
        let _ = (request.host()?, request.port()?);
        request.header_as::<u8>("x")?;
        request.header_list("x")?.count();
        request.add_to_header("x", "y")?;
        request.remove_headers("x")?;
        Ok(Action::Continue)
    }

    fn on_log(&self, _: &mut (), exchange: &Exchange<'_>) -> Result<(), HostError> {
        let _ = (exchange.source_address()?, exchange.upstream_address()?, exchange.destination_address()?);
        let _ = (exchange.request_id()?, exchange.protocol()?, exchange.route_name()?, exchange.server_name()?);
        let _ = (exchange.is_tls()?, exchange.is_mtls()?, exchange.response_code()?, exchange.response_code_details()?);
        let _ = (exchange.request_size()?, exchange.response_size()?, exchange.duration_of_request()?);
        let _ = (exchange.cluster_name()?, exchange.virtual_host_name()?);
        exchange.set_property("read", b"all")
    }
}

crate::filter! { Reader: on_request_headers, on_log }

const PROPERTIES: [&str; 15] = [
    "source\0address",
    "upstream\0address",
    "destination\0address",
    "request\0id",
    "request\0protocol",
    "request\0size",
    "request\0duration",
    "response\0code",
    "response\0code_details",
    "response\0size",
    "xds\0route_name",
    "xds\0cluster_name",
    "connection\0requested_server_name",
    "connection\0tls_version",
    "connection\0mtls",
];

proptest! {
    #[test]
    fn any_headers_can_be_read(path: String, authority: String, cookie: String, x: String) {
        let host = TestHost::<Reader>::start("").expect("any configuration will do");
        let mut stream = host.stream();
        let headers = [(":path", path.as_str()), (":authority", &authority), ("cookie", &cookie), ("X", &x)];
        prop_assert_eq!(stream.request_headers(&headers), Action::Continue);
        prop_assert_eq!(stream.request_header("x"), Vec::<String>::new());
        prop_assert_eq!(host.logs(), vec![]);
    }

    #[test]
    fn any_properties_can_be_read(bytes: Vec<u8>) {
        let host = TestHost::<Reader>::start("").expect("any configuration will do");
        let mut stream = host.stream();
        for key in PROPERTIES {
            stream.set_property(key, &bytes);
        }
        stream.log();
        prop_assert_eq!(stream.property("read"), Some(b"all".to_vec()));
    }
}
