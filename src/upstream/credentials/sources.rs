//! From a bucket's configuration to its source of credentials; what expires is renewed from then on.

use std::sync::Arc;

use actix_rt::task::JoinHandle;
use slog::Logger;
use thiserror::Error;
use tidegate_config::{Config, ContainerCredentials, Credentials, Identity, Kind, UpstreamConfig};

use super::injected::{Injected, InjectedError};
use super::{Renewed, Source, renew};
use crate::upstream::dial::Dialer;
use crate::upstream::tls::TlsError;

/// Why a bucket's credentials cannot be used.
#[derive(Debug, Error)]
pub enum SourceError {
    /// Their endpoint cannot be spoken to over TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// One cannot be sent in its header.
    #[error("http.credentials: {0}")]
    Header(String),
}

impl From<InjectedError> for SourceError {
    fn from(error: InjectedError) -> Self {
        Self::Header(error.to_string())
    }
}

/// Makes sources; `name` is the bucket's.
pub(crate) struct Sources<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: Kind,
    pub(crate) upstream: &'a UpstreamConfig,
    pub(crate) config: &'a Config,
    pub(crate) log: &'a Logger,
    pub(crate) chores: &'a mut Vec<JoinHandle<()>>,
}

impl Sources<'_> {
    pub(crate) fn make(&mut self) -> Result<Source, SourceError> {
        let upstream = self.upstream;
        match (self.kind, &upstream.container_credentials, &upstream.credentials_by_name[..]) {
            (_, Some(container), _) => self.renewed(container),
            (_, None, []) => Ok(upstream.credentials.clone().map_or(Source::Unsigned, fixed)),
            (Kind::Http, None, named) => {
                let upstreams = self.config.buckets.values().map(|bucket| &bucket.upstream);
                let all = upstreams.flat_map(|upstream| &upstream.credentials_by_name);
                Ok(Source::Injected(Arc::new(Injected::new(named, all)?)))
            }
            (Kind::S3, None, named) => {
                let sources: Result<_, SourceError> =
                    named.iter().map(|one| self.of(&one.identity)).collect();
                Ok(Source::Pooled(sources?))
            }
        }
    }

    fn of(&mut self, identity: &Identity) -> Result<Source, SourceError> {
        match identity {
            Identity::Pair(pair) => Ok(fixed(pair.clone())),
            Identity::Container(container) => self.renewed(container),
            // A store's credentials are pairs.
            Identity::Header { .. } => Ok(Source::Unsigned),
        }
    }

    fn renewed(&mut self, container: &ContainerCredentials) -> Result<Source, SourceError> {
        let dialer = Dialer::new([&container.url], self.upstream, &self.config.dns)?;
        let renewed = Renewed::new();
        let renewal =
            renew(self.name.to_owned(), container.clone(), dialer, renewed.clone(), self.log.clone());
        self.chores.push(actix_rt::spawn(renewal));
        Ok(Source::Renewed(renewed))
    }
}

fn fixed(pair: Credentials) -> Source {
    Source::Fixed(Arc::new(pair))
}
