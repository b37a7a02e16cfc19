//! Reports failures of the log on stderr. It has a separate thread, because stderr may block as well.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tidegate_actors::clock;

use crate::telemetry::log::fault::LogFault;
use crate::telemetry::log::stats::LogStats;

const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Minimum time between two reports of the same cause.
const REPEAT_AFTER: Duration = Duration::from_secs(60);

/// Starts the thread. It detects blocked writes. It reports failures if `reports` is set, which is not the case if stderr is the log
/// itself.
pub(super) fn start(stats: Arc<LogStats>, reports: bool) -> io::Result<()> {
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    std::thread::Builder::new()
        .name("log-watch".to_owned())
        .spawn(move || report_failures(&stats, stderr, reports))?;
    Ok(())
}

fn report_failures(stats: &LogStats, mut stderr: File, reports: bool) {
    let mut last_report: Option<(LogFault, Instant)> = None;
    loop {
        std::thread::sleep(CHECK_INTERVAL);
        let Some(current) = stats.next_unreported().filter(|_| reports) else { continue };
        let now = clock::now();
        let is_new = last_report.is_none_or(|(cause, at)| {
            cause != current.cause || now.saturating_duration_since(at) >= REPEAT_AFTER
        });
        if is_new {
            // A failure of stderr cannot be reported anywhere else.
            let _ = stderr.write_all(failure_message(current.cause, &current.detail).as_bytes());
        }
        // A lasting failure renews the time of its report.
        last_report = Some((current.cause, now));
    }
}

fn failure_message(cause: LogFault, detail: &str) -> String {
    format!("tidegate: the log cannot be written ({}): {detail}; {}\n", cause.as_str(), cause.remedy())
}

/// Writes a message to stderr. Waits at most `timeout` if stderr blocks.
pub fn write_stderr(text: String, timeout: Duration) {
    let (done, written) = mpsc::channel();
    let write = move || {
        // A closed stderr is not an error of the program.
        let _ = io::stderr().write_all(text.as_bytes());
        let _ = done.send(());
    };
    if std::thread::Builder::new().name("stderr".to_owned()).spawn(write).is_ok() {
        let _ = written.recv_timeout(timeout);
    }
}
