//! [`Staple`]: an OCSP response (RFC 6960) that a Secret brings along: which certificate it speaks of, and until when.

use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

/// `id-pkix-ocsp-basic`, the one kind of response that there is.
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const ENUMERATED: u8 = 0x0a;
const SEQUENCE: u8 = 0x30;
/// `[0]`, constructed.
const CONTEXT_0: u8 = 0xa0;

/// A response that may be stapled. Whoever gets it checks its signature.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Staple {
    /// In seconds of Unix time; later it says nothing any more. Always when it does not say.
    pub(super) until: i64,
}

/// Why a response is not stapled. The certificate is shown without it, as by Envoy's LENIENT_STAPLING.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StapleError {
    #[error("its OCSP response is malformed, or none of success")]
    Malformed,
    #[error("its OCSP response is for another certificate")]
    Mismatch,
}

impl Staple {
    /// Reads a response, in DER, for this certificate.
    pub(super) fn read(response: &[u8], certificate: &[u8]) -> Result<Self, StapleError> {
        let (serial, until) = single(response).ok_or(StapleError::Malformed)?;
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| StapleError::Mismatch)?;
        if parsed.raw_serial() == serial { Ok(Self { until }) } else { Err(StapleError::Mismatch) }
    }
}

/// Serial number and end of the first answer of a response.
fn single(response: &[u8]) -> Option<(&[u8], i64)> {
    let (response, _) = expect(SEQUENCE, response)?;
    let (status, rest) = expect(ENUMERATED, response)?;
    if status != [0] {
        return None;
    }
    let (bytes, _) = expect(SEQUENCE, expect(CONTEXT_0, rest)?.0)?;
    let (kind, rest) = expect(OID, bytes)?;
    if kind != BASIC {
        return None;
    }
    let (basic, _) = expect(SEQUENCE, expect(OCTET_STRING, rest)?.0)?;
    let (data, _) = expect(SEQUENCE, basic)?;
    // Version, responder and time; the first is left out where it is the default.
    let data = if data.first() == Some(&CONTEXT_0) { element(data)?.2 } else { data };
    let rest = element(element(data)?.2)?.2;
    let (answers, _) = expect(SEQUENCE, rest)?;
    let (answer, _) = expect(SEQUENCE, answers)?;
    let (id, rest) = expect(SEQUENCE, answer)?;
    let hashes = element(element(element(id)?.2)?.2)?.2;
    let (serial, _) = expect(INTEGER, hashes)?;
    let (rest, _this_update) = ASN1Time::from_der(element(rest)?.2).ok()?;
    let until = match expect(CONTEXT_0, rest) {
        Some((next, _)) => ASN1Time::from_der(next).ok()?.1.timestamp(),
        None => i64::MAX,
    };
    Some((serial, until))
}

/// The content of an element of this kind, and what follows.
fn expect(tag: u8, input: &[u8]) -> Option<(&[u8], &[u8])> {
    element(input).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
}

/// Kind, content and what follows. Lengths beyond 16 MiB are none of ours.
fn element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82], &length[..], &content].concat()
    }

    fn response(status: u8, serial: &[u8], next: Option<&str>) -> Vec<u8> {
        let time = |text: &str| der(0x18, &[text.as_bytes()]);
        let id = der(
            SEQUENCE,
            &[&der(SEQUENCE, &[]), &der(OCTET_STRING, &[b"n"]), &der(OCTET_STRING, &[b"k"]), &der(INTEGER, &[serial])],
        );
        let next = next.map_or_else(Vec::new, |next| der(CONTEXT_0, &[&time(next)]));
        let answer = der(SEQUENCE, &[&id, &der(0x80, &[]), &time("20240101000000Z"), &next]);
        let data = der(SEQUENCE, &[&der(0xa2, &[]), &time("20240101000000Z"), &der(SEQUENCE, &[&answer])]);
        let basic = der(SEQUENCE, &[&data, &der(SEQUENCE, &[]), &der(3, &[&[0]])]);
        let bytes = der(SEQUENCE, &[&der(OID, &[BASIC]), &der(OCTET_STRING, &[&basic])]);
        der(SEQUENCE, &[&der(ENUMERATED, &[&[status]]), &der(CONTEXT_0, &[&bytes])])
    }

    #[test]
    fn a_response_is_read_for_its_own_certificate_up_to_its_end() {
        let mut params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.serial_number = Some(rcgen::SerialNumber::from(77_u64));
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let read = |response: &[u8]| Staple::read(response, certificate.der()).map(|staple| staple.until);
        let serial = 77_u64.to_be_bytes();
        let serial = &serial[7..];
        assert_eq!(read(&response(0, serial, Some("20400101000000Z"))), Ok(2_208_988_800));
        assert_eq!(read(&response(0, serial, None)), Ok(i64::MAX));
        assert_eq!(read(&response(0, &[78], None)), Err(StapleError::Mismatch));
        assert_eq!(read(&response(3, serial, None)), Err(StapleError::Malformed));
        let whole = response(0, serial, Some("20400101000000Z"));
        assert!((0..whole.len()).all(|end| read(&whole[..end]).is_err()), "no part of it is one");
    }
}
