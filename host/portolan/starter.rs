//! The YAML that `demo`, `init` and `try` start from: templates with the addresses filled in.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

const GATEWAY: &str = include_str!("demo/gateway.yaml");
const ROUTES: &str = include_str!("demo/routes.yaml");
const SERVICES: &str = include_str!("demo/services.yaml");
const TRY: &str = include_str!("demo/try.yaml");

/// One file to write.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Starter {
    /// File name.
    pub name: &'static str,
    /// What is in it, in a few words.
    pub about: String,
    /// Its text.
    pub text: String,
}

/// A split of 80/20 between two backends on loopback ports: the gateway, its routes, its services.
pub(crate) fn split(listen: SocketAddr, v1: u16, v2: u16) -> [Starter; 3] {
    [
        Starter { name: "gateway.yaml", about: format!("Gateway on {listen}, any host"), text: at(GATEWAY, listen) },
        Starter {
            name: "routes.yaml",
            about: "VirtualService app (80/20), DestinationRule (subsets, breaker)".to_owned(),
            text: ROUTES.to_owned(),
        },
        Starter {
            name: "services.yaml",
            about: format!("ServiceEntry app -> 127.0.0.1:{v1}, :{v2}"),
            text: SERVICES.replace("@V1@", &v1.to_string()).replace("@V2@", &v2.to_string()),
        },
    ]
}

/// One host in front of one backend.
pub(crate) fn front(listen: SocketAddr, host: &str, to: &(String, u16)) -> Starter {
    let resolution = if to.0.parse::<std::net::IpAddr>().is_ok() { "STATIC" } else { "DNS" };
    let text = at(TRY, listen)
        .replace("@HOST@", host)
        .replace("@RESOLUTION@", resolution)
        .replace("@TO_HOST@", &to.0)
        .replace("@TO_PORT@", &to.1.to_string());
    Starter { name: "try.yaml", about: format!("{host} -> {}:{}", to.0, to.1), text }
}

/// `bind` only says something when it is not all addresses.
fn at(template: &str, listen: SocketAddr) -> String {
    let text = template.replace("@PORT@", &listen.port().to_string());
    if listen.ip().is_unspecified() {
        return text.replace("      bind: @BIND@\n", "");
    }
    text.replace("@BIND@", &format!("\"{}\"", listen.ip()))
}

/// Writes a file that must not exist yet.
pub(crate) fn write_new(folder: &Path, starter: &Starter) -> io::Result<()> {
    use std::io::Write;
    let mut file = std::fs::File::create_new(folder.join(starter.name))?;
    file.write_all(starter.text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placeholder_is_filled_in() {
        let listen = SocketAddr::from(([127, 0, 0, 1], 8080));
        let mut starters = Vec::from(split(listen, 9001, 9002));
        starters.push(front(listen, "*", &("shop".to_owned(), 80)));
        for starter in starters {
            let code = starter.text.lines().filter(|line| !line.trim_start().starts_with('#'));
            assert!(code.into_iter().all(|line| !line.contains('@')), "{}", starter.text);
        }
    }

    #[test]
    fn all_addresses_need_no_bind() {
        assert!(!at(GATEWAY, SocketAddr::from(([0, 0, 0, 0], 80))).contains("bind"));
        assert!(at(GATEWAY, SocketAddr::from(([127, 0, 0, 1], 80))).contains("bind: \"127.0.0.1\""));
    }
}
