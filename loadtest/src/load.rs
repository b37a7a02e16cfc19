//! Offers load: an open loop that follows a schedule, or a closed loop of workers.
//!
//! The number of connections bounds both, with one request per connection. In the open loop a request waits while all connections are busy;
//! its latency includes the wait, and at the client's timeout it is recorded as `unsent`. So the generator neither hides a stall nor
//! accumulates work without limit. All tasks run on one thread (`spawn_local`), so recording needs no lock.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::{JoinSet, yield_now};

use crate::client::{Connection, LoadResponse, Request, RequestFault};
use crate::clock;
use crate::configuration::SeenAnswer;
use crate::destination::Destination;
use crate::load_checks::LoadChecks;
use crate::pacer::Pacer;
use crate::recorder::{FinishedRequest, Outcome, Recorder};
use crate::request_source::RequestSource;
use crate::schedule::Schedule;

/// Pause after a failed connect.
const CONNECT_RETRY_DELAY: Duration = Duration::from_millis(10);

/// Shape of the load.
#[derive(Debug, Clone)]
pub(crate) enum LoadShape {
    /// Open loop: fixed send times, independent of the answers.
    Open(Schedule),
    /// Closed loop with a total number of requests.
    Requests(u64),
    /// Closed loop for a number of seconds.
    Seconds(f64),
}

impl LoadShape {
    /// The planned length of the load, if it is fixed.
    fn planned(&self) -> Option<Duration> {
        match self {
            Self::Open(schedule) => Some(schedule.length()),
            Self::Seconds(seconds) => Some(Duration::from_secs_f64(*seconds)),
            Self::Requests(_) => None,
        }
    }
}

/// Request, destination and bounds of a load.
pub(crate) struct Load {
    /// The server.
    pub(crate) destination: Destination,
    /// The requests.
    pub(crate) requests: RequestSource,
    /// The shape.
    pub(crate) shape: LoadShape,
    /// Maximum of connections, and so of requests in flight.
    pub(crate) connections: usize,
    /// The client's timeout, from the intended send time.
    pub(crate) timeout: Duration,
    /// The expected digest or text of the answer.
    pub(crate) expected: Option<String>,
    /// Requests later than this after the start are also counted separately (`…_after_settling`).
    pub(crate) recovery_allowance: Option<Duration>,
    /// Pause of a closed-loop worker after each request.
    pub(crate) pause: Duration,
    /// Pause of a closed-loop worker after a refusal.
    pub(crate) pause_after_refusal: Duration,
    /// Close the connection after this number of bytes of the answer's body.
    pub(crate) hang_up_after: Option<u64>,
    /// Each request has a new connection.
    pub(crate) new_connections: bool,
    /// Checks of each request.
    pub(crate) checks: Rc<RefCell<LoadChecks>>,
}

/// State that the tasks of a running load share.
struct RunningLoad {
    load: Load,
    idle: RefCell<Vec<Connection>>,
    recorder: Rc<RefCell<Recorder>>,
}

/// Offers the whole load and waits for the last answer.
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
        let slots = Arc::new(Semaphore::new(self.load.connections));
        let begin = clock::now();
        for offset in schedule.offsets() {
            let intended = begin + offset;
            pacer.sleep_until(intended).await?;
            let deadline = intended + self.load.timeout;
            let slot = Arc::clone(&slots).acquire_owned();
            match tokio::time::timeout_at(deadline.into(), slot).await {
                Ok(Ok(slot)) if clock::now() < deadline => {
                    let running = Rc::clone(&self);
                    tokio::task::spawn_local(async move {
                        // The recorder has the outcome.
                        let _ = running.request(intended).await;
                        drop(slot);
                    });
                }
                _ => self.record(intended, clock::now(), Err(RequestFault::Unsent), 0),
            }
            // Behind schedule nothing above waits, so without this the request tasks would starve.
            yield_now().await;
        }
        let every_slot = u32::try_from(self.load.connections).unwrap_or(u32::MAX);
        drop(slots.acquire_many(every_slot).await);
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
                    if !running.load.pause.is_zero() {
                        tokio::time::sleep(running.load.pause).await;
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
        let numbered = self.load.requests.request();
        let result = match self.connection(deadline).await {
            Ok(connection) => self.exchange(connection, &numbered.request, deadline).await,
            Err(fault) => Err(fault),
        };
        match result {
            Ok(answer) => self.record_answer(intended, sent, numbered.number, answer),
            Err(fault) => {
                self.record(intended, sent, Err(fault), 0);
                if fault == RequestFault::Connect {
                    // Prevents a closed loop from spinning on failed connects.
                    tokio::time::sleep(CONNECT_RETRY_DELAY).await;
                }
                Err(fault)
            }
        }
    }

    /// Records a complete answer to a request with this number of a configuration.
    fn record_answer(
        &self,
        intended: Instant,
        sent: Instant,
        presented: u64,
        answer: LoadResponse,
    ) -> Outcome {
        let LoadResponse { status, refusal, body_bytes, captured, kept_headers: headers } = answer;
        let corrupt = self.load.expected.as_ref().is_some_and(|expected| *expected != captured);
        let is_ok = (200..300).contains(&status);
        let outcome = if corrupt && is_ok { Err(RequestFault::Corrupt) } else { Ok(status) };
        let reason = refusal.as_ref().map(|refusal| refusal.reason.clone()).unwrap_or_default();
        match refusal {
            Some(refusal) if !is_ok => self.recorder.borrow_mut().record_refusal(status, refusal),
            None if !is_ok => self.recorder.borrow_mut().count_without_reason(),
            _ => {}
        }
        let ended = clock::now();
        let finished = FinishedRequest { intended, sent, ended, outcome, body_bytes };
        let seen = SeenAnswer { presented, sent, ended, status, reason, headers };
        self.recorder.borrow_mut().record(finished);
        self.load.checks.borrow_mut().record(&finished, Some(&seen));
        outcome
    }

    async fn exchange(
        &self,
        mut connection: Connection,
        request: &Request,
        deadline: Instant,
    ) -> Result<LoadResponse, RequestFault> {
        if let Some(after_bytes) = self.load.hang_up_after {
            return connection.hang_up(request, after_bytes, deadline).await;
        }
        let answer = connection.exchange(request, deadline).await?;
        if !self.load.new_connections && connection.is_usable() {
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
        self.load.checks.borrow_mut().record(&finished, None);
    }
}

fn acquire_one(left: &RefCell<u64>) -> bool {
    let mut left = left.borrow_mut();
    let some = *left > 0;
    *left = left.saturating_sub(1);
    some
}
