//! Reloads the gateway: replaces its file in one step and requests the reload by HTTP or by a signal (G3).
//!
//! The calls run on a separate thread, so that writing a large file delays no request of the load.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use serde::Deserialize;

use crate::configuration::{ConfigurationFile, SharedTimeline};
use crate::process::{ServingId, pid};
use crate::run::RunError;
use crate::statistics::{Statistics, percentile};
use crate::{admin_call, clock};

/// The longest time until a configuration is installed.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Interval of checks whether a reload by a signal is done.
const POLL: Duration = Duration::from_millis(20);
/// Maximum of a refused reload's reply in an error.
const REPLY_CHARACTERS_MAX: usize = 2_000;

/// How a reload or an upgrade is requested.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RequestedBy {
    /// `POST /reload`, or `tidegate upgrade`.
    #[default]
    Admin,
    /// SIGHUP, or SIGUSR2.
    Signal,
    /// Both in turn.
    Alternate,
}

impl RequestedBy {
    /// Whether the change after `done` others is requested by a signal.
    pub(crate) fn is_signal(self, done: usize) -> bool {
        match self {
            Self::Admin => false,
            Self::Signal => true,
            Self::Alternate => !done.is_multiple_of(2),
        }
    }
}

/// The gateway that is reloaded.
pub(crate) struct ReloadTarget {
    pub(crate) process: ServingId,
    pub(crate) admin: SocketAddr,
    pub(crate) file: Arc<ConfigurationFile>,
}

impl ReloadTarget {
    /// Installs the next configuration. Returns the time from the request to the reply.
    pub(crate) async fn reload(
        &self,
        by_signal: bool,
        timeline: &SharedTimeline,
    ) -> Result<Duration, RunError> {
        let number = timeline.borrow().newest() + 1;
        let file = Arc::clone(&self.file);
        on_thread(move || file.write(number)).await?;
        let begin = clock::now();
        timeline.borrow_mut().request(begin);
        if by_signal {
            self.by_signal().await?;
        } else {
            let admin = self.admin;
            let reply = on_thread(move || admin_call::call(admin, "POST", "/reload", RELOAD_TIMEOUT)).await?;
            has_result(&reply, "applied")?;
        }
        let end = clock::now();
        timeline.borrow_mut().install(end);
        Ok(end - begin)
    }

