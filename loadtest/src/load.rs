//! Offering load: an open loop that follows a schedule, and a closed loop of workers that follow each other.
//!
//! Both are bounded by their number of connections, one request each. In the open loop a request that finds all
//! connections busy waits, its latency running, and is given up as `unsent` when the client's patience ends: the
//! generator can neither hide a stall nor pile up work without limit.
//! Everything runs on one thread (`spawn_local`), so recording needs no lock.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::{JoinSet, yield_now};

use crate::client::{Connection, LoadResponse, Request, RequestFault};
use crate::clock;
use crate::destination::Destination;
use crate::pacer::Pacer;
use crate::recorder::{FinishedRequest, Outcome, Recorder};
use crate::schedule::Schedule;

/// A place waits so long after it could not connect.
const CONNECT_RETRY_DELAY: Duration = Duration::from_millis(10);

/// How requests are offered.
#[derive(Debug, Clone)]
pub(crate) enum LoadShape {
    /// At fixed times, whatever the answers.
    Open(Schedule),
    /// As fast as the connections allow, so many in all.
    Requests(u64),
    /// As fast as the connections allow, for so many seconds.
    Seconds(f64),
}

impl LoadShape {
    /// The length of the load, where it is fixed.
    fn planned(&self) -> Option<Duration> {
        match self {
            Self::Open(schedule) => Some(schedule.length()),
            Self::Seconds(seconds) => Some(Duration::from_secs_f64(*seconds)),
            Self::Requests(_) => None,
        }
    }
}

/// What is sent, where to, and within which bounds.
pub(crate) struct Load {
    /// The server, and how it is reached.
    pub(crate) destination: Destination,
    /// The request.
    pub(crate) request: Request,
    /// How it is offered.
    pub(crate) shape: LoadShape,
    /// Connections at most, and so requests under way.
    pub(crate) connections: usize,
    /// The client's patience, from the intended send time.
    pub(crate) timeout: Duration,
    /// What the answer's digest or text has to be.
    pub(crate) expected: Option<String>,
    /// What comes later than this is told apart.
    pub(crate) recovery_allowance: Option<Duration>,
    /// A place of a closed loop waits so long after a refusal.
    pub(crate) pause_after_refusal: Duration,
    /// Hang up after so many bytes of the answer's body.
    pub(crate) hang_up_after: Option<u64>,
}

/// The load under way, with what its tasks share.
struct RunningLoad {
    load: Load,
    idle: RefCell<Vec<Connection>>,
    recorder: Rc<RefCell<Recorder>>,
}

/// Offers the load to its end and waits for the last answer.
pub(crate) async fn run_load(load: Load, recorder: Rc<RefCell<Recorder>>) -> io::Result<()> {
    let begin = clock::now();
    recorder.borrow_mut().begin(begin, load.shape.planned());
    if let Some(settles_within) = load.recovery_allowance {
        recorder.borrow_mut().mark("settling", begin + settles_within);
    }
    let running = Rc::new(RunningLoad { load, idle: RefCell::default(), recorder });
    match running.load.shape.clone() {
        LoadShape::Open(schedule) => running.open_loop(&schedule).await,
        LoadShape::Requests(limit) => running.closed_loop(limit, None).await,
        LoadShape::Seconds(seconds) => {
            let end = clock::now() + Duration::from_secs_f64(seconds);
            running.closed_loop(u64::MAX, Some(end)).await
        }
    }
}

