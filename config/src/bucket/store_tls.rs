//! TLS towards a store: the name that it asks for. And the checks of `addressing = "virtual"`, which puts the bucket into the `Host`.

use super::endpoint::Endpoint;
use super::pattern::Pattern;
use super::tls::TlsConfig;
use crate::form::{Choice, shown};
use crate::section::section;
use crate::walk::{Section, key, shared};

/// The name that TLS towards a store asks for (SNI, RFC 6066, section 3) and that its certificate must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sni {
    /// the endpoint's own, whatever bucket a request's `Host` names
    Endpoint,
    /// that of the request's `Host`
    Host,
}

const SNIS: Choice<Sni> = Choice(&[("endpoint", Sni::Endpoint), ("host", Sni::Host)]);

section! {
    /// TLS towards a store.
    pub(super) struct StoreTlsKeys {
        pub(super) trust: TlsConfig = shared();
        /// name that TLS asks for (SNI) and that the certificate must hold: the endpoint's own (`endpoint`), or that of the request's
        /// `Host` (`host`), which is the bucket's with `addressing = "virtual"`
        ///
        /// With `endpoint` all buckets share connections and one certificate: bucket names with dots, which no wildcard certificate
        /// holds, work. Some stores answer 421 to a Host that is not the SNI; `host` is for them. Connections are then kept for each
        /// bucket name.
        pub(super) sni: Sni = key("sni", SNIS, Sni::Endpoint);
    }
}

impl StoreTlsKeys {
    /// Refuses a choice that has no effect where every `Host` is the endpoint's. `section` is the upstream's.
    pub(super) fn check_path_addressing(&self, section: &mut Section<'_>) {
        if self.sni == Sni::Host {
            let addressing = section.spell("addressing");
            let message = format!("host has no effect: {addressing} is path, so each Host is the endpoint's");
            let hint = format!("set {addressing} to virtual, or take this away");
            section.child("tls").refuse("sni", message, Some(hint));
        }
    }
}

/// Refuses what cannot go with `addressing = "virtual"`. `section` is the upstream's. `bucket` is its name for the bucket, `served` are the
/// names that clients use.
pub(super) fn check_virtual<'a>(
    section: &mut Section<'_>,
    endpoints: impl Iterator<Item = &'a Endpoint> + Clone,
    (bucket, served): (Option<&str>, &Pattern),
) {
    if let Some(endpoint) = endpoints.clone().find(|endpoint| endpoint.is_address()) {
        let message = format!("virtual needs a name, and {} has an address", endpoint.url());
        section.refuse("addressing", message, Some("name the endpoint, or use path".to_owned()));
    }
    if let Some(endpoint) = endpoints.clone().find(|endpoint| !endpoint.path_prefix.is_empty()) {
        let message = format!("virtual needs endpoints without a path, and {} has one", endpoint.url());
        section.refuse("addressing", message, Some("use path".to_owned()));
    }
    if bucket.map_or(served.has_tenant(), |name| name.contains(':')) {
        let name = shown(bucket.unwrap_or(served.as_str()));
        let message = format!("virtual needs a name without a tenant: no Host can hold {name}");
        section.refuse("addressing", message, Some("use path".to_owned()));
    }
}
