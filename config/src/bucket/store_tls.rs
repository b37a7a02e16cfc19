//! TLS towards a store (SNI), and the checks of `addressing = "virtual"`, which puts the bucket into the `Host`.

use super::endpoint::Endpoint;
use super::pattern::Pattern;
use super::tls::TlsConfig;
use crate::schema::{Section, key, shared};
use crate::section::section;
use crate::value_type::{Choice, quoted};

/// The name in SNI (RFC 6066, section 3) towards a store, for which the certificate must be valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sni {
    /// the name of the endpoint
    Endpoint,
    /// the `Host` of the request
    Host,
}

const SNIS: Choice<Sni> = Choice(&[("endpoint", Sni::Endpoint), ("host", Sni::Host)]);

section! {
    /// TLS towards a store.
    pub(super) struct StoreTlsKeys {
        pub(super) trust: TlsConfig = shared();
        /// name in the TLS SNI, for which the certificate must be valid
        ///
        /// `endpoint` is the name of the endpoint. All buckets then share connections and one certificate, and bucket names with dots,
        /// which no wildcard certificate covers, work. `host` is the `Host` of the request, which contains the bucket with
        /// `addressing = "virtual"`. It is for stores that answer 421 if Host and SNI differ. Connections are then kept per bucket name.
        pub(super) sni: Sni = key("sni", SNIS, Sni::Endpoint);
    }
}

impl StoreTlsKeys {
    /// Rejects `host` if every `Host` is the endpoint's. `section` is the upstream's.
    pub(super) fn check_path_addressing(&self, section: &mut Section<'_>) {
        if self.sni == Sni::Host {
            let addressing = section.full_key("addressing");
            let message = format!("host has no effect: {addressing} is path, so each Host is the endpoint's");
            let hint = format!("set {addressing} to virtual, or remove this key");
            section.child("tls").refuse("sni", message, Some(hint));
        }
    }
}

/// Rejects keys that contradict `addressing = "virtual"`. `section` is the upstream's. `bucket` is the name of the bucket at the upstream,
/// `served` are the names that clients use.
pub(super) fn check_virtual<'a>(
    section: &mut Section<'_>,
    endpoints: impl Iterator<Item = &'a Endpoint> + Clone,
    (bucket, served): (Option<&str>, &Pattern),
) {
    if let Some(endpoint) = endpoints.clone().find(|endpoint| endpoint.is_address()) {
        let message =
            format!("virtual needs endpoints with a host name, and {} has an IP address", endpoint.url());
        section.refuse("addressing", message, Some("use the host name of the endpoint, or path".to_owned()));
    }
    if let Some(endpoint) = endpoints.clone().find(|endpoint| !endpoint.path_prefix.is_empty()) {
        let message = format!("virtual needs endpoints without a path, and {} has one", endpoint.url());
        section.refuse("addressing", message, Some("use path".to_owned()));
    }
    if bucket.map_or(served.has_tenant(), |name| name.contains(':')) {
        let name = quoted(bucket.unwrap_or(served.as_str()));
        let message = format!("virtual needs a bucket name without a tenant: a Host cannot contain {name}");
        section.refuse("addressing", message, Some("use path".to_owned()));
    }
}
