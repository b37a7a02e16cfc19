//! The progress of a request body, shared by the body and the timeouts of the call.
//!
//! A client that sends its body slowly holds a permit of the bucket's gate, so it must keep a minimum rate (T4): on
//! average over the time in which the gateway waits for it, like Kestrel; Apache's `mod_reqtimeout` counts all the
//! time. Time in which the upstream accepts no bytes does not count: a slow store must not cause its clients to be
//! rejected.
//!
//! Design: `docs/design/uploads.md`.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::num::NonZeroU64;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tidegate_config::ServerConfig;

use crate::buffers::client_wait::{ClientWait, Occupancy};
use crate::buffers::cut::{CrowdingCut, TransferCut};
use crate::buffers::revocation::StreamOwner;
use crate::buffers::send_progress::{Sample, Sampled, SendWatch};
use crate::buffers::{SocketBuffers, TransferDecisions, TransferGate, Transfers};
use crate::upstream::UpstreamRejection;
use crate::upstream::body::upload_buffers::UploadBuffers;

/// The minimum rate of a request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MinBodyRate {
    bytes_per_second: NonZeroU64,
    grace: Duration,
}

impl MinBodyRate {
    /// None if there is no minimum.
    pub(crate) fn of(server: &ServerConfig) -> Option<Self> {
        let bytes_per_second = NonZeroU64::new(server.min_body_rate)?;
        Some(Self { bytes_per_second, grace: server.min_body_rate_grace })
    }

    /// The longest total wait for a client that has sent this many bytes.
    fn wait_max(self, bytes: u64) -> Duration {
        let earned_ms = bytes.saturating_mul(1000) / self.bytes_per_second;
        self.grace.saturating_add(Duration::from_millis(earned_ms))
    }
}

/// A client that sends nothing for this long stalls its upload. Shorter pauses occur in every upload.
const CLIENT_STALL_MIN: Duration = Duration::from_secs(1);

/// Progress of one upload. Used on one thread.
#[derive(Debug, Default)]
pub(crate) struct UploadProgress {
    min_rate: Option<MinBodyRate>,
    bytes: Cell<u64>,
    /// Start of the current wait for the client, and the total of earlier waits.
    awaited: Cell<Option<Instant>>,
    waited: Cell<Duration>,
    last_bytes: Cell<Option<Instant>>,
    ended: Cell<Option<Instant>>,
    began: Cell<Option<Instant>>,
    fault: RefCell<Option<UpstreamRejection>>,
    client_wait: ClientWaitState,
    buffers: UploadBuffers,
}

/// Whether the upload is one of too many that hold permits while they wait for the client.
#[derive(Default)]
struct ClientWaitState {
    /// The watch that samples waits, and what the request holds.
    registration: RefCell<Option<(Weak<SendWatch>, Occupancy)>>,
    wait: RefCell<ClientWait>,
    waits: Cell<bool>,
    /// Whether it waited at the last sample.
    has_waited: Cell<bool>,
    sampled_bytes: Cell<u64>,
    is_registered: Cell<bool>,
    cut: Cell<Option<CrowdingCut>>,
    reader: RefCell<Option<Waker>>,
}

impl fmt::Debug for ClientWaitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientWaitState")
            .field("wait", &self.wait)
            .field("cut", &self.cut)
            .finish_non_exhaustive()
    }
}

impl UploadProgress {
    /// Progress of a request with this minimum rate of its body.
    pub(crate) fn new(min_rate: Option<MinBodyRate>) -> Self {
        Self { min_rate, ..Self::default() }
    }

    /// Begins an upload. Until it ends, the idle timeout runs.
    pub(crate) fn begin(&self, now: Instant) {
        self.began.set(Some(now));
        self.last_bytes.set(Some(now));
    }

    /// Sets the socket that the body comes from.
    pub(crate) fn set_client_socket(&self, client: Option<&Rc<SocketBuffers>>) {
        *self.buffers.client.borrow_mut() = client.cloned();
    }

    /// Sets the key of the client.
    pub(crate) fn set_owner(&self, owner: Option<StreamOwner>) {
        self.buffers.owner.set(owner);
    }

    /// Begins the transfer of a streamed body.
    pub(crate) fn begin_transfer(&self, transfers: &Rc<Transfers>, now: Instant) {
        self.buffers.begin(transfers, now);
    }

    /// What the actions on transfers decided about the upload; none before its body is streamed.
    pub(crate) fn decisions(&self) -> Option<Rc<TransferDecisions>> {
        self.buffers.decisions.borrow().clone()
    }

    /// Sets the socket of the upstream connection that takes the body.
    pub(crate) fn set_upstream_socket(&self, upstream: &Rc<SocketBuffers>) {
        if let Some(transfer) = &*self.buffers.transfer.borrow() {
            transfer.set_sink(upstream);
        }
    }

    /// Ready while the upload is not paused.
    pub(crate) fn poll_gate(&self, cx: &Context<'_>) -> Poll<TransferGate> {
        self.buffers.poll_gate(cx)
    }

