//! The causes of the certificates of the listeners.

use super::CodeEntry;
use super::ScopeKind::Listener;
use super::Severity::{Critical, Degraded};

pub(super) const EXPIRED: CodeEntry = CodeEntry {
    name: "certificate_expired",
    severity: Critical,
    scope: Listener,
    meaning: "the certificate of the listener has expired",
    effect: "clients refuse the TLS handshake",
    refusals: &[],
    ends_when: "a certificate that is valid is loaded",
};

pub(super) const NOT_YET_VALID: CodeEntry = CodeEntry {
    name: "certificate_not_yet_valid",
    severity: Critical,
    scope: Listener,
    meaning: "the validity of the certificate of the listener has not begun, or the clock of the gateway is slow",
    effect: "clients refuse the TLS handshake",
    refusals: &[],
    ends_when: "its validity begins, or a certificate that is valid is loaded",
};

pub(super) const REFUSED: CodeEntry = CodeEntry {
    name: "certificate_refused",
    severity: Degraded,
    scope: Listener,
    meaning: "the new certificate of the listener cannot be used",
    effect: "the old one stays in use",
    refusals: &[],
    ends_when: "a certificate and its key are loaded",
};

pub(super) const EXPIRES: CodeEntry = CodeEntry {
    name: "certificate_expires",
    severity: Degraded,
    scope: Listener,
    meaning: "the certificate of the listener expires within 14 days",
    effect: "none yet; clients refuse it once it has expired",
    refusals: &[],
    ends_when: "a certificate with a later end is loaded",
};
