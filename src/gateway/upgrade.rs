//! The predecessor's side of an upgrade (G8): one task of the main thread, so two upgrades never overlap.
//!
//! | step | the successor | this process |
//! |---|---|---|
//! | hello | reports magic, protocol, version | has sent nothing before |
//! | inherit | loads its configuration, starts everything but the acceptor | serves; has sent secrets and sockets |
//! | hand-over | imports the state of the actors | accepts nothing; connections wait in the backlogs |
//! | accept | accepts | closes its descriptors of the sockets, and drains |
//!
//! Until the last step every failure ends the successor, and this process accepts again. At each time at most one process accepts.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;
use slog::{error, info, warn};
use tidegate_actors::clock;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::time::{timeout, timeout_at};

use super::actors_handover::export_state;
use super::suspension::Suspension;
use super::upgrade_requests::UpgradeRequest;
use crate::admin::upgrade::UpgradeReply;
use crate::chaos::UpgradeCrash;
use crate::process::configurations::Configurations;
use crate::process::{DrainPhase, Process, Shared};
use crate::server::{AcceptorHandle, open_connections};
use crate::telemetry::log::LogControl;
use crate::telemetry::millis;
use crate::upgrade::UpgradeContext;
use crate::upgrade::channel::{Channel, ReceiveError, Received};
use crate::upgrade::child::{ServingProcess, SuccessorProcess};
use crate::upgrade::error::{UpgradeConditions, UpgradeError, UpgradeStep};
use crate::upgrade::message::{
    HELLO_BYTES_MAX, Inherit, MAGIC, MESSAGE_BYTES_MAX, PROTOCOL, PredecessorMessage, SuccessorMessage,
};

/// The longest time until the new process reports itself. It does that before it reads anything.
const HELLO_TIME: Duration = Duration::from_secs(10);
/// The longest time in which no process accepts.
const HAND_OVER_TIME: Duration = Duration::from_secs(10);
/// The longest time for the permission to accept. The successor has read everything before, so the socket has room for it.
const ACCEPT_TIME: Duration = Duration::from_secs(1);
/// The longest time until the listeners are closed after that. The backlog of one is served within little more than a second.
const RELEASE_TIME: Duration = Duration::from_secs(5);
/// The longest time from the note that the successor serves to the result of the upgrade.
pub(super) const RESULT_TIME: Duration = Duration::from_secs(7);

/// The task that upgrades.
pub(super) struct Upgrader {
    pub(super) configurations: Arc<Configurations>,
    pub(super) acceptor: Arc<AcceptorHandle>,
    /// Open connections of the data listener, by worker.
    pub(super) open: Vec<Arc<std::sync::atomic::AtomicUsize>>,
    pub(super) context: UpgradeContext,
    pub(super) log_control: LogControl,
}

/// The successor of an upgrade that is done: it accepts.
pub(super) struct ServingSuccessor {
    pub(super) process: ServingProcess,
    pub(super) version: String,
    pub(super) channel: Channel,
}

impl Upgrader {
    /// Runs until the gateway ends. The successor of the upgrade that is done goes to `done`. A panic ends one upgrade, not the task.
    pub(super) async fn run(
        self,
        mut requests: UnboundedReceiver<UpgradeRequest>,
        done: oneshot::Sender<ServingSuccessor>,
    ) {
        let mut done = Some(done);
        while let Some(request) = requests.recv().await {
            let result = {
                let mut upgrading = std::pin::pin!(AssertUnwindSafe(self.upgrade()).catch_unwind());
                loop {
                    tokio::select! {
                        biased;
                        result = &mut upgrading => break result.unwrap_or(Err(UpgradeError::Panicked)),
                        Some(other) = requests.recv() => self.reply(other, &Err(UpgradeError::Running)),
                    }
                }
            };
            self.reply(request, &result);
            // A failed upgrade may be followed by one that is done.
            if let Ok(successor) = result
                && let Some(sender) = done.take()
            {
                let _ = sender.send(successor);
            }
        }
    }