    /// Ready once the upload is cut.
    pub(crate) fn poll_cut(&self, cx: &Context<'_>) -> Poll<TransferCut> {
        self.buffers.poll_cut(cx)
    }

    /// Whether the gateway has paused reading the body.
    pub(crate) fn is_paused(&self) -> bool {
        self.buffers.transfer.borrow().as_ref().is_some_and(|transfer| transfer.is_paused())
    }

    /// The start of a timer that began at `since`, without the time of pauses.
    fn after_pause(&self, since: Instant, now: Instant) -> Instant {
        let transfer = self.buffers.transfer.borrow();
        transfer.as_ref().map_or(since, |transfer| transfer.after_pause(since, now))
    }

    /// Records bytes of a streamed body. `left` is the number of remaining bytes, if known.
    pub(crate) fn record_streamed(&self, bytes: usize, left: Option<u64>, now: Instant) {
        self.record_bytes(bytes, now);
        if let Some(transfer) = &*self.buffers.transfer.borrow() {
            transfer.record_moved(bytes, left, now);
        }
    }

    /// Records body bytes from the client.
    pub(crate) fn record_bytes(&self, bytes: usize, now: Instant) {
        self.bytes.set(self.bytes.get() + bytes as u64);
        self.last_bytes.set(Some(now));
        self.client_wait.waits.set(false);
        if let Some(since) = self.awaited.take() {
            let since = self.after_pause(since, now);
            self.waited.set(self.waited.get() + now.saturating_duration_since(since));
        }
    }

    /// Begins a wait for the client: the body was polled and no bytes were there.
    pub(crate) fn begin_wait(&self, now: impl FnOnce() -> Instant) {
        if self.awaited.get().is_none() {
            self.awaited.set(Some(now()));
        }
    }

    /// Sets the permits that the upload holds, and the watch that its client waits are reported to.
    pub(crate) fn set_occupancy(&self, watch: &Rc<SendWatch>, occupancy: Option<Occupancy>) {
        *self.client_wait.registration.borrow_mut() =
            occupancy.map(|occupancy| (Rc::downgrade(watch), occupancy));
    }

    /// Called when the permits are released or the upload no longer waits.
    pub(crate) fn clear_occupancy(&self) {
        self.client_wait.registration.take();
        self.client_wait.wait.borrow_mut().reset();
    }

    /// Registers a wait of this task for the client. Ready if the upload is cut because its client holds too many
    /// permits.
    pub(crate) fn poll_slow_client_cut(self: &Rc<Self>, cx: &Context<'_>) -> Poll<CrowdingCut> {
        let client_wait = &self.client_wait;
        if let Some(cut) = client_wait.cut.get() {
            return Poll::Ready(cut);
        }
        client_wait.waits.set(true);
        let mut reader = client_wait.reader.borrow_mut();
        if !reader.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *reader = Some(cx.waker().clone());
        }
        if !client_wait.is_registered.get()
            && let Some((watch, _)) = &*client_wait.registration.borrow()
            && let Some(watch) = watch.upgrade()
        {
            client_wait.is_registered.set(true);
            let sampled: Weak<Self> = Rc::downgrade(self);
            watch.register(sampled);
        }
        Poll::Pending
    }

    /// Whether the gateway waits for the client.
    pub(crate) fn is_awaited(&self) -> bool {
        self.awaited.get().is_some()
    }

    /// Whether the upload stalls because the client sends nothing or because the gateway has paused it. An upstream
    /// that gives up then has timed out for a reason that is not its own.
    pub(crate) fn is_stalled_by_client(&self, now: Instant) -> bool {
        let has_paused =
            self.buffers.transfer.borrow().as_ref().is_some_and(|transfer| transfer.has_paused());
        if has_paused && self.uploading_since(now).is_some() {
            return true;
        }
        let waited = self.awaited.get().map(|since| now.saturating_duration_since(since));
        self.uploading_since(now).is_some() && waited.is_some_and(|waited| waited >= CLIENT_STALL_MIN)
    }

    /// How much longer the gateway may wait for the client. None without a minimum rate.
    pub(crate) fn remaining_wait(&self, now: Instant) -> Option<Duration> {
        let waiting =
            self.awaited.get().map(|since| now.saturating_duration_since(self.after_pause(since, now)));
        let waited = self.waited.get() + waiting.unwrap_or_default();
        Some(self.min_rate?.wait_max(self.bytes.get()).saturating_sub(waited))
    }

    /// Called when the last body byte was handed to the upstream connection.
    pub(crate) fn finish(&self, now: Instant) {
        self.ended.set(Some(now));
        self.buffers.end();
        self.clear_occupancy();
    }

    /// Records why the upload failed on the client's side.
    pub(crate) fn set_failure(&self, fault: UpstreamRejection) {
        *self.fault.borrow_mut() = Some(fault);
    }

    pub(crate) fn take_failure(&self) -> Option<UpstreamRejection> {
        self.fault.borrow_mut().take()
    }

    /// Body bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// When body bytes last moved, while the upload continues. Pauses do not count.
    pub(crate) fn uploading_since(&self, now: Instant) -> Option<Instant> {
        if self.ended.get().is_some() {
            return None;
        }
        let moved = self.last_bytes.get().filter(|_| self.began.get().is_some());
        moved.map(|moved| self.after_pause(moved, now))
    }

    /// When the upload ended, and how long it took.
    pub(crate) fn uploaded(&self) -> Option<(Instant, Duration)> {
        let (began, ended) = (self.began.get()?, self.ended.get()?);
        Some((ended, ended.saturating_duration_since(began)))
    }
}