    /// Sends SIGHUP and waits until the running configuration is that of the file.
    async fn by_signal(&self) -> Result<(), RunError> {
        send_signal(&self.process, Signal::HUP)?;
        let deadline = clock::now() + RELOAD_TIMEOUT;
        loop {
            let admin = self.admin;
            let reply = on_thread(move || admin_call::get(admin, "/config/diff", RELOAD_TIMEOUT)).await?;
            match has_result(&reply, "unchanged") {
                Ok(()) => return Ok(()),
                Err(error) if clock::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }
}

/// Sends a signal to the serving process.
pub(crate) fn send_signal(process: &ServingId, signal: Signal) -> Result<(), RunError> {
    let pid = pid(process.get()).ok_or(io::ErrorKind::InvalidInput).map_err(io::Error::from)?;
    Ok(kill_process(pid, signal).map_err(io::Error::from)?)
}

/// Runs a blocking call on a separate thread.
pub(crate) async fn on_thread<T: Send + 'static>(
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, RunError> {
    Ok(tokio::task::spawn_blocking(call).await.map_err(io::Error::other)??)
}

fn has_result(reply: &str, result: &str) -> Result<(), RunError> {
    #[derive(Deserialize)]
    struct Reply {
        result: String,
    }
    let body = reply.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    match serde_json::from_str::<Reply>(body) {
        Ok(found) if found.result == result => Ok(()),
        _ => {
            let shown: String = reply.chars().take(REPLY_CHARACTERS_MAX).collect();
            Err(RunError::Change(format!("the reload is not {result:?}: {shown}")))
        }
    }
}

/// Reloads or upgrades of one step.
#[derive(Debug, Default, Clone)]
pub(crate) struct ChangeTimes {
    took: Vec<Duration>,
    /// Numbers of the configurations that were installed.
    numbers: Vec<u64>,
}

impl ChangeTimes {
    /// Adds a change.
    pub(crate) fn add(&mut self, took: Duration, number: u64) {
        self.took.push(took);
        self.numbers.push(number);
    }

    /// Their number.
    pub(crate) fn count(&self) -> usize {
        self.took.len()
    }

    /// Writes count and times as `PREFIX.…`; `logged` are the gateway's own durations by the number of a configuration.
    pub(crate) fn summarize(&self, prefix: &str, logged: &[(u64, f64)], into: &mut Statistics) {
        into.set(format!("{prefix}.count"), self.count() as f64);
        let took: Vec<_> = self.took.iter().copied().map(clock::millis).collect();
        let own = logged.iter().filter(|(number, _)| self.numbers.contains(number));
        let own: Vec<_> = own.map(|(_, millis)| *millis).collect();
        for (name, values) in [("reply", took), ("logged", own)] {
            for (of, quantile) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
                into.set_if_present(format!("{prefix}.{name}_{of}_ms"), percentile(&values, quantile));
            }
        }
    }
}

/// The durations of reloads in a log, with the number of each configuration.
pub(crate) fn logged_durations(log: &Path) -> io::Result<Vec<(u64, f64)>> {
    #[derive(Deserialize)]
    struct Line {
        configuration: u64,
        took_ms: f64,
    }
    let mut durations = Vec::new();
    for line in BufReader::new(File::open(log)?).lines() {
        let line = line?;
        if !line.contains("\"configuration reloaded\"") {
            continue;
        }
        let line: Line = serde_json::from_str(&line).map_err(io::Error::other)?;
        durations.push((line.configuration, line.took_ms));
    }
    Ok(durations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_reload_is_an_error_with_its_reply() {
        let reply =
            |result: &str| format!("HTTP/1.1 200 OK\r\n\r\n{{\"changes\":[],\"result\":\"{result}\"}}");
        assert!(has_result(&reply("applied"), "applied").is_ok());
        let error = has_result(&reply("refused"), "applied").unwrap_err().to_string();
        assert!(error.contains("refused"), "{error}");
        assert!(has_result("", "applied").is_err());
    }

    #[test]
    fn durations_are_those_of_the_log() {
        let directory = crate::process::RunDirectory::create("reloads").unwrap();
        let log = directory.path().join("access.log");
        let line = |msg, number, took| {
            format!("{{\"msg\":\"{msg}\",\"configuration\":{number},\"took_ms\":{took}}}\n")
        };
        let text = line("configuration reloaded", 2, 3.5)
            + &line("request", 3, 1.0)
            + &line("configuration reloaded", 3, 7.0);
        std::fs::write(&log, text).unwrap();
        let logged = logged_durations(&log).unwrap();
        assert_eq!(logged, [(2, 3.5), (3, 7.0)]);
        let mut times = ChangeTimes::default();
        times.add(Duration::from_millis(9), 3);
        let mut statistics = Statistics::default();
        times.summarize("s.reloads", &logged, &mut statistics);
        assert_eq!(statistics.value("s.reloads.count"), Some(1.0));
        assert_eq!(statistics.value("s.reloads.reply_max_ms"), Some(9.0));
        assert_eq!(statistics.value("s.reloads.logged_max_ms"), Some(7.0));
        directory.discard();
    }

    #[test]
    fn changes_are_requested_in_turn() {
        let by = |by: RequestedBy| (0..4).map(|done| by.is_signal(done)).collect::<Vec<_>>();
        assert_eq!(by(RequestedBy::Alternate), [false, true, false, true]);
        assert_eq!(by(RequestedBy::Signal), [true; 4]);
    }
}
