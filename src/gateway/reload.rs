//! Replaces the configuration of the running gateway (G3).
//!
//! One task of the main thread loads and builds the next configuration aside, commits it to the actors, installs it on all threads and then
//! replaces the tasks of changed buckets, so two reloads never overlap. An unchanged bucket is the same object in both configurations:
//! its idle connections, credentials, clocks and checks stay. Requests under way end with the configuration they began with.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use slog::{Logger, error, info, warn};
use tidegate_actors::{ConfigNumber, Withdrawn, clock};
use tidegate_config::{Config, EffectiveConfig, Problem, SourceSet};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

use super::StartError;
use super::bucket_tasks::BucketTasks;
use super::reload_check::{Checked, start_problem};
use super::reload_requests::{ReloadRequest, ReloadSender};
use super::reload_watch::WatchedFiles;
use super::replaced::ConfigurationsInUse;
use super::shared_parts::SharedParts;
use crate::admin::reload::{ReloadReply, ReloadRequests as _};
use crate::admin::status::possible::possible;
use crate::degradation::cause::Moment;
use crate::descriptors::DescriptorBudget;
use crate::process::Shared;
use crate::process::configurations::{Configurations, WithdrawnKeys};
use crate::process::last_reload::ReloadResult;
use crate::server::tls::ServerTls;
use crate::telemetry::log::LogControl;
use crate::telemetry::millis;

/// Reloads the configuration and the TLS files of both listeners.
#[derive(Clone)]
pub struct Reload {
    pub(super) certificates: Vec<Arc<Notify>>,
    pub(super) configuration: ReloadSender,
}

impl Reload {
    /// Requests a reload. The result is logged. Requests during a reload cause one more. The future waits for the end of the reload of
    /// the configuration, and returns its result in words; a drop of the future does not end the reload.
    pub fn request(&self) -> impl Future<Output = String> + 'static {
        self.certificates.iter().for_each(|part| part.notify_one());
        let reply = self.configuration.reload();
        async move { reply.await.summary() }
    }
}

/// The task that replaces the configuration.
pub(super) struct Reloader {
    configurations: Arc<Configurations>,
    sources: Arc<SourceSet>,
    requests: UnboundedReceiver<ReloadRequest>,
    /// The numbers of retired configurations.
    retired: UnboundedReceiver<ConfigNumber>,
    in_use: ConfigurationsInUse,
    tasks: BucketTasks,
    /// The files that `reload.watch` reads.
    watched: watch::Sender<WatchedFiles>,
    descriptors: Arc<DescriptorBudget>,
    log_control: LogControl,
    log: Logger,
}

