//! Replaces the configuration of the running gateway (G3).
//!
//! One task of the main thread builds the state of the next configuration aside, installs it on all threads and then replaces the tasks
//! of changed buckets, so two reloads never overlap. An unchanged bucket is the same object in both configurations: its idle
//! connections, credentials, clocks and checks stay. Requests under way end with the configuration they began with.

use std::sync::Arc;

use slog::{Logger, error, info};
use tidegate_actors::{Actors, BreakerHandle, Ids, PoolHandle, clock};
use tidegate_config::{Config, EffectiveConfig};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

use super::StartError;
use super::buckets::BucketBuilder;
use super::jwks_fetcher::{self, JwksFetcher, TokenSourceError};
use crate::auth::{Keyring, Regions};
use crate::process::configurations::Configurations;
use crate::process::retirement::{ConfigNumber, Retirement};
use crate::process::shared::{Tokens, Unchanged};
use crate::process::{Process, Shared};
use crate::router::Router;
use crate::telemetry::millis;
use crate::telemetry::redact::Redaction;
use crate::upstream::bucket::Bucket;
use crate::upstream::credentials::RenewalTasks;
use crate::upstream::health;

/// Reloads the configuration and the TLS files of both listeners.
#[derive(Clone)]
pub struct Reload {
    /// One for each part that is reloaded.
    pub(super) parts: Vec<Arc<Notify>>,
}

impl Reload {
    /// Requests a reload. The result is logged. Requests during a reload cause one more.
    pub fn request(&self) {
        self.parts.iter().for_each(|part| part.notify_one());
    }
}

/// What the state of a configuration is built from.
pub(super) struct SharedParts {
    pub(super) process: Arc<Process>,
    pub(super) config: Config,
    pub(super) effective: EffectiveConfig,
    pub(super) ids: Ids,
    pub(super) actors: Actors,
    /// The actors of each bucket, in the order of the configuration.
    pub(super) of_buckets: Vec<(PoolHandle, BreakerHandle)>,
}

impl SharedParts {
    /// Builds the state without effect on the running gateway. Buckets that are unchanged since `current` are those of `current`.
    pub(super) fn build(
        self,
        current: Option<&Shared>,
        retirement: Retirement,
    ) -> Result<Arc<Shared>, StartError> {
        let Self { process, config, effective, ids, actors, of_buckets } = self;
        let tokens = tokens(&config, current, &process.log)?;
        let builder = BucketBuilder {
            config: &config,
            ids: &ids,
            tokens: tokens.as_ref().map(|tokens| &tokens.verifier),
            process: &process,
            current,
        };
        let unchanged = |current: &Shared| Unchanged::between(&current.config, &config);
        Ok(Arc::new(Shared {
            unchanged: current.map(unchanged).unwrap_or_default(),
            router: Router::new(builder.build(of_buckets)?),
            keyring: Keyring::new(&config, &ids),
            regions: Regions::new(&config),
            tokens,
            actors,
            redaction: Redaction::from_config(&config),
            process,
            config,
            ids,
            effective,
            retirement,
        }))
    }

    /// The parts of the same configuration.
    fn again(current: &Shared) -> Self {
        let handles = |bucket: &Arc<Bucket>| (bucket.pool.clone(), bucket.breaker.clone());
        Self {
            process: Arc::clone(&current.process),
            config: current.config.clone(),
            effective: current.effective.clone(),
            ids: current.ids.reloaded(&current.config),
            actors: current.actors.clone(),
            of_buckets: current.router.buckets().iter().map(handles).collect(),
        }
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

/// The checks of all buckets. They end with it.
#[derive(Default)]
struct BucketTasks(Vec<(Arc<Bucket>, Vec<JoinHandle<()>>)>);

impl BucketTasks {
    /// Ends the tasks of buckets that are not in `shared`, and starts those of its new buckets.
    fn replace(&mut self, shared: &Shared) {
        let (log, monitor) = (&shared.process.log, &shared.actors.monitor);
        let is_in = |bucket: &Arc<Bucket>| {
            shared.router.get(bucket.id).is_some_and(|current| Arc::ptr_eq(current, bucket))
        };
        for (_, ended) in self.0.extract_if(.., |(bucket, _)| !is_in(bucket)) {
            ended.iter().for_each(JoinHandle::abort);
        }
        let running: Vec<_> = self.0.iter().map(|(bucket, _)| bucket.id).collect();
        let new = shared.router.buckets().iter().filter(|bucket| !running.contains(&bucket.id));
        self.0.extend(new.map(|bucket| (Arc::clone(bucket), health::start(bucket, log, monitor))));
    }
}

impl Drop for BucketTasks {
    fn drop(&mut self) {
        self.0.iter().flat_map(|(_, tasks)| tasks).for_each(JoinHandle::abort);
    }
}

/// The task that replaces the configuration.
pub(super) struct Reloader {
    configurations: Arc<Configurations>,
    requests: Arc<Notify>,
    /// The numbers of retired configurations.
    retired: UnboundedReceiver<ConfigNumber>,
    tasks: BucketTasks,
    log: Logger,
}

impl Reloader {
    /// Starts the tasks of the buckets of the first configuration.
    pub(super) fn new(
        configurations: &Arc<Configurations>,
        requests: &Arc<Notify>,
        retired: UnboundedReceiver<ConfigNumber>,
    ) -> Self {
        let first = configurations.current();
        let mut tasks = BucketTasks::default();
        tasks.replace(&first);
        let log = first.process.log.clone();
        Self {
            configurations: Arc::clone(configurations),
            requests: Arc::clone(requests),
            retired,
            tasks,
            log,
        }
    }

    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        loop {
            tokio::select! {
                () = self.requests.notified() => self.reload().await,
                Some(number) = self.retired.recv() => {
                    info!(self.log, "configuration retired: its last request has ended"; "number" => number);
                }
            }
        }
    }

    /// Installs the state of the same configuration once more.
    async fn reload(&mut self) {
        let began = clock::now();
        let next = {
            let current = self.configurations.current();
            SharedParts::again(&current).build(Some(&current), current.retirement.next())
        };
        match next {
            Ok(next) => {
                self.configurations.install(Arc::clone(&next), Vec::new()).await;
                self.tasks.replace(&next);
                let took = clock::now().saturating_duration_since(began);
                info!(self.log, "configuration installed"; "number" => next.number(), "took_ms" => millis(took));
            }
            Err(error) => {
                error!(self.log, "new configuration refused, the old one stays in use"; "error" => error.to_string());
            }
        }
    }
}
