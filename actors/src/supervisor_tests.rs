//! The planned end of an actor (S2, G3).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix::Addr;
use actix::dev::channel::channel;
use prometheus::Registry;
use tokio::sync::oneshot;

use super::*;
use crate::actor_shell::MessageHandler;
use crate::chaos::{Crash, CrashPoint};
use crate::mailbox::{ActorMessage, AskError, Mailbox, SupervisedActor};
use crate::metrics::ActorFamilies;

/// Counts messages. A message may wait for its reply beyond its handling.
struct Counter {
    handled: usize,
    waiting: Vec<oneshot::Sender<()>>,
    dropped: Arc<AtomicUsize>,
    is_stop_deadly: bool,
    /// Closes the circle of the pool: the state has a closure with the actor's own mailbox.
    mailbox: Option<Mailbox<Self>>,
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

impl Component for Counter {
    fn rebuild(&mut self, _: Instant) {}

    fn stopping(&mut self, _: Instant) {
        assert!(!self.is_stop_deadly, "a crash in the stop");
        self.waiting.clear();
    }
}

struct Count {
    waits: bool,
}

impl ActorMessage for Count {
    type Reply = (usize, Option<oneshot::Receiver<()>>);
    const NAME: &'static str = "test.count";

    fn message_fingerprint(&self) -> u64 {
        0
    }

    const CAN_BE_POISON: bool = false;
}

impl MessageHandler<Count> for Counter {
    type Decision = ();

    fn decide(&self, _: &Count, _: Instant) {}

    fn apply(&mut self, message: Count, (): (), _: Instant) -> (usize, Option<oneshot::Receiver<()>>) {
        self.handled += 1;
        let wait = message.waits.then(|| {
            let (sender, receiver) = oneshot::channel();
            self.waiting.push(sender);
            receiver
        });
        (self.handled, wait)
    }
}

struct Fixture {
    mailbox: Mailbox<Counter>,
    stats: Arc<ActorStats>,
    dropped: Arc<AtomicUsize>,
}

impl Fixture {
    fn new() -> Self {
        Self::with(false)
    }

    fn with(is_stop_deadly: bool) -> Self {
        let (sender, receiver) = channel(16);
        let stats = Arc::new(ActorStats::new("counter", 16));
        let metrics = ActorFamilies::register(&Registry::new()).unwrap().actor("counter");
        let ask_timeout = Duration::from_secs(5);
        let mailbox = Mailbox::new(Addr::new(sender), Arc::clone(&stats), metrics.clone(), ask_timeout);
        let dropped = Arc::new(AtomicUsize::new(0));
        let counter = Counter {
            handled: 0,
            waiting: Vec::new(),
            dropped: Arc::clone(&dropped),
            is_stop_deadly,
            mailbox: Some(mailbox.clone()),
        };
        assert!(counter.mailbox.is_some());
        let log = Logger::root(slog::Discard, slog::o!());
        let shell = ActorShell::new(counter, ask_timeout, Arc::clone(&stats), metrics, log.clone());
        supervise(shell, receiver, Intensity::new(1, ask_timeout), Arc::clone(&stats), log);
        Self { mailbox, stats, dropped }
    }

    fn dropped(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }

    /// Waits until the actor has ended.
    async fn ended(&self) {
        for _ in 0..1_000 {
            if self.dropped() > 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
        assert_eq!(self.dropped(), 1, "the stopped actor keeps its memory");
    }
}

const FAILED: AskError = AskError::Failed { retry_after: Duration::from_secs(1) };

async fn count(mailbox: &Mailbox<Counter>) -> Result<usize, AskError> {
    mailbox.ask(Count { waits: false }).await.map(|(handled, _)| handled)
}

/// G3: what waits in the mailbox is handled, the actor ends with its memory, and later asks are refused
#[actix_rt::test]
async fn a_stopped_actor_serves_its_mailbox_and_ends() {
    let fixture = Fixture::new();
    let mailbox = fixture.mailbox.clone();
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let mailbox = mailbox.clone();
            actix_rt::spawn(async move { count(&mailbox).await })
        })
        .collect();
    // The asks are sent before the actor's task runs again.
    let (_, waiter) = fixture.mailbox.ask(Count { waits: true }).await.unwrap();
    let stop = async {
        fixture.mailbox.stop();
    };
    let mut answers = Vec::new();
    let asks = async {
        for ask in waiting {
            answers.push(ask.await.unwrap());
        }
    };
    tokio::join!(asks, stop);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    fixture.ended().await;
    assert!(waiter.unwrap().await.is_err(), "nobody waits for a stopped actor");
    assert_eq!(count(&mailbox).await, Err(FAILED));
    assert_eq!(mailbox.lost_reply(), FAILED);
    assert_eq!((fixture.stats.restarts(), fixture.stats.depth()), (0, 0));
}

/// G3: asks that were sent before the stop are served, in the order of the mailbox
#[actix_rt::test]
async fn asks_before_the_stop_are_served() {
    let fixture = Fixture::new();
    let (mailbox, other) = (fixture.mailbox.clone(), fixture.mailbox.clone());
    let (first, second, ()) = tokio::join!(count(&mailbox), count(&other), async { fixture.mailbox.stop() });
    assert_eq!((first, second), (Ok(1), Ok(2)));
    fixture.ended().await;
}

/// G3, S3: a crash before the stop restarts the actor, which then ends; a stop is no crash and starts no hold
#[actix_rt::test]
async fn a_crash_before_the_stop_does_not_prevent_it() {
    let fixture = Fixture::new();
    fixture.mailbox.crash(Crash { point: CrashPoint::Applied, next_message: false });
    let (asked, ()) = tokio::join!(count(&fixture.mailbox), async { fixture.mailbox.stop() });
    assert_eq!(asked, Ok(1));
    fixture.ended().await;
    assert_eq!(fixture.stats.restarts(), 1);
}

/// G3: a crash in the stop ends the actor too, and is no restart
#[actix_rt::test]
async fn a_crash_in_the_stop_ends_the_actor() {
    let fixture = Fixture::with(true);
    assert_eq!(count(&fixture.mailbox).await, Ok(1));
    fixture.mailbox.stop();
    fixture.ended().await;
    assert_eq!(fixture.stats.restarts(), 0);
}

/// G3, S3: an actor that is held down ends after the hold, and nothing makes a stopped one accept messages again
#[actix_rt::test]
async fn a_held_down_actor_ends_after_the_hold() {
    tokio::time::pause();
    let fixture = Fixture::new();
    for _ in 0..2 {
        fixture.mailbox.crash(Crash { point: CrashPoint::Decide, next_message: false });
    }
    while fixture.stats.restarts() < 2 {
        tokio::task::yield_now().await;
    }
    fixture.mailbox.stop();
    fixture.stats.set_failed_until(None);
    assert_eq!(count(&fixture.mailbox).await, Err(FAILED));
    tokio::time::sleep(Duration::from_secs(20)).await;
    fixture.ended().await;
}
