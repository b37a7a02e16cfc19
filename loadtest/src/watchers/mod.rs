//! Watchers of the status stream during the load of a step: readers, and stalled ones that read nothing.
//!
//! They run on a separate thread and runtime, so that they share CPU time with the measured load but never its event loop. All of them are
//! open before the load begins, and each reader has received a sample, so that the load meets watchers and not their connects. At the end
//! of the step a stalled watcher reads what it has received, which shows whether the gateway has disconnected it.

mod connection;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinSet, LocalSet};

use crate::statistics::Statistics;

/// The longest time until all watchers of a step are open and the readers have a sample.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);
/// Interval of checks of a state that has no event.
const POLL: Duration = Duration::from_millis(20);

/// One group of watchers in a scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WatcherSpec {
    /// The third part of the names of its statistics, after the step and `watchers`.
    pub(crate) name: String,
    /// Number of watchers, with one connection each.
    pub(crate) count: usize,
    /// Whether they read nothing after their request.
    #[serde(default)]
    pub(crate) stalled: bool,
}

/// Counts of a group.
#[derive(Debug, Default, Clone)]
struct WatcherCounts {
    /// Streams that began.
    opened: u64,
    /// Connects and requests without a stream.
    not_opened: u64,
    /// Streams that the gateway ended.
    dropped: u64,
    received_bytes: u64,
    /// Samples that each reader has received.
    samples: Vec<u64>,
}

/// The running watchers of a step. The drop ends them.
pub(crate) struct Watchers {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<io::Result<Vec<WatcherCounts>>>,
    names: Vec<String>,
}

impl Watchers {
    /// Opens all watchers of a step; none if it has no group.
    pub(crate) fn start(groups: &[WatcherSpec], admin: SocketAddr) -> io::Result<Option<Self>> {
        if groups.is_empty() {
            return Ok(None);
        }
        let names = groups.iter().map(|group| group.name.clone()).collect();
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let groups = groups.to_vec();
        let thread = std::thread::Builder::new().name("watchers".to_owned());
        let thread = thread.spawn(move || run(&groups, admin, &ready, stopped))?;
        // An error means that the thread has ended; `finish` has its error.
        let _ = is_ready.recv();
        Ok(Some(Self { stop, thread, names }))
    }

    /// Ends all streams and writes the counts as `STEP.watchers.NAME.…`.
    pub(crate) fn finish(self, step: &str, into: &mut Statistics) -> io::Result<()> {
        drop(self.stop);
        let counts = self.thread.join().map_err(|_| io::Error::other("the watchers panicked"))??;
        for (name, counts) in self.names.iter().zip(counts) {
            let mut set = |what: &str, count: u64| {
                into.set(format!("{step}.watchers.{name}.{what}"), count as f64);
            };
            set("opened", counts.opened);
            set("not_opened", counts.not_opened);
            set("dropped", counts.dropped);
            set("received_bytes", counts.received_bytes);
            if let Some(least) = counts.samples.iter().min() {
                set("samples_min", *least);
            }
        }
        Ok(())
    }
}

fn run(
    groups: &[WatcherSpec],
    admin: SocketAddr,
    ready: &mpsc::Sender<()>,
    stopped: oneshot::Receiver<()>,
) -> io::Result<Vec<WatcherCounts>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let counts: Vec<Rc<RefCell<WatcherCounts>>> = groups.iter().map(|_| Rc::default()).collect();
    let watchers = LocalSet::new();
    watchers.block_on(&runtime, async {
        let mut stalled = JoinSet::new();
        let (end, _) = watch::channel(());
        let open = async {
            for (group, counts) in groups.iter().zip(&counts) {
                for _ in 0..group.count {
                    match group.stalled {
                        true => open_stalled(admin, counts, end.subscribe(), &mut stalled).await,
                        false => open_reader(admin, counts).await,
                    }
                }
            }
            while counts.iter().any(|counts| counts.borrow().samples.contains(&0)) {
                tokio::time::sleep(POLL).await;
            }
        };
        // The counts show what is missing.
        let _ = tokio::time::timeout(OPEN_TIMEOUT, open).await;
        // An error means that the caller is gone, and that `stopped` is too.
        let _ = ready.send(());
        // The drop of the sender ends the step, so an error is expected.
        let _ = stopped.await;
        drop(end);
        while stalled.join_next().await.is_some() {}
    });
    drop(watchers);
    Ok(counts.iter().map(|counts| counts.borrow().clone()).collect())
}

