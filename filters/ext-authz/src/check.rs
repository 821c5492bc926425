//! [`CheckRequest`]: `envoy.service.auth.v3.CheckRequest`, with the attributes that Envoy sends.

use crate::wire::Writer;

/// The method that is called.
pub const SERVICE: &str = "envoy.service.auth.v3.Authorization";
/// The method that is called.
pub const METHOD: &str = "Check";

/// What is told of a request. Texts are as they came; addresses have their port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckRequest {
    /// `request.http.id`: the value of `x-request-id`.
    pub id: String,
    /// Who sent it: `ADDRESS:PORT`.
    pub source: String,
    /// Where it came to.
    pub destination: String,
    /// Nanoseconds since 1970.
    pub time: u64,
    /// `request.http.method`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Host, and port when the client named one.
    pub host: String,
    /// `http` or `https`.
    pub scheme: String,
    /// `HTTP/1.1`.
    pub protocol: String,
    /// Lines of the head, pseudo headers included; several of one name are joined by commas.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, as far as it is sent.
    pub body: Vec<u8>,
    /// The body as bytes instead of text.
    pub pack_as_bytes: bool,
    /// The body's length when it is known.
    pub size: u64,
    /// `context_extensions`.
    pub extensions: Vec<(String, String)>,
}

impl CheckRequest {
    /// The message.
    pub fn encode(&self) -> Vec<u8> {
        let mut message = Writer::default();
        message.message(1, |attributes| {
            attributes.message(1, |peer| self::peer(peer, &self.source));
            attributes.message(2, |peer| self::peer(peer, &self.destination));
            attributes.message(4, |request| {
                request.message(1, |time| {
                    time.number(1, self.time / 1_000_000_000);
                    time.number(2, self.time % 1_000_000_000);
                });
                request.message(2, |http| self.http(http));
            });
            for (key, value) in &self.extensions {
                attributes.entry(10, key.as_bytes(), value.as_bytes());
            }
        });
        message.into_bytes()
    }

    fn http(&self, http: &mut Writer) {
        http.bytes(1, self.id.as_bytes());
        http.bytes(2, self.method.as_bytes());
        for (name, value) in &self.headers {
            // The map is of texts: what is not UTF-8 would make the message invalid.
            http.entry(3, name.as_bytes(), String::from_utf8_lossy(value).as_bytes());
        }
        http.bytes(4, self.path.as_bytes());
        http.bytes(5, self.host.as_bytes());
        http.bytes(6, self.scheme.as_bytes());
        http.number(9, self.size);
        http.bytes(10, self.protocol.as_bytes());
        if self.pack_as_bytes {
            http.bytes(12, &self.body);
        } else {
            http.bytes(11, String::from_utf8_lossy(&self.body).as_bytes());
        }
    }

    /// Adds a header line, to the one of the same name when there is one.
    pub fn add_header(&mut self, name: &[u8], value: &[u8]) {
        let name = String::from_utf8_lossy(name).into_owned();
        match self.headers.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => {
                known.push(b',');
                known.extend_from_slice(value);
            }
            None => self.headers.push((name, value.to_vec())),
        }
    }
}

/// `AttributeContext.Peer` with a socket address.
fn peer(peer: &mut Writer, address: &str) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    peer.message(1, |outer| {
        outer.message(1, |socket| {
            socket.bytes(2, host.trim_matches(['[', ']']).as_bytes());
            socket.number(3, port.parse().unwrap_or(0));
        });
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::wire::fields;

    /// The value at a path of field numbers, the first of each.
    fn at<'a>(message: &'a [u8], path: &[u64]) -> &'a [u8] {
        path.iter().fold(message, |message, wanted| {
            fields(message).map(Result::unwrap).find(|(number, _)| number == wanted).unwrap().1.bytes()
        })
    }

    #[test]
    fn attributes_stand_where_envoy_puts_them() {
        let mut request = CheckRequest {
            id: "id".into(),
            source: "[::1]:7000".into(),
            destination: "10.0.0.1:80".into(),
            time: 5_000_000_007,
            method: "POST".into(),
            path: "/a?b".into(),
            host: "h".into(),
            scheme: "http".into(),
            protocol: "HTTP/1.1".into(),
            body: b"body".to_vec(),
            size: 4,
            extensions: vec![("k".into(), "v".into())],
            ..CheckRequest::default()
        };
        request.add_header(b"x", b"1");
        request.add_header(b"x", b"2");
        let bytes = request.encode();
        for (path, wanted) in [
            (&[1, 1, 1, 1, 2][..], "::1"),
            (&[1, 2, 1, 1, 2], "10.0.0.1"),
            (&[1, 4, 2, 1], "id"),
            (&[1, 4, 2, 2], "POST"),
            (&[1, 4, 2, 3, 1], "x"),
            (&[1, 4, 2, 3, 2], "1,2"),
            (&[1, 4, 2, 4], "/a?b"),
            (&[1, 4, 2, 5], "h"),
            (&[1, 4, 2, 6], "http"),
            (&[1, 4, 2, 10], "HTTP/1.1"),
            (&[1, 4, 2, 11], "body"),
            (&[1, 10, 1], "k"),
            (&[1, 10, 2], "v"),
        ] {
            assert_eq!(String::from_utf8_lossy(at(&bytes, path)), wanted, "{path:?}");
        }
        let port = fields(at(&bytes, &[1, 1, 1, 1])).map(Result::unwrap).find(|(number, _)| *number == 3);
        assert_eq!(port.map(|(_, port)| port.number()), Some(7000));
        let nanos = fields(at(&bytes, &[1, 4, 1])).map(|field| field.unwrap().1.number());
        assert_eq!(nanos.collect::<Vec<_>>(), [5, 7]);
    }

    #[test]
    fn a_body_of_bytes_goes_into_its_own_field() {
        let request = CheckRequest { body: vec![0xff, 0], pack_as_bytes: true, ..CheckRequest::default() };
        assert_eq!(at(&request.encode(), &[1, 4, 2, 12]), [0xff, 0]);
        let request = CheckRequest { body: vec![0xff], ..CheckRequest::default() };
        assert_eq!(at(&request.encode(), &[1, 4, 2, 11]), "\u{fffd}".as_bytes());
    }
}
