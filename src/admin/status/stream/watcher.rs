//! One watcher of the stream: the events that wait for it, in a bounded queue.
//!
//! The connection polls [`EventBody`] only while the client accepts bytes. A watcher that lets [`EVENTS_MAX`] events wait is cut: its
//! connection ends, the others do not notice. The pace limits of the listener apply while an event waits to be sent, and never between
//! events.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;

use crate::admin::session::StreamSession;
use crate::buffers::send_progress::{CutReason, SendProgress};
use crate::upstream::rules::event_streams::OpenStream;

/// The most events that wait for one watcher, besides the changes that it missed before it resumed.
const EVENTS_MAX: usize = 32;
/// A watcher without an event for so long gets a comment, so that proxies do not close its connection.
const HEARTBEAT_AFTER: Duration = Duration::from_secs(15);
/// The longest life of a stream. Its client resumes, with a token or a session that is still valid.
const STREAM_TIME: Duration = Duration::from_secs(3600);
/// Sets the pause before a browser connects again, in milliseconds.
const RETRY: &[u8] = b"retry: 1000\n\n";
const HEARTBEAT: &[u8] = b": heartbeat\n\n";

/// The state of a watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WatcherState {
    /// Other events would be useless before its snapshot.
    AwaitsSnapshot,
    Following,
    /// The stream ends after the events that wait.
    Finishing,
    /// The stream ends.
    Ending,
    /// Its client is too slow.
    Cut,
}

/// A watcher.
pub(super) struct Watcher {
    /// The pause before a reconnect, and the changes that the watcher resumes with. They are sent before all events.
    missed: RefCell<VecDeque<Bytes>>,
    events: RefCell<VecDeque<Bytes>>,
    state: Cell<WatcherState>,
    waker: RefCell<Option<Waker>>,
    pub(super) has_samples: bool,
    /// The session of its client, if a cookie was the proof.
    pub(super) session: Option<StreamSession>,
    last_event: Cell<Instant>,
    /// The end of its life, or of its session.
    ends: Instant,
    /// Cuts the connection.
    progress: Option<Rc<SendProgress>>,
}

impl Watcher {
    /// A new watcher. `missed`: the changes since the event that it resumes from; none if it needs a snapshot.
    pub(super) fn new(
        missed: Option<VecDeque<Bytes>>,
        (has_samples, session): (bool, Option<StreamSession>),
        progress: Option<Rc<SendProgress>>,
        now: Instant,
    ) -> Rc<Self> {
        let state = if missed.is_some() { WatcherState::Following } else { WatcherState::AwaitsSnapshot };
        let mut missed = missed.unwrap_or_default();
        missed.push_front(Bytes::from_static(RETRY));
        let life_end = now + STREAM_TIME;
        Rc::new(Self {
            missed: RefCell::new(missed),
            events: RefCell::default(),
            state: Cell::new(state),
            waker: RefCell::default(),
            has_samples,
            session,
            last_event: Cell::new(now),
            ends: session.map_or(life_end, |session| session.expires.min(life_end)),
            progress,
        })
    }

    pub(super) fn awaits_snapshot(&self) -> bool {
        self.state.get() == WatcherState::AwaitsSnapshot
    }

    pub(super) fn send_snapshot(&self, event: &Bytes, now: Instant) {
        self.state.set(WatcherState::Following);
        self.push(event, now);
    }

    /// Queues an event. False if the watcher is cut because too many wait.
    pub(super) fn send(&self, event: &Bytes, now: Instant) -> bool {
        if self.state.get() != WatcherState::Following {
            return true;
        }
        if self.events.borrow().len() < EVENTS_MAX {
            self.push(event, now);
            return true;
        }
        self.state.set(WatcherState::Cut);
        self.discard();
        if let Some(progress) = &self.progress {
            progress.cut(CutReason::Slow);
        }
        self.wake();
        false
    }

    /// Ends the stream at once: what waits is not sent.
    pub(super) fn end(&self) {
        if !matches!(self.state.get(), WatcherState::Ending | WatcherState::Cut) {
            self.state.set(WatcherState::Ending);
            self.discard();
            self.wake();
        }
    }

    /// Ends the stream after the events that wait.
    pub(super) fn finish(&self) {
        if matches!(self.state.get(), WatcherState::AwaitsSnapshot | WatcherState::Following) {
            self.state.set(WatcherState::Finishing);
            self.wake();
        }
    }

    /// Sends a heartbeat if one is due; ends a stream that is too old, or that has outlived its session.
    pub(super) fn tend(&self, now: Instant) {
        if now >= self.ends {
            self.end();
        } else if self.state.get() == WatcherState::Following
            && now.saturating_duration_since(self.last_event.get()) >= HEARTBEAT_AFTER
            && self.events.borrow().is_empty()
        {
            self.push(&Bytes::from_static(HEARTBEAT), now);
        }
    }

    fn push(&self, event: &Bytes, now: Instant) {
        self.last_event.set(now);
        self.events.borrow_mut().push_back(event.clone());
        self.wake();
    }

