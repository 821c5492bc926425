//! What went wrong on the way to an endpoint, in the words of Envoy and its TLS library, by which dashboards and people
//! find it.

use std::error::Error as StdError;
use std::io;

use rustls::{AlertDescription, CertificateError, Error, OtherError};

use super::verify::Refused;

/// Which counter a failed handshake belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsCause {
    /// The certificate has none of the wanted names.
    Names,
    /// The certificate is not trusted.
    Certificate,
    /// Anything else.
    Connection,
}

/// What ended an HTTP/2 stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamFailure {
    /// The upstream has not looked at the request: REFUSED_STREAM, or a GOAWAY that leaves it out.
    Refused,
    /// The upstream has reset it.
    Reset,
    /// The upstream does not speak HTTP/2.
    Protocol,
}

/// True when an HTTP/2 server that goes in good order (GOAWAY with NO_ERROR) has not looked at the request: it is safe to
/// ask again on a new connection (RFC 9113 sections 6.8 and 8.7).
pub fn is_left_out(error: &hyper::Error) -> bool {
    let goes =
        |error: &h2::Error| error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
    caused_by::<h2::Error>(error).is_some_and(goes)
}

/// What hyper's error says of an HTTP/2 stream; none for HTTP/1 and for a connection that has broken.
pub(crate) fn stream_failure(error: &hyper::Error) -> Option<StreamFailure> {
    let error = caused_by::<h2::Error>(error)?;
    if error.is_go_away() && error.is_remote() || error.reason() == Some(h2::Reason::REFUSED_STREAM) {
        return Some(StreamFailure::Refused);
    }
    if error.is_io() {
        return None;
    }
    // One that says PROTOCOL_ERROR blames us, and Envoy takes it for one.
    let is_reset = error.is_reset() && error.is_remote() && error.reason() != Some(h2::Reason::PROTOCOL_ERROR);
    Some(if is_reset { StreamFailure::Reset } else { StreamFailure::Protocol })
}

/// The reason when the upstream has refused TLS after the handshake: version 1.3 tells of a certificate that is missing or
/// not good only with the first bytes of an answer.
pub(crate) fn alert(error: &hyper::Error) -> Option<String> {
    let error = caused_by::<io::Error>(error)?;
    match error.get_ref()?.downcast_ref::<Error>()? {
        alert @ Error::AlertReceived(_) => Some(of_rustls(alert).0),
        _ => None,
    }
}

fn caused_by<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        source = error.source();
    }
    None
}

/// The system's words without the number that Rust adds.
pub(super) fn system_text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// What ended a handshake.
pub(super) fn handshake(error: &io::Error) -> (String, TlsCause) {
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        return of_rustls(error);
    }
    // Of its system library: 2 in the upper eight bits, and errno.
    let code = (2 << 24) | error.raw_os_error().unwrap_or(0).unsigned_abs();
    (wrapped(&format!("{code}:system library:OPENSSL_internal:{}", system_text(error))), TlsCause::Connection)
}

fn wrapped(text: &str) -> String {
    format!("TLS_error:|{text}:TLS_error_end")
}

/// A reason of the TLS library proper: 16 in the upper eight bits.
fn reason(number: u32, text: &str) -> String {
    wrapped(&format!("{}:SSL routines:OPENSSL_internal:{text}", (16 << 24) | number))
}

fn of_rustls(error: &Error) -> (String, TlsCause) {
    match error {
        Error::InvalidCertificate(error) => of_certificate(error),
        Error::AlertReceived(alert) => {
            let number = u32::from(u8::from(*alert));
            (reason(1000 + number, alert_text(*alert)), TlsCause::Connection)
        }
        Error::InvalidMessage(_) => (reason(247, "WRONG_VERSION_NUMBER"), TlsCause::Connection),
        Error::PeerIncompatible(_) => (reason(240, "UNSUPPORTED_PROTOCOL"), TlsCause::Connection),
        other => (wrapped(&other.to_string()), TlsCause::Connection),
    }
}

fn of_certificate(error: &CertificateError) -> (String, TlsCause) {
    let failed = |text: &str| reason(125, &format!("CERTIFICATE_VERIFY_FAILED:{text}"));
    if let CertificateError::Other(OtherError(error)) = error
        && let Some(refused) = error.downcast_ref::<Refused>()
    {
        let cause = if matches!(refused, Refused::SelfSigned) { TlsCause::Certificate } else { TlsCause::Names };
        return (failed(&refused.to_string()), cause);
    }
    let other = error.to_string();
    let why = match error {
        CertificateError::UnknownIssuer => "unable to get local issuer certificate",
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "certificate has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "certificate is not yet valid",
        CertificateError::Revoked => "certificate revoked",
        CertificateError::UnknownRevocationStatus => "unable to get certificate CRL",
        CertificateError::BadSignature => "certificate signature failure",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "unsupported certificate purpose"
        }
        _ => other.as_str(),
    };
    let text = format!("verify cert failed: X509_verify_cert: certificate verification error at depth 0: {why}");
    (failed(&text), TlsCause::Certificate)
}

fn alert_text(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::HandshakeFailure => "SSLV3_ALERT_HANDSHAKE_FAILURE",
        AlertDescription::BadCertificate => "SSLV3_ALERT_BAD_CERTIFICATE",
        AlertDescription::UnsupportedCertificate => "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        AlertDescription::CertificateRevoked => "SSLV3_ALERT_CERTIFICATE_REVOKED",
        AlertDescription::CertificateExpired => "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        AlertDescription::CertificateUnknown => "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        AlertDescription::UnknownCA => "TLSV1_ALERT_UNKNOWN_CA",
        AlertDescription::AccessDenied => "TLSV1_ALERT_ACCESS_DENIED",
        AlertDescription::DecodeError => "TLSV1_ALERT_DECODE_ERROR",
        AlertDescription::DecryptError => "TLSV1_ALERT_DECRYPT_ERROR",
        AlertDescription::ProtocolVersion => "TLSV1_ALERT_PROTOCOL_VERSION",
        AlertDescription::InternalError => "TLSV1_ALERT_INTERNAL_ERROR",
        AlertDescription::UnrecognisedName => "TLSV1_UNRECOGNIZED_NAME",
        AlertDescription::CertificateRequired => "TLSV1_CERTIFICATE_REQUIRED",
        AlertDescription::NoApplicationProtocol => "TLSV1_ALERT_NO_APPLICATION_PROTOCOL",
        _ => "TLSV1_ALERT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_read_as_envoys_do() {
        let text = |error: Error| of_rustls(&error).0;
        assert_eq!(
            text(Error::AlertReceived(AlertDescription::HandshakeFailure)),
            "TLS_error:|268436496:SSL routines:OPENSSL_internal:SSLV3_ALERT_HANDSHAKE_FAILURE:TLS_error_end"
        );
        assert_eq!(
            text(Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)),
            "TLS_error:|268435703:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER:TLS_error_end"
        );
        assert_eq!(
            text(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
            "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert failed: \
             X509_verify_cert: certificate verification error at depth 0: unable to get local issuer certificate:TLS_error_end"
        );
        let reset = io::Error::from_raw_os_error(104);
        assert_eq!(
            handshake(&reset).0,
            "TLS_error:|33554536:system library:OPENSSL_internal:Connection reset by peer:TLS_error_end"
        );
    }
}
