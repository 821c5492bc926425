//! [`Credentials`]: what a client says in `authorization` (RFC 7617).

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Longest value that is looked at; nobody has such a password.
const MAX_VALUE: usize = 4_096;

/// Padding may be left out, as some clients do.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);

/// A name and a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) name: Vec<u8>,
    pub(crate) password: Vec<u8>,
}

impl Credentials {
    /// Reads the value of the header; none when it is something else, or has a control character.
    pub(crate) fn read(value: &[u8]) -> Option<Self> {
        let (scheme, rest) = value.trim_ascii().split_at_checked(6)?;
        if !scheme.eq_ignore_ascii_case(b"basic ") || value.len() > MAX_VALUE {
            return None;
        }
        let mut name = BASE64.decode(rest.trim_ascii()).ok()?;
        if name.iter().any(u8::is_ascii_control) {
            return None;
        }
        let colon = name.iter().position(|byte| *byte == b':')?;
        let password = name.split_off(colon + 1);
        name.pop();
        (!name.is_empty()).then_some(Self { name, password })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(value: &str) -> Option<(String, String)> {
        let credentials = Credentials::read(value.as_bytes())?;
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Some((text(credentials.name), text(credentials.password)))
    }

    #[test]
    fn name_and_password_are_read() {
        for (value, name, password) in [
            ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Aladdin", "open sesame"),
            ("bASIC   QWxhZGRpbjpvcGVuIHNlc2FtZQ", "Aladdin", "open sesame"),
            ("Basic YTpiOmM=", "a", "b:c"),
            ("Basic YTo=", "a", ""),
        ] {
            assert_eq!(read(value), Some((name.into(), password.into())), "{value}");
        }
    }

    #[test]
    fn everything_else_is_none() {
        for value in ["", "Basic", "Basic ", "Basic YQ==", "Basic OmI=", "Bearer YTpi", "Basic a:b", "Basic YQo6Yg=="] {
            assert_eq!(read(value), None, "{value}");
        }
        let long = format!("Basic {}", "YTpi".repeat(1_024));
        assert_eq!(read(&long), None);
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_read(name in "[^:\\x00-\\x1f\\x7f]{1,20}", password in "[^\\x00-\\x1f\\x7f]{0,20}") {
            let value = format!("Basic {}", BASE64.encode(format!("{name}:{password}")));
            prop_assert_eq!(read(&value), Some((name, password)));
        }

        #[test]
        fn any_bytes_are_taken(value: Vec<u8>, text in "Basic [A-Za-z0-9+/=:]{0,30}") {
            Credentials::read(&value);
            Credentials::read(text.as_bytes());
        }
    }
}