    fn discard(&self) {
        self.missed.take();
        self.events.take();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The body of a watcher's response. Dropping it ends the watcher.
pub(super) struct EventBody {
    watcher: Rc<Watcher>,
    /// Its ticket in the count of streams.
    _open: Option<OpenStream>,
}

impl EventBody {
    pub(super) fn new(watcher: Rc<Watcher>, open: Option<OpenStream>) -> Self {
        Self { watcher, _open: open }
    }
}

impl MessageBody for EventBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let watcher = &self.watcher;
        let missed = watcher.missed.borrow_mut().pop_front();
        if let Some(event) = missed.or_else(|| watcher.events.borrow_mut().pop_front()) {
            return Poll::Ready(Some(Ok(event)));
        }
        match watcher.state.get() {
            WatcherState::Finishing | WatcherState::Ending | WatcherState::Cut => Poll::Ready(None),
            WatcherState::AwaitsSnapshot | WatcherState::Following => {
                watcher.waker.replace(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{COOKIE, HeaderMap, HeaderValue};
    use futures_util::FutureExt as _;
    use tidegate_actors::clock;

    use super::*;
    use crate::admin::role::AdminRole;
    use crate::admin::session::Sessions;

    fn received(body: &mut EventBody) -> Vec<Bytes> {
        let mut events = Vec::new();
        while let Some(Some(Ok(event))) =
            std::future::poll_fn(|cx| Pin::new(&mut *body).poll_next(cx)).now_or_never()
        {
            events.push(event);
        }
        events
    }

    fn has_ended(body: &mut EventBody) -> bool {
        let next = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_next(cx)).now_or_never();
        next.is_some_and(|next| next.is_none())
    }

    fn event(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    /// X7: nothing comes before the snapshot, and everything after it in order
    #[test]
    fn the_snapshot_is_first() {
        let now = clock::now();
        let watcher = Watcher::new(None, (true, None), None, now);
        let mut body = EventBody::new(Rc::clone(&watcher), None);
        assert!(watcher.send(&event("early"), now));
        assert_eq!(received(&mut body), [Bytes::from_static(RETRY)]);
        watcher.send_snapshot(&event("snapshot"), now);
        assert!(watcher.send(&event("later"), now));
        assert_eq!(received(&mut body), ["snapshot", "later"]);
        assert!(!has_ended(&mut body));
    }

    /// X7: a full queue cuts its watcher and frees the events
    #[test]
    fn a_full_queue_cuts_its_watcher() {
        let now = clock::now();
        let watcher = Watcher::new(Some(VecDeque::new()), (true, None), None, now);
        let sent = (0..).take_while(|_| watcher.send(&event("x"), now)).count();
        assert_eq!(sent, EVENTS_MAX);
        assert_eq!((watcher.missed.borrow().len(), watcher.events.borrow().len()), (0, 0));
        let mut body = EventBody::new(Rc::clone(&watcher), None);
        assert!(has_ended(&mut body));
        assert!(watcher.send(&event("x"), now), "it is cut once");
    }

    /// G4, X7: a stream that finishes sends what waits first, and takes no further event
    #[test]
    fn a_finishing_stream_sends_what_waits() {
        let now = clock::now();
        let watcher = Watcher::new(Some(VecDeque::new()), (true, None), None, now);
        let mut body = EventBody::new(Rc::clone(&watcher), None);
        assert!(watcher.send(&event("last"), now));
        watcher.finish();
        assert!(watcher.send(&event("late"), now));
        assert_eq!(received(&mut body), [Bytes::from_static(RETRY), event("last")]);
        assert!(has_ended(&mut body));
    }

    /// X7: a heartbeat after 15 s without an event, and the end after an hour
    #[test]
    fn quiet_streams_have_heartbeats_and_old_ones_end() {
        let start = clock::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let watcher = Watcher::new(Some(VecDeque::new()), (false, None), None, start);
        let mut body = EventBody::new(Rc::clone(&watcher), None);
        received(&mut body);
        watcher.tend(at(14));
        assert_eq!(received(&mut body), [] as [Bytes; 0]);
        watcher.tend(at(15));
        watcher.tend(at(16));
        assert_eq!(received(&mut body), [Bytes::from_static(HEARTBEAT)]);
        watcher.tend(at(3599));
        assert_eq!(received(&mut body), [Bytes::from_static(HEARTBEAT)]);
        watcher.tend(at(3600));
        assert!(has_ended(&mut body));
    }

    /// X7: missed changes come first and do not count as events that wait
    #[test]
    fn missed_changes_are_first() {
        let now = clock::now();
        let missed: VecDeque<Bytes> = std::iter::repeat_n(event("missed"), 2 * EVENTS_MAX).collect();
        let watcher = Watcher::new(Some(missed), (true, None), None, now);
        assert!(watcher.send(&event("later"), now));
        let received = received(&mut EventBody::new(watcher, None));
        assert_eq!(received.len(), 2 * EVENTS_MAX + 2);
        assert_eq!((&received[0][..], &received[1][..]), (RETRY, &b"missed"[..]));
        assert_eq!(received.last().map(|last| &last[..]), Some(&b"later"[..]));
    }

    /// O5, C4: a stream ends with its session, also before its snapshot, and what waits is not sent
    #[test]
    fn a_stream_ends_with_its_session() {
        let start = clock::now();
        let sessions = Sessions::new(start).unwrap();
        let cookie = sessions.issue(AdminRole::Reader, start, false);
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_str(cookie.split(';').next().unwrap()).unwrap());
        let session = sessions.of_request(&headers, start).unwrap().unwrap();
        let expires = sessions.expiry(&session);
        assert!(sessions.is_valid(&session, start) && !sessions.is_valid(&session, expires));
        let opened = expires - Duration::from_secs(10);
        for missed in [None, Some(VecDeque::new())] {
            let of_session = (true, Some(StreamSession { session, expires }));
            let watcher = Watcher::new(missed, of_session, None, opened);
            let mut body = EventBody::new(Rc::clone(&watcher), None);
            watcher.tend(expires - Duration::from_secs(1));
            assert_eq!(received(&mut body), [Bytes::from_static(RETRY)]);
            watcher.send(&event("waits"), opened);
            watcher.tend(expires);
            assert!(has_ended(&mut body), "nothing is sent after the end");
        }
    }
}
