//! The service manager that started the process (systemd): the sockets that it passes, notifications, the watchdog.
//!
//! `activation.rs` takes the passed sockets, `notify_socket.rs` sends messages. Here is what the messages say and when. Sources:
//! sd_notify(3), `Type=notify-reload` in systemd.service(5). A process without a service manager has the same calls, without effect.

mod activation;
mod notify_socket;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use slog::{Logger, warn};
use tidegate_actors::clock;
use tidegate_config::ServiceEnvironment;
use tokio::task::JoinHandle;

pub use activation::{ActivatedSockets, ActivationError};
use notify_socket::NotifySocket;

/// How long the service manager waits for the next message of a drain before it kills the process.
const DRAIN_EXTENSION: Duration = Duration::from_secs(15);
/// Time between two messages of a drain.
const DRAIN_PERIOD: Duration = Duration::from_secs(3);
/// Longer texts are cut: a message must fit the buffer of a socket.
const STATUS_CHARS_MAX: usize = 1_000;

/// The last state that was sent to the service manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running {
        /// Reloads that have begun and not ended.
        reloads: usize,
    },
    Stopping,
    /// Another process is the main one: messages of this process would be taken for those of a foreign one.
    HandedOver,
}

/// Notifies the service manager. Clones are the same.
#[derive(Clone)]
pub struct ServiceManager(Option<Arc<Notifier>>);

struct Notifier {
    socket: NotifySocket,
    watchdog: Option<Duration>,
    state: Mutex<NotifierState>,
    log: Logger,
}

struct NotifierState {
    phase: Phase,
    /// The last message could not be sent, which is logged once.
    has_failed: bool,
}

impl ServiceManager {
    /// The service manager of this environment. A socket that cannot be used is logged, and nothing is sent.
    #[must_use]
    pub fn from_environment(environment: &ServiceEnvironment, log: &Logger) -> Self {
        let Some(address) = environment.notify_socket.as_deref() else { return Self(None) };
        match NotifySocket::new(address) {
            Ok(socket) => Self(Some(Arc::new(Notifier {
                socket,
                watchdog: environment.watchdog,
                state: Mutex::new(NotifierState { phase: Phase::Running { reloads: 0 }, has_failed: false }),
                log: log.clone(),
            }))),
            Err(error) => {
                warn!(log, "the service manager cannot be notified"; "error" => error.to_string(),
                    "hint" => "NOTIFY_SOCKET must be an absolute path or an abstract name that begins with @");
                Self(None)
            }
        }
    }

    /// The gateway listens.
    pub fn ready(&self) {
        self.notify(|phase| matches!(phase, Phase::Running { .. }).then(|| "READY=1".to_owned()));
    }

    /// A reload begins. By the time the service manager finds out which of its requests this answers.
    pub fn reloading(&self) {
        let now = clock::monotonic().as_micros();
        self.notify(|phase| {
            let Phase::Running { reloads } = phase else { return None };
            *reloads += 1;
            Some(format!("RELOADING=1\nMONOTONIC_USEC={now}\nSTATUS=loading the configuration"))
        });
    }

    /// A reload has ended, with this result. The message follows the last of several reloads that overlap.
    pub fn reloaded(&self, result: &str) {
        self.notify(|phase| {
            let Phase::Running { reloads } = phase else { return None };
            *reloads = reloads.saturating_sub(1);
            let ready = if *reloads == 0 { "READY=1\n" } else { "" };
            Some(format!("{ready}{}", status_line(result)))
        });
    }

    /// The gateway drains. Until the result is dropped, the service manager waits longer than its own limit.
    ///
    /// Must be called inside an actix system.
    #[must_use]
    pub fn stopping(&self) -> DrainExtension {
        let extension = format!("EXTEND_TIMEOUT_USEC={}", DRAIN_EXTENSION.as_micros());
        self.notify(|phase| {
            // After a hand-over the other process goes on.
            let is_main = *phase != Phase::HandedOver;
            is_main.then(|| {
                *phase = Phase::Stopping;
                format!("STOPPING=1\nSTATUS=draining: requests under way finish\n{extension}")
            })
        });
        let service = self.0.is_some().then(|| self.clone());
        DrainExtension(service.map(|service| {
            actix_rt::spawn(async move {
                loop {
                    tokio::time::sleep(DRAIN_PERIOD).await;
                    service.notify(|phase| (*phase == Phase::Stopping).then(|| extension.clone()));
                }
            })
        }))
    }

    /// The state in words, for `systemctl status`.
    pub fn status(&self, text: &str) {
        self.notify(|phase| (*phase != Phase::HandedOver).then(|| status_line(text)));
    }

    /// Another process has taken over. This process sends nothing from now on.
    pub fn main_pid(&self, pid: u32) {
        self.notify(|phase| {
            *phase = Phase::HandedOver;
            // The service manager takes messages of the main process only, so the first ones of the new process do not count.
            Some(format!(
                "MAINPID={pid}\nREADY=1\nWATCHDOG=1\n{}",
                status_line("upgraded: the new process serves")
            ))
        });
    }

    /// Removes from the environment of a successor the variables that name this process. It keeps those that are for every main process.
    /// No other child may have any of them.
    pub fn prepare_successor(command: &mut Command) {
        ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"].iter().for_each(|name| {
            command.env_remove(name);
        });
    }

    /// The time without a ping after which the service manager restarts the process.
    #[must_use]
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.0.as_ref().and_then(|notifier| notifier.watchdog)
    }

    /// The process works.
    pub(crate) fn ping(&self) {
        self.notify(|phase| (*phase != Phase::HandedOver).then(|| "WATCHDOG=1".to_owned()));
    }

    /// Sends what `message` returns, in the order of the phases.
    fn notify(&self, message: impl FnOnce(&mut Phase) -> Option<String>) {
        let Some(notifier) = &self.0 else { return };
        let mut state = notifier.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(message) = message(&mut state.phase) else { return };
        let sent = notifier.socket.send(&message);
        if let Err(error) = &sent
            && !state.has_failed
        {
            warn!(notifier.log, "the service manager cannot be notified"; "error" => error.to_string(),
                "hint" => "check that the service manager runs and that NOTIFY_SOCKET is its socket");
        }
        state.has_failed = sent.is_err();
    }
}

/// Extends the time that the service manager gives a drain, until it is dropped.
pub struct DrainExtension(Option<JoinHandle<()>>);

impl Drop for DrainExtension {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// A line of a message with this text. A line break would begin another assignment.
fn status_line(text: &str) -> String {
    let mut line = "STATUS=".to_owned();
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    for c in text.chars().take(STATUS_CHARS_MAX) {
        // Writing to a string does not fail.
        let _ = line.write_char(printable(c));
    }
    line
}
