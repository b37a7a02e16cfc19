//! Why a TLS handshake with an endpoint failed, in words, and what the operator can do about it (A7).
//!
//! rustls names a cause by a variant of its errors. The tables here translate each one. The words go to clients, logs and the status
//! document. The remedy and the names in a certificate go to logs and the status document alone.
//!
//! Sources: RFC 5280 (certificates), RFC 8446, 6 (alerts), the documentation of `rustls::Error` and `webpki::Error`.

use std::borrow::Cow;
use std::io;
use std::time::{Duration, SystemTime};

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};
use thiserror::Error;

/// A failed handshake.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what}{detail}; {remedy}")]
pub(crate) struct TlsFailure {
    what: &'static str,
    /// Begins with a separator, or is empty.
    detail: Cow<'static, str>,
    remedy: &'static str,
}

/// Words and remedy.
type Diagnosis = (&'static str, &'static str);

const UNKNOWN_ISSUER: Diagnosis = (
    "no authority that the gateway trusts has issued the endpoint's certificate",
    "name the file with the certificate of its issuer in tls.ca_file; have the endpoint send its intermediate certificates",
);
const CA_AS_END_ENTITY: Diagnosis = (
    "the endpoint presents the certificate of an authority as its own",
    "issue a server certificate without CA:TRUE (openssl req -x509 -addext basicConstraints=critical,CA:FALSE) for the endpoint, \
     and name the file with its issuer, or with itself, in tls.ca_file",
);
const WRONG_NAME: Diagnosis = (
    "the endpoint's certificate is for other names",
    "write a name of the certificate in endpoints, or issue the certificate for the endpoint's host (subjectAltName)",
);
const EXPIRED: Diagnosis = (
    "the endpoint's certificate has expired",
    "renew it at the endpoint; if it is valid, correct the clock of the gateway's host",
);
const NOT_YET_VALID: Diagnosis = (
    "the endpoint's certificate is not valid yet",
    "correct the clock of the gateway's host, or the certificate's notBefore",
);
const BAD_SIGNATURE: Diagnosis = (
    "a signature in the endpoint's certificates does not fit its issuer's key",
    "tls.ca_file probably holds an older authority of the same name: name the present one",
);
const ALGORITHM: Diagnosis = (
    "a certificate of the endpoint is signed with an algorithm that the gateway does not support",
    "issue it with ECDSA, Ed25519 or RSA of 2048 bits and SHA-256 or better",
);
const REVOKED: Diagnosis = ("the endpoint's certificate has been revoked", "replace it at the endpoint");
const REVOCATION: Diagnosis = (
    "it is not known whether the endpoint's certificate has been revoked",
    "renew the revocation list of its issuer",
);
const PURPOSE: Diagnosis = (
    "the endpoint's certificate is not meant for servers",
    "issue it with the extended key usage serverAuth, or without any",
);
const MALFORMED: Diagnosis = (
    "a certificate of the endpoint is malformed or has a critical extension that the gateway does not know",
    "issue an X.509 version 3 certificate without such extensions",
);
const NAME_CONSTRAINT: Diagnosis = (
    "the issuer of the endpoint's certificate may not issue for this name",
    "use an authority without this name constraint, or another host in endpoints",
);
const OTHER_CERTIFICATE: Diagnosis = (
    "the endpoint's certificate is refused",
    "verify it with `openssl s_client -connect HOST:PORT -CAfile FILE`, with the file of tls.ca_file",
);
const NOT_TLS: Diagnosis = (
    "the endpoint's answer is not TLS",
    "a server for plain HTTP listens there: write http:// in endpoints, or the port that speaks TLS",
);
const NO_VERSION: Diagnosis = (
    "the endpoint and the gateway have no TLS version or cipher suite in common",
    "enable TLS 1.2 or 1.3 with AES-GCM or ChaCha20-Poly1305 at the endpoint",
);
const CLIENT_CERTIFICATE: Diagnosis = (
    "the endpoint demands a client certificate",
    "the gateway has none to present: turn client authentication off at the endpoint",
);
const UNKNOWN_NAME: Diagnosis = (
    "the endpoint has no certificate for the name that it was asked for",
    "write a name that it serves in endpoints",
);
const NO_PROTOCOL: Diagnosis =
    ("the endpoint does not speak HTTP/1.1", "enable HTTP/1.1 (ALPN http/1.1) at the endpoint");
const REFUSED: Diagnosis = ("the endpoint ended the TLS handshake", "the endpoint's log says why");
const BROKEN: Diagnosis =
    ("the endpoint does not keep to the TLS protocol", "look at the endpoint and at what lies between");

