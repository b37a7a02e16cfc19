//! Builds the state of a configuration, without effect on the running gateway.

use std::sync::Arc;

use slog::Logger;
use tidegate_actors::{Actors, Ids};
use tidegate_config::{Config, EffectiveConfig};

use super::StartError;
use super::buckets::BucketBuilder;
use super::jwks_fetcher::{self, JwksFetcher, TokenSourceError};
use crate::auth::{Keyring, Regions};
use crate::decisions::names::Names;
use crate::process::retirement::Retirement;
use crate::process::shared::{Tokens, Unchanged};
use crate::process::{Process, Shared};
use crate::router::Router;
use crate::telemetry::redact::Redaction;
use crate::upstream::credentials::RenewalTasks;

/// What the state of a configuration is built from.
pub(super) struct SharedParts {
    pub(super) process: Arc<Process>,
    pub(super) config: Config,
    pub(super) effective: EffectiveConfig,
    pub(super) ids: Ids,
    pub(super) actors: Actors,
    pub(super) names: Arc<Names>,
}

impl SharedParts {
    /// Builds the state without effect on the running gateway. Buckets that are unchanged since `current` are those of `current`.
    pub(super) fn build(
        self,
        current: Option<&Shared>,
        retirement: Retirement,
    ) -> Result<Arc<Shared>, StartError> {
        let Self { process, config, effective, ids, actors, names } = self;
        let tokens = tokens(&config, current, &process.log)?;
        let builder = BucketBuilder {
            config: &config,
            ids: &ids,
            actors: &actors,
            tokens: tokens.as_ref().map(|tokens| &tokens.verifier),
            process: &process,
            current,
        };
        let keyring = Keyring::new(&config, &ids);
        let unchanged = |current: &Shared| Unchanged::between(current, &config, &keyring);
        Ok(Arc::new(Shared {
            unchanged: current.map(unchanged).unwrap_or_default(),
            router: Arc::new(Router::new(builder.build()?)),
            keyring: Arc::new(keyring),
            regions: Regions::new(&config),
            tokens,
            actors,
            names,
            redaction: Redaction::from_config(&config),
            process,
            config: Arc::new(config),
            ids,
            effective: Arc::new(effective),
            retirement,
        }))
    }
}

/// The verification of tokens: that of the current configuration if nothing has changed that it is built from.
fn tokens(
    config: &Config,
    current: Option<&Shared>,
    log: &Logger,
) -> Result<Option<Arc<Tokens>>, TokenSourceError> {
    let is_same = |current: &&Shared| current.config.jwt == config.jwt && current.config.dns == config.dns;
    if let Some(current) = current.filter(is_same) {
        return Ok(current.tokens.clone());
    }
    let Some((verifier, fetcher)) = jwks_fetcher::token_verifier(config)? else { return Ok(None) };
    let key_health = fetcher.as_ref().map(JwksFetcher::health);
    let mut renewal = RenewalTasks::default();
    if let Some(fetcher) = fetcher {
        renewal.push(actix_rt::spawn(fetcher.run(log.clone())));
    }
    Ok(Some(Arc::new(Tokens { verifier, key_health, _renewal: renewal })))
}
