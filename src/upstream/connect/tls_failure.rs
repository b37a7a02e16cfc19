//! The cause of a failed TLS handshake with an endpoint, and the remedy for the operator (A7).
//!
//! rustls has a variant for each cause. This module maps each one to a [`TlsFailureCause`] with a reason and a remedy.
//! The reason goes to clients, logs and the status response. The remedy and the names in a certificate go only to logs
//! and the status response.
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
#[error("{}{detail}; {}", .cause.reason(), .cause.remedy())]
pub(crate) struct TlsFailure {
    cause: TlsFailureCause,
    /// Begins with a separator, or is empty.
    detail: Cow<'static, str>,
}

/// The causes that have a text of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TlsFailureCause {
    UnknownIssuer,
    CaAsEndEntity,
    WrongName,
    Expired,
    NotYetValid,
    BadSignature,
    UnsupportedAlgorithm,
    Revoked,
    UnknownRevocationStatus,
    WrongPurpose,
    MalformedCertificate,
    NameConstraint,
    OtherCertificate,
    NotTls,
    NoCommonVersion,
    ClientCertificateRequired,
    UnknownName,
    NoHttp11,
    HandshakeRejected,
    ProtocolViolation,
}

impl TlsFailureCause {
    /// The text for clients.
    fn reason(self) -> &'static str {
        match self {
            Self::UnknownIssuer => {
                "no authority that the gateway trusts has issued the endpoint's certificate"
            }
            Self::CaAsEndEntity => "the endpoint presents the certificate of an authority as its own",
            Self::WrongName => "the endpoint's certificate is for other names",
            Self::Expired => "the endpoint's certificate has expired",
            Self::NotYetValid => "the endpoint's certificate is not valid yet",
            Self::BadSignature => {
                "a signature in the endpoint's certificates does not match its issuer's key"
            }
            Self::UnsupportedAlgorithm => {
                "a certificate of the endpoint is signed with an algorithm that the gateway does not support"
            }
            Self::Revoked => "the endpoint's certificate has been revoked",
            Self::UnknownRevocationStatus => "the revocation status of the endpoint's certificate is unknown",
            Self::WrongPurpose => "the endpoint's certificate is not meant for servers",
            Self::MalformedCertificate => {
                "a certificate of the endpoint is malformed or has an unknown critical extension"
            }
            Self::NameConstraint => "the issuer of the endpoint's certificate may not issue for this name",
            Self::OtherCertificate => "the endpoint's certificate is rejected",
            Self::NotTls => "the endpoint's response is not TLS",
            Self::NoCommonVersion => {
                "the endpoint and the gateway have no TLS version or cipher suite in common"
            }
            Self::ClientCertificateRequired => "the endpoint requires a client certificate",
            Self::UnknownName => "the endpoint has no certificate for the requested server name",
            Self::NoHttp11 => "the endpoint does not speak HTTP/1.1",
            Self::HandshakeRejected => "the endpoint ended the TLS handshake",
            Self::ProtocolViolation => "the endpoint violates the TLS protocol",
        }
    }

    /// What the operator can do.
    fn remedy(self) -> &'static str {
        match self {
            Self::UnknownIssuer => {
                "set tls.ca_file to the file with the certificate of its issuer; configure the endpoint to send its \
                 intermediate certificates"
            }
            Self::CaAsEndEntity => {
                "issue a server certificate without CA:TRUE (openssl req -x509 -addext \
                 basicConstraints=critical,CA:FALSE) for the endpoint, and set tls.ca_file to the file with its issuer, or with itself"
            }
            Self::WrongName => {
                "write a name of the certificate in endpoints, or issue the certificate for the endpoint's host (subjectAltName)"
            }
            Self::Expired => {
                "renew it at the endpoint; if it is valid, correct the clock of the gateway's host"
            }
            Self::NotYetValid => "correct the clock of the gateway's host, or the certificate's notBefore",
            Self::BadSignature => {
                "tls.ca_file probably contains an older authority of the same name: replace it by the current one"
            }
            Self::UnsupportedAlgorithm => {
                "issue it with ECDSA, Ed25519 or RSA of 2048 bits and SHA-256 or better"
            }
            Self::Revoked => "replace it at the endpoint",
            Self::UnknownRevocationStatus => "renew the revocation list of its issuer",
            Self::WrongPurpose => "issue it with the extended key usage serverAuth, or without any",
            Self::MalformedCertificate => "issue an X.509 version 3 certificate without such extensions",
            Self::NameConstraint => {
                "use an authority without this name constraint, or another host in endpoints"
            }
            Self::OtherCertificate => {
                "verify it with `openssl s_client -connect HOST:PORT -CAfile FILE`, with the file of tls.ca_file"
            }
            Self::NotTls => {
                "a server for plain HTTP listens there: write http:// in endpoints, or the port with TLS"
            }
            Self::NoCommonVersion => {
                "enable TLS 1.2 or 1.3 with AES-GCM or ChaCha20-Poly1305 at the endpoint"
            }
            Self::ClientCertificateRequired => {
                "the gateway has no client certificate: turn client authentication off at the endpoint"
            }
            Self::UnknownName => "write a name that it serves in endpoints",
            Self::NoHttp11 => "enable HTTP/1.1 (ALPN http/1.1) at the endpoint",
            Self::HandshakeRejected => "read the cause in the endpoint's log",
            Self::ProtocolViolation => "check the endpoint and the devices between it and the gateway",
        }
    }
}