async fn open_reader(admin: SocketAddr, counts: &Rc<RefCell<WatcherCounts>>) {
    let Ok(mut reader) = connection::open_reader(admin).await else {
        counts.borrow_mut().not_opened += 1;
        return;
    };
    let number = {
        let mut counts = counts.borrow_mut();
        counts.opened += 1;
        counts.samples.push(0);
        counts.samples.len() - 1
    };
    let counts = Rc::clone(counts);
    tokio::task::spawn_local(async move {
        while let Ok(received) = reader.next().await {
            let mut counts = counts.borrow_mut();
            counts.received_bytes += received.bytes;
            counts.samples[number] += received.samples;
        }
        counts.borrow_mut().dropped += 1;
    });
}

/// Opens a stream that is read only after the end of the step.
async fn open_stalled(
    admin: SocketAddr,
    counts: &Rc<RefCell<WatcherCounts>>,
    mut end: watch::Receiver<()>,
    stalled: &mut JoinSet<()>,
) {
    let Ok(stream) = connection::open_stalled(admin).await else {
        counts.borrow_mut().not_opened += 1;
        return;
    };
    counts.borrow_mut().opened += 1;
    let counts = Rc::clone(counts);
    stalled.spawn_local(async move {
        // The drop of the sender is the end.
        let _ = end.changed().await;
        counts.borrow_mut().dropped += u64::from(connection::has_ended(stream).await);
    });
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    const HEAD: &str =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

    fn chunk(text: &str) -> String {
        format!("{:x}\r\n{text}\r\n", text.len())
    }

    /// Serves `replies` to one connection each, and closes it after that if `closes`.
    fn server(replies: Vec<(String, bool)>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for (reply, closes) in replies {
                let (mut stream, _) = listener.accept().unwrap();
                assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
                stream.write_all(reply.as_bytes()).unwrap();
                if !closes {
                    open.push(stream);
                }
            }
            std::thread::sleep(Duration::from_secs(60));
        });
        address
    }

    fn group(count: usize, stalled: bool) -> WatcherSpec {
        WatcherSpec { name: "x".to_owned(), count, stalled }
    }

    fn finished(groups: &[WatcherSpec], admin: SocketAddr) -> Statistics {
        let mut statistics = Statistics::default();
        let watchers = Watchers::start(groups, admin).unwrap().unwrap();
        watchers.finish("s", &mut statistics).unwrap();
        statistics
    }

    #[test]
    fn readers_count_samples_and_refusals() {
        let sample = "id: 1\nevent: sample\ndata: {\"a\":\"event: sample\"}\n\n";
        let twice = format!("{HEAD}{}{}", chunk("retry: 1000\n\n"), chunk(sample).repeat(2));
        let once = format!("{HEAD}{}{}", chunk("id: 0\nevent: snapshot\ndata: {}\n\n"), chunk(sample));
        let refusal = "HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nno".to_owned();
        let admin = server(vec![(twice, false), (once, false), (refusal, true)]);
        let statistics = finished(&[group(3, false)], admin);
        let value = |what: &str| statistics.value(&format!("s.watchers.x.{what}"));
        assert_eq!(
            (value("opened"), value("not_opened"), value("dropped")),
            (Some(2.0), Some(1.0), Some(0.0))
        );
        assert_eq!(value("samples_min"), Some(1.0));
        assert!(value("received_bytes").unwrap() > 100.0);
    }

    #[test]
    fn stalled_watchers_count_those_that_were_disconnected() {
        let refusal = "HTTP/1.1 503 No\r\n\r\n".to_owned();
        let admin = server(vec![(HEAD.to_owned(), false), (HEAD.to_owned(), true), (refusal, false)]);
        let statistics = finished(&[group(3, true)], admin);
        let value = |what: &str| statistics.value(&format!("s.watchers.x.{what}"));
        assert_eq!(
            (value("opened"), value("not_opened"), value("dropped")),
            (Some(2.0), Some(1.0), Some(1.0))
        );
        assert_eq!(value("samples_min"), None);
    }
}