    /// Logs a result and sends it. A client that has left needs none.
    fn reply(&self, request: UpgradeRequest, result: &Result<ServingSuccessor, UpgradeError>) {
        let log = &self.process().log;
        let _ = request.send(match result {
            Ok(ServingSuccessor { process, version, .. }) => {
                UpgradeReply::Done { pid: process.pid(), version: version.clone() }
            }
            Err(why) if why.is_refusal() => {
                warn!(log, "upgrade refused"; "detail" => why.to_string());
                UpgradeReply::Refused(why.to_string())
            }
            Err(why @ UpgradeError::Stopped) => {
                info!(log, "upgrade ended by the stop of the gateway"; "detail" => why.to_string());
                UpgradeReply::Stopped(why.to_string())
            }
            Err(why) => {
                error!(log, "upgrade failed, the gateway goes on"; "detail" => why.to_string());
                UpgradeReply::Failed(why.to_string())
            }
        });
    }

    fn process(&self) -> Arc<Process> {
        Arc::clone(&self.configurations.current().process)
    }

    fn conditions(&self) -> UpgradeConditions {
        let process = self.process();
        UpgradeConditions {
            pid: std::process::id(),
            predecessor: process.predecessors.list().first().map(|predecessor| predecessor.pid),
            is_draining: *process.drain.borrow() != DrainPhase::Serving,
            has_origin: self.context.has_origin,
        }
    }

    async fn upgrade(&self) -> Result<ServingSuccessor, UpgradeError> {
        if let Some(refusal) = self.conditions().refusal() {
            return Err(refusal);
        }
        let (process, began) = (self.process(), clock::now());
        let limit = self.configurations.current().config.server.upgrade_timeout;
        let program = self.context.program.clone();
        let starting = timeout_at((began + limit).into(), SuccessorProcess::start(program.clone()));
        // A program on a file system that hangs is never started. If it starts late, it is killed.
        let started = tokio::select! {
            started = starting => started.map_err(|_| UpgradeError::Hung { step: UpgradeStep::Hello, limit })?,
            () = drain_began(&process) => return Err(UpgradeError::Stopped),
        };
        let (successor, channel) =
            started.map_err(|source| UpgradeError::Start { program: program.path().to_owned(), source })?;
        info!(process.log, "upgrade begins"; "pid" => successor.pid());
        let mut attempt =
            Attempt { upgrader: self, suspension: None, successor, channel, due: began + limit, limit };
        let attempted = tokio::select! {
            attempted = attempt.run() => attempted,
            () = drain_began(&process) => Err(UpgradeError::Stopped),
        };
        match attempted {
            Ok(Accepted { process: successor, version, sockets, log }) => {
                self.release_listeners(&process, &sockets, log).await;
                let took = clock::now().saturating_duration_since(began);
                info!(process.log, "upgrade done: the new process serves, this one drains"; "pid" => successor.pid(),
                    "version" => &version, "took_ms" => millis(took));
                Ok(ServingSuccessor { process: successor, version, channel: attempt.channel })
            }
            Err(error) => {
                let Attempt { suspension, successor, channel, .. } = attempt;
                drop(suspension);
                let closes = matches!(error, UpgradeError::Ended { .. } | UpgradeError::Failed(_));
                let own_end = successor.end(closes).await;
                // Not before: a successor without a predecessor may accept.
                drop(channel);
                Err(error.with_status(own_end))
            }
        }
    }

    /// Releases the log and the listeners to the successor, which accepts already. `sockets`: those that it uses.
    async fn release_listeners(&self, process: &Process, sockets: &[String], log: Option<OwnedFd>) {
        let leaving = async {
            // One process writes to the output of the log.
            if let Some(log) = log {
                self.log_control.forward_to(log);
            }
            let is_used = |name: &&str| sockets.iter().any(|used| used == name);
            let (shared, own): (Vec<_>, Vec<_>) = [super::DATA, super::ADMIN].into_iter().partition(is_used);
            self.acceptor.release(shared).await;
            // The successor has another address. The connections that wait at the old one are served.
            for name in own {
                self.acceptor.close(name).await;
            }
        };
        // Even a panic must not lose the successor.
        let left = timeout(RELEASE_TIME, AssertUnwindSafe(leaving).catch_unwind()).await;
        if !matches!(left, Ok(Ok(()))) {
            warn!(process.log, "the listeners are not closed in time after the hand-over, the drain goes on";
                "hint" => "the acceptor hangs, which is a defect: report it");
        }
    }
}

