//! Logs panics with message, location and stack (E3).
//!
//! Walking a stack takes microseconds. Naming its frames reads the symbols of every library in the process, which takes a tenth of a second
//! the first time. The panicking thread must serve requests again within milliseconds (S2), so a separate thread names the frames and logs
//! the panic. While it resolves symbols, even walking another stack would wait for it, so a panic in that time is logged at once without a
//! stack. There is no queue, because the reports of many panics in a row are alike.

use std::backtrace::Backtrace;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use slog::{Logger, error};

use crate::telemetry::log::LogError;

/// Maximum wait for the log of the last panic: reading symbols may block on a slow disk.
const LAST_PANIC_MAX: Duration = Duration::from_secs(1);

/// Owner of the naming thread. Its drop waits until the last panic is logged, at most a second.
pub struct PanicGuard {
    reports: SyncSender<Option<PanicReport>>,
    /// Disconnected when the thread ends.
    ended: Receiver<()>,
}

struct PanicReport {
    panic: String,
    location: String,
    stack: Backtrace,
}

/// Implementation of the panic hook.
struct Reporter {
    log: Logger,
    busy: Arc<AtomicBool>,
    reports: SyncSender<Option<PanicReport>>,
}

/// Logs every panic from now on.
///
/// # Errors
/// The naming thread cannot be started.
pub fn log_panics(log: Logger) -> Result<PanicGuard, LogError> {
    let (reporter, guard) = start(log)?;
    std::panic::set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
        let text = panic.payload_as_str().unwrap_or("the payload is not a text");
        reporter.report(text, panic.location().map(ToString::to_string).unwrap_or_default());
    }));
    Ok(guard)
}

fn start(log: Logger) -> Result<(Reporter, PanicGuard), LogError> {
    // Room for one report and the message to end.
    let (reports, receiver) = sync_channel(2);
    let busy = Arc::new(AtomicBool::new(false));
    let (naming_log, is_busy) = (log.clone(), Arc::clone(&busy));
    let (ends, ended) = sync_channel(0);
    std::thread::Builder::new()
        .name("panic-log".to_owned())
        .spawn(move || {
            let _ends: SyncSender<()> = ends;
            // Dropped before `_ends`, so that a report after the end fails to send and is logged at once.
            let receiver = receiver;
            log_reports(&receiver, &naming_log, &is_busy);
        })
        .map_err(LogError::Thread)?;
    let guard = PanicGuard { reports: reports.clone(), ended };
    Ok((Reporter { log, busy, reports }, guard))
}

fn log_reports(receiver: &Receiver<Option<PanicReport>>, log: &Logger, busy: &AtomicBool) {
    while let Ok(Some(PanicReport { panic, location, stack })) = receiver.recv() {
        error!(log, "panic"; "panic" => panic, "place" => location, "stack" => stack.to_string());
        busy.store(false, Ordering::Release);
    }
}

impl Reporter {
    fn report(&self, panic: &str, location: String) {
        if self.busy.swap(true, Ordering::AcqRel) {
            error!(self.log, "panic"; "panic" => panic, "place" => location, "stack" => "none: the stack of another panic is being resolved");
            return;
        }
        let report = PanicReport {
            panic: panic.to_owned(),
            location: location.clone(),
            stack: Backtrace::force_capture(),
        };
        if self.reports.try_send(Some(report)).is_err() {
            error!(self.log, "panic"; "panic" => panic, "place" => location, "stack" => "none: the log is shut down");
            self.busy.store(false, Ordering::Release);
        }
    }
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        // An error means that the thread has ended already, or that the queue is full.
        let _ = self.reports.try_send(None);
        let _ = self.ended.recv_timeout(LAST_PANIC_MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use slog::{Drain, OwnedKVList, Record, o};

    use super::*;

    /// Lines as `panic|stack`.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    struct Pairs(Vec<(&'static str, String)>);

    impl slog::Serializer for Pairs {
        fn emit_arguments(&mut self, key: slog::Key, value: &std::fmt::Arguments<'_>) -> slog::Result {
            self.0.push((key, value.to_string()));
            Ok(())
        }
    }

    impl Drain for Lines {
        type Ok = ();
        type Err = slog::Never;

        fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), slog::Never> {
            let mut pairs = Pairs(Vec::new());
            slog::KV::serialize(&record.kv(), record, &mut pairs).unwrap();
            let of = |name| pairs.0.iter().find(|(key, _)| *key == name).unwrap().1.clone();
            self.0.lock().unwrap().push(format!("{}|{}", of("panic"), of("stack")));
            Ok(())
        }
    }

    /// E3
    #[test]
    fn the_drop_of_the_guard_waits_for_the_log_of_a_panic_with_its_frames() {
        let lines = Lines::default();
        let (reporter, guard) = start(Logger::root(lines.clone(), o!())).unwrap();
        reporter.report("first", "here".to_owned());
        drop(guard);
        reporter.report("late", "here".to_owned());
        let lines = lines.0.lock().unwrap();
        assert!(lines[0].starts_with("first|") && lines[0].contains("the_drop_of_the_guard"), "{lines:?}");
        assert_eq!(lines[1], "late|none: the log is shut down", "a panic after the end is not lost");
    }

    /// S2
    #[test]
    fn a_panic_does_not_wait_for_the_stack_of_another() {
        let lines = Lines::default();
        let (reporter, guard) = start(Logger::root(lines.clone(), o!())).unwrap();
        reporter.busy.store(true, Ordering::Release);
        reporter.report("second", "here".to_owned());
        assert_eq!(*lines.0.lock().unwrap(), ["second|none: the stack of another panic is being resolved"]);
        drop(guard);
    }
}
