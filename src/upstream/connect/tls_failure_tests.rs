//! Every cause in rustls errors, with its text.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{InvalidMessage, OtherError, PeerMisbehaved};

use super::*;

fn text_of(error: &Error) -> String {
    TlsFailure::from(error).to_string()
}

fn certificate(error: CertificateError) -> Error {
    Error::InvalidCertificate(error)
}

fn other(error: webpki::Error) -> Error {
    certificate(CertificateError::Other(OtherError(Arc::new(error))))
}

/// A7: each cause has a text of its own, and a remedy
#[test]
fn every_cause_has_its_text() {
    let (time, then) = (
        UnixTime::since_unix_epoch(Duration::from_secs(1_795_950_000)),
        UnixTime::since_unix_epoch(Duration::from_secs(1_700_000_000)),
    );
    let name = CertificateError::NotValidForNameContext {
        expected: ServerName::try_from("store.example").unwrap(),
        presented: vec!["DnsName(\"a.test\")".to_owned(), "b.test".to_owned()],
    };
    for (error, expected) in [
        (certificate(CertificateError::UnknownIssuer), vec!["no authority", "tls.ca_file"]),
        (
            other(webpki::Error::CaUsedAsEndEntity),
            vec!["certificate of an authority", "CA:FALSE", "tls.ca_file"],
        ),
        (other(webpki::Error::NameConstraintViolation), vec!["may not issue"]),
        (other(webpki::Error::UnsupportedCertVersion), vec!["malformed", "version 3"]),
        (
            other(webpki::Error::MaximumPathDepthExceeded),
            vec!["is rejected", "MaximumPathDepthExceeded", "openssl"],
        ),
        (
            certificate(name),
            vec!["for other names (requested: store.example; its names: a.test, b.test)", "endpoints"],
        ),
        (certificate(CertificateError::NotValidForName), vec!["for other names"]),
        (
            certificate(CertificateError::ExpiredContext { time, not_after: then }),
            vec!["has expired", "14 Nov 2023", "clock"],
        ),
        (certificate(CertificateError::Expired), vec!["has expired"]),
        (
            certificate(CertificateError::NotValidYetContext { time: then, not_before: time }),
            vec!["not valid yet", "2026", "clock"],
        ),
        (certificate(CertificateError::NotValidYet), vec!["not valid yet"]),
        (certificate(CertificateError::BadSignature), vec!["does not match", "tls.ca_file"]),
        (certificate(CertificateError::Revoked), vec!["revoked", "replace"]),
        (
            certificate(CertificateError::UnknownRevocationStatus),
            vec!["revocation status", "revocation list"],
        ),
        (certificate(CertificateError::ExpiredRevocationList), vec!["revocation status", "revocation list"]),
        (certificate(CertificateError::InvalidPurpose), vec!["not meant for servers", "serverAuth"]),
        (certificate(CertificateError::BadEncoding), vec!["malformed"]),
        (certificate(CertificateError::UnhandledCriticalExtension), vec!["critical extension"]),
        (certificate(CertificateError::ApplicationVerificationFailure), vec!["is rejected", "openssl"]),
        (Error::InvalidMessage(InvalidMessage::InvalidContentType), vec!["is not TLS", "http://"]),
        (PeerIncompatible::ServerDoesNotSupportTls12Or13.into(), vec!["no TLS version", "TLS 1.2 or 1.3"]),
        (PeerIncompatible::NoCipherSuitesInCommon.into(), vec!["cipher suite"]),
        (Error::AlertReceived(AlertDescription::ProtocolVersion), vec!["no TLS version", "ProtocolVersion"]),
        (Error::AlertReceived(AlertDescription::CertificateRequired), vec!["requires a client certificate"]),
        (Error::AlertReceived(AlertDescription::UnrecognisedName), vec!["no certificate for the requested"]),
        (Error::AlertReceived(AlertDescription::NoApplicationProtocol), vec!["HTTP/1.1", "ALPN"]),
        (
            Error::AlertReceived(AlertDescription::HandshakeFailure),
            vec!["ended the TLS handshake", "HandshakeFailure"],
        ),
        (Error::NoApplicationProtocol, vec!["HTTP/1.1"]),
        (Error::NoCertificatesPresented, vec!["no certificate for the requested"]),
        (PeerMisbehaved::TooManyRenegotiationRequests.into(), vec!["violates the TLS protocol"]),
        (Error::DecryptError, vec!["violates the TLS protocol"]),
    ] {
        let text = text_of(&error);
        assert!(expected.iter().all(|part| text.contains(part)), "{error:?}: {text}");
        assert!(!text.contains("  ") && text.contains("; "), "{text}");
    }
}

/// A7, E4: the text for clients has no name of a certificate and no configuration key
#[test]
fn the_reason_has_no_operator_details() {
    let failure = TlsFailure::from(&certificate(CertificateError::NotValidForNameContext {
        expected: ServerName::try_from("store.example").unwrap(),
        presented: vec!["internal.example".to_owned()],
    }));
    assert_eq!(failure.reason(), "the endpoint's certificate is for other names");
}

/// A7: only errors of rustls are TLS failures
#[test]
fn other_errors_of_a_connection_are_unchanged() {
    let wrapped = TlsFailure::wrap(io::Error::new(
        io::ErrorKind::InvalidData,
        certificate(CertificateError::UnknownIssuer),
    ));
    assert_eq!(wrapped.kind(), io::ErrorKind::InvalidData);
    assert!(TlsFailure::of(&wrapped).is_some_and(|failure| failure.to_string() == wrapped.to_string()));
    for error in [io::Error::other("x"), io::ErrorKind::UnexpectedEof.into()] {
        let kind = error.kind();
        let wrapped = TlsFailure::wrap(error);
        assert!(TlsFailure::of(&wrapped).is_none() && wrapped.kind() == kind);
    }
}
