//! Builds the credential source of a bucket from its configuration, and starts the renewal of credentials that
//! expire.

use std::sync::Arc;

use slog::Logger;
use thiserror::Error;
use tidegate_config::{Config, ContainerCredentials, Credentials, Identity, Kind, UpstreamConfig};

use super::injected::{InjectedHeaderError, InjectedHeaders};
use super::{CredentialSource, RenewalTasks, RenewedCredentials, renewal_loop};
use crate::upstream::connect::dialer::Dialer;
use crate::upstream::connect::tls::TlsError;

/// Why the credentials of a bucket cannot be used.
#[derive(Debug, Error)]
pub enum CredentialSourceError {
    /// TLS to their endpoint cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A credential is not valid in a header.
    #[error("http.credentials: {0}")]
    Header(String),
}

impl From<InjectedHeaderError> for CredentialSourceError {
    fn from(error: InjectedHeaderError) -> Self {
        Self::Header(error.to_string())
    }
}

/// Builds credential sources. `name` is the bucket's.
pub(crate) struct CredentialSourceBuilder<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: Kind,
    pub(crate) upstream: &'a UpstreamConfig,
    pub(crate) config: &'a Config,
    pub(crate) log: &'a Logger,
    /// The renewals that it has started.
    pub(crate) renewals: RenewalTasks,
}

impl CredentialSourceBuilder<'_> {
    pub(crate) fn build(&mut self) -> Result<CredentialSource, CredentialSourceError> {
        let upstream = self.upstream;
        match (self.kind, &upstream.container_credentials, &upstream.credentials_by_name[..]) {
            (_, Some(container), _) => self.renewed_source(container),
            (_, None, []) => {
                Ok(upstream.credentials.clone().map_or(CredentialSource::Unsigned, fixed_source))
            }
            (Kind::Http, None, named) => {
                let upstreams = self.config.buckets.values().map(|bucket| &bucket.upstream);
                let all = upstreams.flat_map(|upstream| &upstream.credentials_by_name);
                Ok(CredentialSource::Injected(Arc::new(InjectedHeaders::new(named, all)?)))
            }
            (Kind::S3, None, named) => {
                let sources: Result<_, CredentialSourceError> =
                    named.iter().map(|one| self.build_one(&one.identity)).collect();
                Ok(CredentialSource::Pooled(sources?))
            }
        }
    }

    fn build_one(&mut self, identity: &Identity) -> Result<CredentialSource, CredentialSourceError> {
        match identity {
            Identity::Pair(pair) => Ok(fixed_source(pair.clone())),
            Identity::Container(container) => self.renewed_source(container),
            // Credentials of a store are pairs.
            Identity::Header { .. } => Ok(CredentialSource::Unsigned),
        }
    }

    fn renewed_source(
        &mut self,
        container: &ContainerCredentials,
    ) -> Result<CredentialSource, CredentialSourceError> {
        let dialer = Dialer::new([&container.url], self.upstream, &self.config.dns)?;
        let renewed = RenewedCredentials::new();
        let renewal =
            renewal_loop(self.name.to_owned(), container.clone(), dialer, renewed.clone(), self.log.clone());
        self.renewals.push(actix_rt::spawn(renewal));
        Ok(CredentialSource::Renewed(renewed))
    }
}

fn fixed_source(pair: Credentials) -> CredentialSource {
    CredentialSource::Fixed(Arc::new(pair))
}
