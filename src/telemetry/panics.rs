//! Panics in the log: what, where, and by which way (E3).
//!
//! To walk a stack takes microseconds. To name its frames the symbols of every library in the process are read, the
//! first time for a tenth of a second, and the thread that panicked has requests to serve: an actor that crashed must
//! be back within milliseconds (S2). So frames are named on a thread of their own, which then logs the panic. While it
//! is at work even walking a stack would mean waiting for it, so a panic in that moment is logged at once and
//! without one.
//!
//! Deliberately absent: a queue. What a storm of panics would put into it says the same again and again.

use std::backtrace::Backtrace;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use slog::{Logger, error};

use crate::telemetry::log::LogError;

/// Longest wait for the last panic to be logged: reading symbols may hang on a slow disk.
const LAST_PANIC_MAX: Duration = Duration::from_secs(1);

/// Keeps the naming thread; its drop waits for the last panic to be logged, at most a second.
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

/// What the hook does, apart from being one.
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
        let text = panic.payload_as_str().unwrap_or("not a text");
        reporter.report(text, panic.location().map(ToString::to_string).unwrap_or_default());
    }));
    Ok(guard)
}

fn start(log: Logger) -> Result<(Reporter, PanicGuard), LogError> {
    // The panic that is being named and the word to end.
    let (reports, inbox) = sync_channel(2);
    let busy = Arc::new(AtomicBool::new(false));
    let (for_naming, is_busy) = (log.clone(), Arc::clone(&busy));
    let (ends, ended) = sync_channel(0);
    std::thread::Builder::new()
        .name("panic-log".to_owned())
        .spawn(move || {
            let _ends: SyncSender<()> = ends;
            // Dropped before `_ends`: a report after the end must not wait in an inbox that nobody reads.
            let inbox = inbox;
            log_reports(&inbox, &for_naming, &is_busy);
        })
        .map_err(LogError::Thread)?;
    let guard = PanicGuard { reports: reports.clone(), ended };
    Ok((Reporter { log, busy, reports }, guard))
}

fn log_reports(inbox: &Receiver<Option<PanicReport>>, log: &Logger, busy: &AtomicBool) {
    while let Ok(Some(PanicReport { panic, location, stack })) = inbox.recv() {
        error!(log, "panic"; "panic" => panic, "place" => location, "stack" => stack.to_string());
        busy.store(false, Ordering::Release);
    }
}

impl Reporter {
    fn report(&self, panic: &str, place: String) {
        if self.busy.swap(true, Ordering::AcqRel) {
            error!(self.log, "panic"; "panic" => panic, "place" => place, "stack" => "none: another is being named");
            return;
        }
        let report = PanicReport {
            panic: panic.to_owned(),
            location: place.clone(),
            stack: Backtrace::force_capture(),
        };
        if self.reports.try_send(Some(report)).is_err() {
            error!(self.log, "panic"; "panic" => panic, "place" => place, "stack" => "none: nobody names it any more");
            self.busy.store(false, Ordering::Release);
        }
    }
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        // An error means that the thread has ended already, or that two reports are ahead of this one.
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
    fn a_panic_is_logged_with_the_names_of_its_frames_before_the_guard_is_gone() {
        let lines = Lines::default();
        let (reporter, guard) = start(Logger::root(lines.clone(), o!())).unwrap();
        reporter.report("first", "here".to_owned());
        drop(guard);
        reporter.report("late", "here".to_owned());
        let lines = lines.0.lock().unwrap();
        assert!(lines[0].starts_with("first|") && lines[0].contains("a_panic_is_logged"), "{lines:?}");
        assert_eq!(lines[1], "late|none: nobody names it any more", "a panic after the end is not lost");
    }

    /// S2
    #[test]
    fn a_panic_does_not_wait_while_anothers_frames_are_named() {
        let lines = Lines::default();
        let (reporter, guard) = start(Logger::root(lines.clone(), o!())).unwrap();
        reporter.busy.store(true, Ordering::Release);
        reporter.report("second", "here".to_owned());
        assert_eq!(*lines.0.lock().unwrap(), ["second|none: another is being named"]);
        drop(guard);
    }
}