impl RunningLoad {
    async fn open_loop(self: Rc<Self>, schedule: &Schedule) -> io::Result<()> {
        let mut pacer = Pacer::new()?;
        let places = Arc::new(Semaphore::new(self.load.connections));
        let begin = clock::now();
        for offset in schedule.offsets() {
            let intended = begin + offset;
            pacer.sleep_until(intended).await?;
            let deadline = intended + self.load.timeout;
            let place = Arc::clone(&places).acquire_owned();
            match tokio::time::timeout_at(deadline.into(), place).await {
                Ok(Ok(place)) if clock::now() < deadline => {
                    let running = Rc::clone(&self);
                    tokio::task::spawn_local(async move {
                        // the recorder has the outcome
                        let _ = running.request(intended).await;
                        drop(place);
                    });
                }
                _ => self.record(intended, clock::now(), Err(RequestFault::Unsent), 0),
            }
            // behind schedule nothing above waits, and the requests themselves would starve
            yield_now().await;
        }
        let every_place = u32::try_from(self.load.connections).unwrap_or(u32::MAX);
        drop(places.acquire_many(every_place).await);
        Ok(())
    }

    async fn closed_loop(self: Rc<Self>, limit: u64, end: Option<Instant>) -> io::Result<()> {
        let left = Rc::new(RefCell::new(limit));
        let mut workers = JoinSet::new();
        for _ in 0..self.load.connections {
            let (running, left) = (Rc::clone(&self), Rc::clone(&left));
            workers.spawn_local(async move {
                while acquire_one(&left) && end.is_none_or(|end| clock::now() < end) {
                    let outcome = running.request(clock::now()).await;
                    if matches!(outcome, Ok(429 | 503)) {
                        tokio::time::sleep(running.load.pause_after_refusal).await;
                    }
                }
            });
        }
        while workers.join_next().await.is_some() {}
        Ok(())
    }

    async fn request(&self, intended: Instant) -> Outcome {
        let sent = clock::now();
        let deadline = intended + self.load.timeout;
        let result = match self.connection(deadline).await {
            Ok(connection) => self.exchange(connection, deadline).await,
            Err(fault) => Err(fault),
        };
        match result {
            Ok(answer) => {
                let corrupt =
                    self.load.expected.as_ref().is_some_and(|expected| *expected != answer.captured);
                let is_ok = (200..300).contains(&answer.status);
                let outcome = if corrupt && is_ok { Err(RequestFault::Corrupt) } else { Ok(answer.status) };
                if !is_ok && !answer.has_reason {
                    self.recorder.borrow_mut().count_without_reason();
                }
                self.record(intended, sent, outcome, answer.body_bytes);
                outcome
            }
            Err(fault) => {
                self.record(intended, sent, Err(fault), 0);
                if fault == RequestFault::Connect {
                    // a closed loop would try again at once, and do nothing else
                    tokio::time::sleep(CONNECT_RETRY_DELAY).await;
                }
                Err(fault)
            }
        }
    }

    async fn exchange(
        &self,
        mut connection: Connection,
        deadline: Instant,
    ) -> Result<LoadResponse, RequestFault> {
        if let Some(after_bytes) = self.load.hang_up_after {
            return connection.hang_up(&self.load.request, after_bytes, deadline).await;
        }
        let answer = connection.exchange(&self.load.request, deadline).await?;
        if connection.is_usable() {
            self.idle.borrow_mut().push(connection);
        }
        Ok(answer)
    }

    async fn connection(&self, deadline: Instant) -> Result<Connection, RequestFault> {
        loop {
            let idle = self.idle.borrow_mut().pop();
            match idle.map(|mut connection| (connection.is_usable(), connection)) {
                Some((true, connection)) => return Ok(connection),
                Some(_) => {}
                None => break,
            }
        }
        let open = Connection::open(&self.load.destination);
        tokio::time::timeout_at(deadline.into(), open).await.unwrap_or(Err(RequestFault::TimedOut))
    }

    fn record(&self, intended: Instant, sent: Instant, outcome: Outcome, body_bytes: u64) {
        let finished = FinishedRequest { intended, sent, ended: clock::now(), outcome, body_bytes };
        self.recorder.borrow_mut().record(finished);
    }
}

fn acquire_one(left: &RefCell<u64>) -> bool {
    let mut left = left.borrow_mut();
    let some = *left > 0;
    *left = left.saturating_sub(1);
    some
}