/// Returns when the gateway begins to drain without a hand-over.
async fn drain_began(process: &Process) {
    let has_begun = |phase: &DrainPhase| *phase > DrainPhase::HandedOver;
    if process.drain.subscribe().wait_for(has_begun).await.is_err() {
        std::future::pending().await
    }
}

/// One attempt to hand over. The order of the fields is that of their drops: the channel last, because a successor without a predecessor
/// may accept.
struct Attempt<'a> {
    upgrader: &'a Upgrader,
    /// Accepting is suspended, and the limits are lowered.
    suspension: Option<Suspension>,
    successor: SuccessorProcess,
    channel: Channel,
    /// The end of `server.upgrade_timeout`.
    due: Instant,
    limit: Duration,
}

/// The successor may accept.
struct Accepted {
    process: ServingProcess,
    version: String,
    /// The names of the inherited sockets that it uses.
    sockets: Vec<String>,
    /// The pipe for the log of this process.
    log: Option<OwnedFd>,
}

impl Attempt<'_> {
    /// Runs all steps.
    async fn run(&mut self) -> Result<Accepted, UpgradeError> {
        let version = self.hello().await?;
        self.send_inheritance().await?;
        let sockets = match self.receive(UpgradeStep::Preparation, self.due, self.limit).await? {
            SuccessorMessage::Prepared { sockets } => sockets,
            other => return Err(unexpected(other)),
        };
        // A reload that runs ends first. Another one waits until the upgrade has failed, and is refused when it is done.
        let configurations = &self.upgrader.configurations;
        let reload_ended = async { Ok(configurations.change.lock().await) };
        let _change = self.within(UpgradeStep::Reload, self.due, self.limit, reload_ended).await?;
        let shared = configurations.current();
        let due = clock::now() + HAND_OVER_TIME;
        self.hand_over(&shared, due).await?;
        shared.process.chaos.panic_in_upgrade(UpgradeCrash::HandOver);
        let ready =
            self.receive_within(MESSAGE_BYTES_MAX, UpgradeStep::HandOver, due, HAND_OVER_TIME).await?;
        let Received { message: SuccessorMessage::Ready, descriptors } = ready else {
            return Err(unexpected(ready.message));
        };
        let process = self.commit(&shared.process).await?;
        Ok(Accepted { process, version, sockets, log: descriptors.into_iter().next() })
    }

    async fn hello(&self) -> Result<String, UpgradeError> {
        let (due, limit) = match clock::now() + HELLO_TIME {
            due if due < self.due => (due, HELLO_TIME),
            _ => (self.due, self.limit),
        };
        let received = self.receive_within(HELLO_BYTES_MAX, UpgradeStep::Hello, due, limit).await;
        let received = received.map(|received| received.message);
        let other = || {
            let program = self.upgrader.context.program.path().to_owned();
            Err(UpgradeError::OtherProgram { program })
        };
        match received {
            Ok(SuccessorMessage::Hello { magic, .. }) if magic != MAGIC => other(),
            Ok(SuccessorMessage::Hello { protocol, version, .. }) if protocol != PROTOCOL => {
                Err(UpgradeError::Protocol { protocol, version })
            }
            Ok(SuccessorMessage::Hello { version, .. }) => Ok(version),
            Ok(_) | Err(UpgradeError::UnexpectedMessage) => other(),
            Err(error) => Err(error),
        }
    }

    /// Sends the secrets and duplicates of the listening sockets.
    async fn send_inheritance(&self) -> Result<(), UpgradeError> {
        let duplicating = async { Ok(self.upgrader.acceptor.duplicate_sockets().await?) };
        let sockets = self.within(UpgradeStep::Preparation, self.due, self.limit, duplicating).await?;
        let inherit = Inherit {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            variables: STANDARD.encode(&*self.upgrader.context.secrets),
            ticket_keys: STANDARD.encode(&*self.upgrader.process().ticket_keys.export()),
            sockets: sockets.iter().map(|socket| socket.name.to_owned()).collect(),
            activated: sockets
                .iter()
                .filter(|socket| socket.is_activated)
                .map(|socket| socket.name.to_owned())
                .collect(),
        };
        let descriptors: Vec<_> = sockets.iter().map(|socket| socket.socket.as_fd()).collect();
        let message = PredecessorMessage::Inherit(inherit);
        let sending = self.channel.send(&message, &descriptors);
        self.within(UpgradeStep::Preparation, self.due, self.limit, async { Ok(sending.await?) }).await
    }

    /// Accepts nothing from here on, and sends the state.
    async fn hand_over(&mut self, shared: &Shared, due: Instant) -> Result<(), UpgradeError> {
        let Upgrader { configurations, acceptor, open, .. } = self.upgrader;
        let suspending = async { Ok(Suspension::new(configurations, acceptor).await) };
        self.suspension = Some(self.within(UpgradeStep::HandOver, due, HAND_OVER_TIME, suspending).await?);
        let handing_over = async {
            acceptor.suspend().await;
            let actors = Box::new(export_state(shared, open_connections(open)).await);
            Ok(self.channel.send(&PredecessorMessage::State { actors }, &[]).await?)
        };
        self.within(UpgradeStep::HandOver, due, HAND_OVER_TIME, handing_over).await
    }

    /// Sends the permission to accept. There is no way back after the successor has got it.
    async fn commit(&mut self, process: &Process) -> Result<ServingProcess, UpgradeError> {
        if !process.hand_over(self.successor.pid()) {
            return Err(UpgradeError::Stopped);
        }
        process.chaos.panic_in_upgrade(UpgradeCrash::Accept);
        match timeout(ACCEPT_TIME, self.channel.send(&PredecessorMessage::Accept, &[])).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(UpgradeError::Ended { step: UpgradeStep::HandOver, status: None }),
            Err(_) => return Err(UpgradeError::Hung { step: UpgradeStep::HandOver, limit: ACCEPT_TIME }),
        }
        self.suspension.take().into_iter().for_each(Suspension::stay);
        Ok(self.successor.serve())
    }

    async fn receive(
        &self,
        step: UpgradeStep,
        due: Instant,
        limit: Duration,
    ) -> Result<SuccessorMessage, UpgradeError> {
        Ok(self.receive_within(MESSAGE_BYTES_MAX, step, due, limit).await?.message)
    }

    async fn receive_within(
        &self,
        bytes_max: usize,
        step: UpgradeStep,
        due: Instant,
        limit: Duration,
    ) -> Result<Received<SuccessorMessage>, UpgradeError> {
        let receiving = async {
            match self.channel.receive(bytes_max).await {
                Ok(received) => Ok(received),
                Err(ReceiveError::Ended) => Err(UpgradeError::Ended { step, status: None }),
                Err(ReceiveError::NoMessage) => Err(UpgradeError::UnexpectedMessage),
                Err(ReceiveError::TooManyDescriptors) => Err(UpgradeError::TooManyDescriptors),
                Err(ReceiveError::Io(error)) => Err(UpgradeError::Channel(error)),
            }
        };
        self.within(step, due, limit, receiving).await
    }

    /// Runs a part of a step that must end at `due`, or with the whole upgrade if that ends earlier.
    async fn within<T>(
        &self,
        step: UpgradeStep,
        due: Instant,
        limit: Duration,
        part: impl Future<Output = Result<T, UpgradeError>>,
    ) -> Result<T, UpgradeError> {
        let (due, limit) = if self.due < due { (self.due, self.limit) } else { (due, limit) };
        let ended = timeout_at(due.into(), part).await;
        match ended {
            // A process that ends while something is sent to it closes the channel.
            Ok(Err(UpgradeError::Channel(error))) if error.kind() == io::ErrorKind::BrokenPipe => {
                Err(UpgradeError::Ended { step, status: None })
            }
            Ok(result) => result,
            Err(_) => Err(UpgradeError::Hung { step, limit }),
        }
    }
}

/// The error of a message that is not the expected one.
fn unexpected(message: SuccessorMessage) -> UpgradeError {
    match message {
        SuccessorMessage::Failed { reason } => UpgradeError::Failed(reason),
        _ => UpgradeError::UnexpectedMessage,
    }
}