impl Sampled for UploadProgress {
    fn sample(&self, sample: &Sample<'_>) -> bool {
        let client_wait = &self.client_wait;
        let (waits, bytes) = (client_wait.waits.get() && !self.is_paused(), self.bytes.get());
        let has_waited = client_wait.has_waited.replace(waits) && waits;
        let waited = if has_waited { sample.elapsed } else { Duration::ZERO };
        let moved_bytes = bytes.saturating_sub(client_wait.sampled_bytes.replace(bytes));
        let occupancy = client_wait.registration.borrow().as_ref().map(|(_, occupancy)| *occupancy);
        let mut wait = client_wait.wait.borrow_mut();
        if !waits || occupancy.is_none() {
            wait.reset();
        } else if let Some(cut) = wait.advance((waited, moved_bytes), occupancy, sample.receivers, sample.now)
        {
            client_wait.cut.set(Some(cut));
            if let Some(reader) = client_wait.reader.take() {
                reader.wake();
            }
        }
        let stays_registered = occupancy.is_some() && client_wait.cut.get().is_none();
        client_wait.is_registered.set(stays_registered);
        stays_registered
    }
}

#[cfg(test)]
mod tests {
    use tidegate_actors::clock;

    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn paced(bytes_per_second: u64, grace: Duration) -> UploadProgress {
        let server = ServerConfig {
            min_body_rate: bytes_per_second,
            min_body_rate_grace: grace,
            ..ServerConfig::default()
        };
        UploadProgress::new(MinBodyRate::of(&server))
    }

    /// T4
    #[test]
    fn a_client_has_the_grace_and_what_its_bytes_earn() {
        let (progress, t0) = (paced(100, ms(5000)), clock::now());
        assert_eq!(progress.remaining_wait(t0), Some(ms(5000)));
        progress.begin_wait(|| t0);
        assert_eq!(progress.remaining_wait(t0 + ms(4000)), Some(ms(1000)));
        progress.record_bytes(50, t0 + ms(4000));
        assert_eq!(progress.remaining_wait(t0 + ms(4000)), Some(ms(1500)));
        progress.begin_wait(|| t0 + ms(4000));
        progress.begin_wait(|| t0 + ms(4500));
        assert_eq!(progress.remaining_wait(t0 + ms(5500)), Some(ms(0)));
        assert_eq!(progress.remaining_wait(t0 + ms(9000)), Some(ms(0)));
    }

    /// T4: time in which the upstream accepts no bytes is not charged to the client
    #[test]
    fn a_stalled_upstream_is_not_charged_to_the_client() {
        let (progress, t0) = (paced(100, ms(1000)), clock::now());
        progress.record_bytes(10, t0);
        assert_eq!(progress.remaining_wait(t0 + ms(60_000)), Some(ms(1100)));
        assert!(!progress.is_awaited());
    }

    /// B3: only during the upload, and only after a second without a byte, with and without a minimum rate
    #[test]
    fn a_client_stalls_its_upload() {
        for progress in [paced(0, ms(0)), paced(100, ms(5000))] {
            let t0 = clock::now();
            progress.begin_wait(|| t0);
            assert!(!progress.is_stalled_by_client(t0 + ms(5000)), "nothing is uploaded");
            progress.begin(t0);
            progress.begin_wait(|| t0);
            assert!(!progress.is_stalled_by_client(t0 + ms(999)));
            assert!(progress.is_stalled_by_client(t0 + ms(1000)));
            progress.record_bytes(1, t0 + ms(1000));
            assert!(!progress.is_stalled_by_client(t0 + ms(5000)), "the upstream accepts nothing");
            progress.begin_wait(|| t0 + ms(5000));
            progress.finish(t0 + ms(5000));
            assert!(!progress.is_stalled_by_client(t0 + ms(9000)), "all of it was sent");
        }
    }

    /// T4
    #[test]
    fn without_a_minimum_rate_there_is_no_limit() {
        let (progress, t0) = (paced(0, ms(1000)), clock::now());
        progress.begin_wait(|| t0);
        assert_eq!(progress.remaining_wait(t0 + ms(60_000)), None);
        assert_eq!(paced(1, ms(0)).remaining_wait(t0).map(|left| left < ms(1)), Some(true));
        let much = paced(1, Duration::MAX);
        much.record_bytes(usize::MAX, t0);
        assert!(much.remaining_wait(t0).is_some());
    }
}