impl TlsFailure {
    /// The failure inside an error of a connection.
    pub(super) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// The reason in words.
    pub(crate) fn reason(&self) -> &'static str {
        self.what
    }

    /// Whether the endpoint has refused the gateway before it looked at a request. With TLS 1.3 that is known after the handshake.
    pub(super) fn is_before_request(&self) -> bool {
        self.what == CLIENT_CERTIFICATE.0
    }

    /// Whether a server may send this alert because it has no certificate for the name that it was asked for.
    pub(super) fn may_be_name_alert(alert: AlertDescription) -> bool {
        matches!(diagnose_alert(alert), UNKNOWN_NAME | REFUSED)
    }

    /// An error of a connection that tells the failure, where rustls is the source of `error`. Any other error passes as it is.
    pub(super) fn wrap(error: io::Error) -> io::Error {
        match error.get_ref().and_then(|source| source.downcast_ref::<Error>()) {
            Some(source) => io::Error::new(error.kind(), Self::from(source)),
            None => error,
        }
    }
}

impl From<&Error> for TlsFailure {
    fn from(error: &Error) -> Self {
        let ((what, remedy), detail) = match error {
            Error::InvalidCertificate(error) => diagnose_certificate(error),
            Error::AlertReceived(alert) => {
                (diagnose_alert(*alert), in_parentheses(format_args!("alert {alert:?}")))
            }
            Error::PeerIncompatible(
                PeerIncompatible::ServerRejectedEncryptedClientHello(_)
                | PeerIncompatible::ServerSentHelloRetryRequestWithUnknownExtension,
            ) => (BROKEN, in_parentheses(error)),
            Error::PeerIncompatible(_) => (NO_VERSION, in_parentheses(error)),
            Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => (NOT_TLS, in_parentheses(error)),
            Error::NoApplicationProtocol => (NO_PROTOCOL, Cow::Borrowed("")),
            Error::NoCertificatesPresented => (UNKNOWN_NAME, Cow::Borrowed("")),
            _ => (BROKEN, in_parentheses(error)),
        };
        Self { what, detail, remedy }
    }
}

fn in_parentheses(what: impl std::fmt::Display) -> Cow<'static, str> {
    Cow::Owned(format!(" ({what})"))
}

fn diagnose_certificate(error: &CertificateError) -> (Diagnosis, Cow<'static, str>) {
    let plain = |entry| (entry, Cow::Borrowed(""));
    match error {
        CertificateError::UnknownIssuer => plain(UNKNOWN_ISSUER),
        CertificateError::NotValidForName => plain(WRONG_NAME),
        CertificateError::NotValidForNameContext { expected, presented } => {
            // rustls writes `DnsName("a.example")`.
            let bare = |name: &String| {
                let inner =
                    name.split_once('(').map_or(name.as_str(), |(_, inner)| inner.trim_end_matches(')'));
                inner.trim_matches('"').to_owned()
            };
            let names: Vec<String> = presented.iter().map(bare).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            (WRONG_NAME, in_parentheses(format_args!("asked for {}; its names: {names}", expected.to_str())))
        }
        CertificateError::Expired => plain(EXPIRED),
        CertificateError::ExpiredContext { not_after, .. } => (EXPIRED, in_parentheses(date(*not_after))),
        CertificateError::NotValidYet => plain(NOT_YET_VALID),
        CertificateError::NotValidYetContext { not_before, .. } => {
            (NOT_YET_VALID, in_parentheses(date(*not_before)))
        }
        CertificateError::BadSignature => plain(BAD_SIGNATURE),
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => plain(ALGORITHM),
        CertificateError::Revoked => plain(REVOKED),
        CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. }
        | CertificateError::InvalidOcspResponse => plain(REVOCATION),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => plain(PURPOSE),
        CertificateError::BadEncoding | CertificateError::UnhandledCriticalExtension => plain(MALFORMED),
        CertificateError::Other(other) => match other.0.downcast_ref::<webpki::Error>() {
            Some(webpki::Error::CaUsedAsEndEntity) => plain(CA_AS_END_ENTITY),
            Some(webpki::Error::NameConstraintViolation) => plain(NAME_CONSTRAINT),
            Some(webpki::Error::UnsupportedCertVersion) => (MALFORMED, in_parentheses(error)),
            _ => (OTHER_CERTIFICATE, in_parentheses(error)),
        },
        _ => (OTHER_CERTIFICATE, in_parentheses(error)),
    }
}

fn diagnose_alert(alert: AlertDescription) -> Diagnosis {
    match alert {
        AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity => NO_VERSION,
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => CLIENT_CERTIFICATE,
        AlertDescription::UnrecognisedName => UNKNOWN_NAME,
        AlertDescription::NoApplicationProtocol => NO_PROTOCOL,
        _ => REFUSED,
    }
}

fn date(time: UnixTime) -> String {
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs()))
}

#[cfg(test)]
#[path = "tls_failure_tests.rs"]
mod tests;