impl Reloader {
    /// Starts the tasks of the buckets of the first configuration. Returns the files to watch too.
    pub(super) fn new(
        configurations: &Arc<Configurations>,
        (sources, files): (SourceSet, Vec<PathBuf>),
        (requests, retired): (UnboundedReceiver<ReloadRequest>, UnboundedReceiver<ConfigNumber>),
        (descriptors, log_control): (Arc<DescriptorBudget>, LogControl),
    ) -> (Self, watch::Receiver<WatchedFiles>) {
        let first = configurations.current();
        let mut tasks = BucketTasks::default();
        tasks.replace(&first);
        let config = first.config.reload.clone();
        let (watched, receiver) = watch::channel(WatchedFiles { config, files });
        let reloader = Self {
            configurations: Arc::clone(configurations),
            sources: Arc::new(sources),
            requests,
            retired,
            in_use: ConfigurationsInUse::new(&first),
            tasks,
            watched,
            descriptors,
            log_control,
            log: first.process.log.clone(),
        };
        (reloader, receiver)
    }

    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        loop {
            tokio::select! {
                // A configuration that could not be built is reported as retired. Its successor has the same number, so the report
                // is read before the next request.
                biased;
                Some(number) = self.retired.recv() => {
                    let current = self.configurations.current();
                    self.in_use.retire(number, &current.process);
                    current.process.degradation.set_possible(possible(&current.config));
                }
                Some(request) = self.requests.recv() => self.serve(request).await,
            }
        }
    }

    /// Replies to a request and to all that wait behind it: one load is as good as many.
    async fn serve(&mut self, first: ReloadRequest) {
        let mut waiting = vec![first];
        while let Ok(request) = self.requests.try_recv() {
            waiting.push(request);
        }
        let (reloads, previews): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|request| request.applies);
        if !reloads.is_empty() {
            let reply = self.reload().await;
            send(reloads, reply);
        }
        if !previews.is_empty() {
            let reply = self.check().await.reply;
            send(previews, reply);
        }
    }

    async fn check(&self) -> Checked {
        Checked::load(self.configurations.current(), Arc::clone(&self.sources)).await
    }

    async fn reload(&mut self) -> ReloadReply {
        let began = clock::now();
        let configurations = Arc::clone(&self.configurations);
        let _change = configurations.change.lock().await;
        let current = configurations.current();
        let mut checked = match current.process.has_handed_over() {
            true => Checked::handed_over(current.number().get()),
            false => self.check().await,
        };
        drop(current);
        let is_applicable = checked.is_applicable();
        if let Some((config, effective, files)) = checked.loaded.take().filter(|_| is_applicable) {
            match self.apply(config, effective, began).await {
                Ok(number) => {
                    let config = self.configurations.current().config.reload.clone();
                    self.watched.send_replace(WatchedFiles { config, files });
                    checked.reply.number = number.get();
                    checked.reply.is_applied = true;
                }
                Err(error) => checked.reply.problems.push(start_problem(&error)),
            }
        }
        self.record(&checked.reply, began);
        checked.reply
    }

    /// Builds the next configuration and makes it the current one.
    async fn apply(
        &mut self,
        config: Config,
        effective: EffectiveConfig,
        began: Instant,
    ) -> Result<ConfigNumber, StartError> {
        let current = self.configurations.current();
        let process = &current.process;
        let ids = current.ids.reloaded(&config);
        let retirement = current.retirement.next();
        let names = process.decisions.prepare_names(&config, &ids);
        let events = process.decisions.actor_events(&names);
        let change =
            current.actors.reconfigured(&current.config, (&config, &ids), retirement.number(), events).await;
        names.set_actors(&change.actors);
        let parts = SharedParts {
            process: Arc::clone(process),
            config,
            effective,
            ids,
            actors: change.actors.clone(),
            names: Arc::clone(&names),
        };
        let next = parts.build(Some(&current), retirement)?;
        let certificates = changed_certificates(&current, &next.config)?;
        let withdrawn = current.keyring.withdrawn(&next.keyring);
        process.decisions.replace_names(names);
        process.metrics.reconfigure_unrouted(&next.config);
        self.log_control.set_level(next.config.log.level);
        self.descriptors.reconfigure(&next.config, &self.log);
        certificates.iter().for_each(|(tls, changed)| tls.replace_by(changed));
        self.in_use.add(&next);
        let all_tokens = !next.unchanged.tokens;
        let launches = change.commit(Withdrawn { keys: withdrawn.clone(), all_tokens });
        self.configurations.install(Arc::clone(&next), launches).await;
        process.degradation.set_possible(possible(&next.config));
        self.tasks.replace(&next);
        let grace = next.config.server.revoke_grace;
        self.cut_later(WithdrawnKeys { keys: withdrawn.into(), by: next.keyring.number(), grace });
        let took = clock::now().saturating_duration_since(began);
        info!(self.log, "configuration reloaded"; "configuration" => next.number().get(), "took_ms" => millis(took),
            "buckets" => next.router.buckets().len());
        Ok(next.number())
    }

    /// Cuts the streams of withdrawn keys when their grace is over.
    fn cut_later(&self, withdrawn: WithdrawnKeys) {
        if withdrawn.keys.is_empty() {
            return;
        }
        let configurations = Arc::clone(&self.configurations);
        actix_rt::spawn(async move {
            tokio::time::sleep(withdrawn.grace).await;
            configurations.cut_withdrawn(&withdrawn);
        });
    }

    /// Publishes the result in the status and in the metrics, and logs it.
    fn record(&self, reply: &ReloadReply, began: Instant) {
        let Some(result) = reply.result() else { return };
        let at = Moment { now: clock::now(), wall: clock::wall() };
        self.configurations.current().process.reloads.record(result, &reply.problems, reply.number, at);
        for Problem { key, message, source, line, hint } in &reply.problems {
            error!(self.log, "configuration refused, the one before it stays in use"; "key" => key, "detail" => message,
                "source" => source.to_string(), "line" => line, "hint" => hint.as_deref());
        }
        for Problem { key, message, hint, .. } in &reply.warnings {
            warn!(self.log, "configuration warning"; "key" => key, "detail" => message, "hint" => hint.as_deref());
        }
        if result == ReloadResult::Unchanged {
            let took = clock::now().saturating_duration_since(began);
            info!(self.log, "configuration reloaded: nothing has changed"; "configuration" => reply.number, "took_ms" => millis(took));
        }
    }
}

/// The certificate of a listener, and the one that replaces it.
type ChangedCertificate = (Arc<ServerTls>, Arc<ServerTls>);

/// The certificates of listeners with other settings or files of TLS in the next configuration. No reload switches TLS on or off.
fn changed_certificates(current: &Shared, next: &Config) -> Result<Vec<ChangedCertificate>, StartError> {
    let (config, process) = (&current.config, &current.process);
    let mut changed = Vec::new();
    if config.server.tls != next.server.tls {
        changed.push((&process.tls, ServerTls::load(&next.server.tls, &process.ticket_keys)?));
    }
    if config.admin.tls != next.admin.tls {
        changed.push((&process.admin_tls, ServerTls::load_admin(&next.admin.tls, &process.ticket_keys)?));
    }
    Ok(changed.into_iter().filter_map(|(tls, next)| tls.clone().zip(next)).collect())
}

/// Sends the reply to each of these requests. A client that has left needs none.
fn send(requests: Vec<ReloadRequest>, reply: ReloadReply) {
    // A reply can list thousands of changes, so the last request gets it without a copy.
    let replies = std::iter::repeat_n(reply, requests.len());
    for (ReloadRequest { reply: to, .. }, reply) in requests.into_iter().zip(replies) {
        let _ = to.send(reply);
    }
}