impl TlsFailure {
    /// The failure inside an error of a connection.
    pub(crate) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// The reason for clients.
    pub(crate) fn reason(&self) -> &'static str {
        self.cause.reason()
    }

    /// Whether the endpoint rejected the gateway before it read a request. With TLS 1.3 the alert arrives after the
    /// handshake.
    pub(crate) fn is_before_request(&self) -> bool {
        self.cause == TlsFailureCause::ClientCertificateRequired
    }

    /// Whether a server may send this alert because it has no certificate for the server name.
    pub(crate) fn may_be_name_alert(alert: AlertDescription) -> bool {
        matches!(classify_alert(alert), TlsFailureCause::UnknownName | TlsFailureCause::HandshakeRejected)
    }

    /// Wraps an error of rustls, so that its text is that of the failure. Other errors are returned unchanged.
    pub(crate) fn wrap(error: io::Error) -> io::Error {
        match error.get_ref().and_then(|source| source.downcast_ref::<Error>()) {
            Some(source) => io::Error::new(error.kind(), Self::from(source)),
            None => error,
        }
    }
}

impl From<&Error> for TlsFailure {
    fn from(error: &Error) -> Self {
        let (cause, detail) = match error {
            Error::InvalidCertificate(error) => classify_certificate_error(error),
            Error::AlertReceived(alert) => {
                (classify_alert(*alert), in_parentheses(format_args!("alert {alert:?}")))
            }
            Error::PeerIncompatible(
                PeerIncompatible::ServerRejectedEncryptedClientHello(_)
                | PeerIncompatible::ServerSentHelloRetryRequestWithUnknownExtension,
            ) => (TlsFailureCause::ProtocolViolation, in_parentheses(error)),
            Error::PeerIncompatible(_) => (TlsFailureCause::NoCommonVersion, in_parentheses(error)),
            Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => {
                (TlsFailureCause::NotTls, in_parentheses(error))
            }
            Error::NoApplicationProtocol => (TlsFailureCause::NoHttp11, Cow::Borrowed("")),
            Error::NoCertificatesPresented => (TlsFailureCause::UnknownName, Cow::Borrowed("")),
            _ => (TlsFailureCause::ProtocolViolation, in_parentheses(error)),
        };
        Self { cause, detail }
    }
}

fn in_parentheses(what: impl std::fmt::Display) -> Cow<'static, str> {
    Cow::Owned(format!(" ({what})"))
}

fn classify_certificate_error(error: &CertificateError) -> (TlsFailureCause, Cow<'static, str>) {
    let plain = |cause| (cause, Cow::Borrowed(""));
    match error {
        CertificateError::UnknownIssuer => plain(TlsFailureCause::UnknownIssuer),
        CertificateError::NotValidForName => plain(TlsFailureCause::WrongName),
        CertificateError::NotValidForNameContext { expected, presented } => {
            // rustls writes `DnsName("a.example")`.
            let bare = |name: &String| {
                let inner =
                    name.split_once('(').map_or(name.as_str(), |(_, inner)| inner.trim_end_matches(')'));
                inner.trim_matches('"').to_owned()
            };
            let names: Vec<String> = presented.iter().map(bare).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            (
                TlsFailureCause::WrongName,
                in_parentheses(format_args!("requested: {}; its names: {names}", expected.to_str())),
            )
        }
        CertificateError::Expired => plain(TlsFailureCause::Expired),
        CertificateError::ExpiredContext { not_after, .. } => {
            (TlsFailureCause::Expired, in_parentheses(date(*not_after)))
        }
        CertificateError::NotValidYet => plain(TlsFailureCause::NotYetValid),
        CertificateError::NotValidYetContext { not_before, .. } => {
            (TlsFailureCause::NotYetValid, in_parentheses(date(*not_before)))
        }
        CertificateError::BadSignature => plain(TlsFailureCause::BadSignature),
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            plain(TlsFailureCause::UnsupportedAlgorithm)
        }
        CertificateError::Revoked => plain(TlsFailureCause::Revoked),
        CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. }
        | CertificateError::InvalidOcspResponse => plain(TlsFailureCause::UnknownRevocationStatus),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            plain(TlsFailureCause::WrongPurpose)
        }
        CertificateError::BadEncoding | CertificateError::UnhandledCriticalExtension => {
            plain(TlsFailureCause::MalformedCertificate)
        }
        CertificateError::Other(other) => match other.0.downcast_ref::<webpki::Error>() {
            Some(webpki::Error::CaUsedAsEndEntity) => plain(TlsFailureCause::CaAsEndEntity),
            Some(webpki::Error::NameConstraintViolation) => plain(TlsFailureCause::NameConstraint),
            Some(webpki::Error::UnsupportedCertVersion) => {
                (TlsFailureCause::MalformedCertificate, in_parentheses(error))
            }
            _ => (TlsFailureCause::OtherCertificate, in_parentheses(error)),
        },
        _ => (TlsFailureCause::OtherCertificate, in_parentheses(error)),
    }
}

fn classify_alert(alert: AlertDescription) -> TlsFailureCause {
    match alert {
        AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity => {
            TlsFailureCause::NoCommonVersion
        }
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
            TlsFailureCause::ClientCertificateRequired
        }
        AlertDescription::UnrecognisedName => TlsFailureCause::UnknownName,
        AlertDescription::NoApplicationProtocol => TlsFailureCause::NoHttp11,
        _ => TlsFailureCause::HandshakeRejected,
    }
}

fn date(time: UnixTime) -> String {
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs()))
}

#[cfg(test)]
#[path = "tls_failure_tests.rs"]
mod tests;
