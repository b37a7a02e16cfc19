//! One large body in transfer: its two sockets, its buffer sizes, and its pause or cut.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tidegate_actors::InForce;

use crate::buffers::budget::Reservation;
use crate::buffers::cut::MemoryCut;
use crate::buffers::flow_state::{FlowState, TransferGate};
use crate::buffers::pause_policy::PauseCandidate;
use crate::buffers::pipe::PIPE_BYTES;
use crate::buffers::send_progress::SendProgress;
use crate::buffers::socket::{Direction, SocketBuffers};
use crate::buffers::transfer_decisions::TransferDecisions;
use crate::buffers::transfers::Transfers;
use crate::buffers::tuning::{BufferSize, BufferTuner};

/// A body is a transfer only above this size. Smaller ones fit the first window of a connection.
pub(crate) const LARGE_BODY_BYTES: u64 = 64 << 10;
/// A body up to this size fits every window, so it does not count for the buffer size of a connection.
pub(crate) const SMALL_BODY_BYTES: u64 = 16 << 10;
/// Memory of a transfer in the process itself, besides its socket buffers: a piece that was read and the bytes gathered for one write, or
/// what the client did not accept from the pipe. A fast client may leave twice as much.
const PROCESS_BYTES: u64 = 128 << 10;
/// Initial reservation for a buffer that the kernel sizes; the next review reserves its real size.
const UNLIMITED_BYTES: u64 = 4 << 20;

/// One large body. The value stays on one thread.
pub(crate) struct Transfer {
    transfers: Rc<Transfers>,
    /// The socket that the bytes come from.
    source: Option<Rc<SocketBuffers>>,
    /// The socket that the bytes go to. For an upload it is set when an upstream connection starts to send the body.
    sink: RefCell<Option<Rc<SocketBuffers>>>,
    /// Send progress to the client; only for an answer.
    progress: Option<Rc<SendProgress>>,
    tuner: Cell<BufferTuner>,
    is_ending: Cell<bool>,
    flow: Cell<FlowState>,
    /// When the last pause ended.
    resumed: Cell<Option<Instant>>,
    reader: RefCell<Option<Waker>>,
    /// The buffers were shrunk, and the send buffer still holds more than a small size.
    is_shrinking: Cell<bool>,
    queued_bytes: Cell<u64>,
    /// Shadow mode has counted its buffers.
    is_counted: Cell<bool>,
    decisions: Rc<TransferDecisions>,
}

impl Transfer {
    /// Begins the transfer of a body from `source` to `sink`. `progress` is set for an answer.
    pub(crate) fn begin(
        transfers: &Rc<Transfers>,
        (source, sink): (Option<Rc<SocketBuffers>>, Option<Rc<SocketBuffers>>),
        progress: Option<Rc<SendProgress>>,
        now: Instant,
    ) -> Rc<Self> {
        let mut size = BufferSize::Large;
        if let Some(source) = &source {
            source.begin_transfer(Direction::Receive);
            size = size.min(source.size(Direction::Receive));
        }
        if let Some(sink) = &sink {
            sink.begin_transfer(Direction::Send);
            size = size.min(sink.size(Direction::Send));
        } else {
            size = BufferSize::Small;
        }
        let transfer = Rc::new(Self {
            transfers: Rc::clone(transfers),
            source,
            sink: RefCell::new(sink),
            progress,
            tuner: Cell::new(BufferTuner::new(size, now)),
            is_ending: Cell::new(false),
            flow: Cell::new(FlowState::Running),
            resumed: Cell::new(None),
            reader: RefCell::default(),
            is_shrinking: Cell::new(false),
            queued_bytes: Cell::new(0),
            is_counted: Cell::new(false),
            decisions: Rc::default(),
        });
        if let Some(progress) = &transfer.progress {
            progress.set_decisions(&transfer.decisions);
        }
        if size == BufferSize::Small {
            transfer.start_medium(now);
        }
        transfers.register(&transfer);
        transfer
    }

    /// Starts at a medium size while most of the budget is free, because small windows double the CPU time of a fast transfer.
    fn start_medium(&self, now: Instant) {
        let reserve = |bytes| self.transfers.budget().try_reserve_start(bytes);
        if self.grow_with(BufferSize::Medium, reserve) {
            let mut tuner = self.tuner.get();
            tuner.resized(BufferSize::Medium, now);
            self.tuner.set(tuner);
        }
    }

    /// Sets the sink. Replaces that of an earlier attempt.
    pub(crate) fn set_sink(&self, sink: &Rc<SocketBuffers>) {
        sink.begin_transfer(Direction::Send);
        if let Some(earlier) = self.sink.replace(Some(Rc::clone(sink))) {
            earlier.end_transfer(Direction::Send);
        }
        if self.tuner.get().size() > BufferSize::Small {
            self.grow_with(BufferSize::Medium, |bytes| self.transfers.budget().try_reserve(bytes));
        }
    }

    /// The most bytes that pass through the pipe of the thread at once. None for a slow client: its bytes are copied, because a piece in a
    /// send buffer keeps whole pages of the upstream's packets.
    pub(crate) fn splice_max(&self) -> Option<u64> {
        match self.tuner.get().size() {
            _ if self.is_shrinking.get() => None,
            BufferSize::Small => None,
            BufferSize::Medium => Some(PROCESS_BYTES),
            BufferSize::Large | BufferSize::Unlimited => Some(PIPE_BYTES as u64),
        }
    }

    /// Counts bytes that were moved through the pipe of the thread.
    pub(crate) fn count_spliced(&self, bytes: usize) {
        self.transfers.count_spliced(bytes);
    }

    /// Counts moved bytes. `left`: bytes that are still to come, if known.
    pub(crate) fn record_moved(&self, bytes: usize, left: Option<u64>, now: Instant) {
        let mut tuner = self.tuner.get();
        let earned = tuner.advance(bytes as u64, self.transfers.budget().headroom(), now);
        self.tuner.set(tuner);
        if self.is_ending.get() {
            return;
        }
        let source = self.source.as_ref().map_or(BufferSize::Small, |source| source.size(Direction::Receive));
        // The window is about half of the buffer.
        if left.is_some_and(|left| left <= self.bytes_of(source) / 2) {
            self.end_window();
        } else if let Some(size) = earned.filter(|size| size.is_useful(left, self.is_capped())) {
            self.grow(size, now);
        }
    }

    /// The open window covers the rest of the body. It closes as these bytes arrive, so the buffer is small when the body ends.
    fn end_window(&self) {
        self.is_ending.set(true);
        if let Some(source) = self.source.as_ref().filter(|source| !source.is_shared(Direction::Receive)) {
            source.prepare_body_end();
        }
    }

    fn grow(&self, size: BufferSize, now: Instant) {
        if self.grow_with(size, |bytes| self.transfers.budget().try_reserve(bytes)) {
            let mut tuner = self.tuner.get();
            tuner.resized(size, now);
            self.tuner.set(tuner);
        }
    }

    /// Grows both buffers to `size`. False if the memory of one cannot be reserved.
    fn grow_with(&self, size: BufferSize, reserve: impl Fn(u64) -> Option<Reservation>) -> bool {
        let bytes = self.bytes_of(size);
        let sink = self.sink.borrow();
        let sides = [(self.source.as_ref(), Direction::Receive), (sink.as_ref(), Direction::Send)];
        for (socket, direction) in sides {
            let Some(socket) = socket else { continue };
            if socket.size(direction) >= size {
                continue;
            }
            let Some(reservation) = reserve(bytes) else { return false };
            socket.grow(direction, size, Some(reservation));
        }
        true
    }

    fn bytes_of(&self, size: BufferSize) -> u64 {
        size.bytes(self.transfers.budget().large_bytes()).map_or(UNLIMITED_BYTES, u64::from)
    }

    /// Whether the system's limit (`net.core.rmem_max`) is below the receive buffer of a large transfer.
    fn is_capped(&self) -> bool {
        let large = self.bytes_of(BufferSize::Large);
        self.source.as_ref().is_some_and(|source| source.memory().receive_limit < large)
    }

    /// The size of the larger buffer. An upstream connection may have grown before this transfer.
    fn size(&self) -> BufferSize {
        let source = self.source.as_ref().map_or(BufferSize::Small, |source| source.size(Direction::Receive));
        let sink = self.sink.borrow().as_ref().map_or(BufferSize::Small, |sink| sink.size(Direction::Send));
        source.max(sink).max(self.tuner.get().size())
    }

    /// Shrinks both buffers; returns the bytes that they give up.
    pub(super) fn shrink(&self, now: Instant) -> u64 {
        let bytes = self.grown_bytes();
        self.shrink_where(|_, _| true, now);
        bytes
    }

    /// The bytes that `shrink` would free, once for each transfer.
    pub(super) fn count_shrinkable(&self) -> u64 {
        let bytes = self.grown_bytes();
        if bytes == 0 || self.is_counted.replace(true) { 0 } else { bytes }
    }

    /// Bytes of both buffers above the smallest size.
    fn grown_bytes(&self) -> u64 {
        let sink = self.sink.borrow();
        let source = self.source.as_ref().map(|source| source.size(Direction::Receive));
        let sizes = [source, sink.as_ref().map(|sink| sink.size(Direction::Send))];
        let small = self.bytes_of(BufferSize::Small);
        sizes.into_iter().flatten().map(|size| self.bytes_of(size).saturating_sub(small)).sum()
    }

    fn shrink_where(&self, may_shrink: impl Fn(&SocketBuffers, Direction) -> bool, now: Instant) {
        if self.size() == BufferSize::Small {
            return;
        }
        let mut tuner = self.tuner.get();
        tuner.resized(BufferSize::Small, now);
        self.tuner.set(tuner);
        self.is_shrinking.set(true);
        if let Some(source) = self.source.as_ref().filter(|source| may_shrink(source, Direction::Receive)) {
            source.shrink(Direction::Receive);
        }
        if let Some(sink) = self.sink.borrow().as_ref().filter(|sink| may_shrink(sink, Direction::Send)) {
            sink.shrink(Direction::Send);
        }
    }

    /// Shrinks the buffers if the transfer has slowed down, and reserves the current size of buffers that the kernel sizes.
    pub(super) fn review(&self, now: Instant) {
        self.credit_sent();
        self.release_unused();
        let mut tuner = self.tuner.get();
        let has_slowed = tuner.has_slowed(self.size(), now);
        self.tuner.set(tuner);
        if has_slowed && self.flow.get() == FlowState::Running {
            // Buffers that other streams of the connection use keep their size.
            return self.shrink_where(|socket, direction| !socket.is_shared(direction), now);
        }
        if tuner.size() == BufferSize::Unlimited {
            let source =
                self.source.as_ref().is_none_or(|source| source.reserve_kernel_size(Direction::Receive));
            let sink =
                self.sink.borrow().as_ref().is_none_or(|sink| sink.reserve_kernel_size(Direction::Send));
            if !(source && sink) {
                self.shrink(now);
            }
        }
    }

    /// Releases the reservations of former sizes that its sockets no longer hold.
    fn release_unused(&self) {
        let sink = self.sink.borrow();
        for socket in [self.source.as_ref(), sink.as_ref()].into_iter().flatten() {
            socket.release_unused();
        }
    }

    /// Counts bytes that leave a shrunk send buffer as progress of the client: the buffer accepts no bytes until the client has drained it.
    fn credit_sent(&self) {
        let (Some(progress), Some(sink)) = (&self.progress, &*self.sink.borrow()) else { return };
        if !self.is_shrinking.get() {
            return;
        }
        let queued = sink.memory().queued_bytes;
        let drained = self.queued_bytes.replace(queued).saturating_sub(queued);
        self.is_shrinking.set(queued > LARGE_BODY_BYTES);
        progress.record_sent(usize::try_from(drained).unwrap_or(usize::MAX));
    }

    /// Ready unless the transfer is paused. The reader is woken when the transfer is resumed or cut.
    pub(crate) fn poll_gate(&self, cx: &Context<'_>) -> Poll<TransferGate> {
        let gate = self.flow.get().gate();
        if gate.is_none() {
            *self.reader.borrow_mut() = Some(cx.waker().clone());
        }
        gate.map_or(Poll::Pending, Poll::Ready)
    }

    /// Ready after the transfer is cut, for a task that waits for the sink.
    pub(crate) fn poll_cut(&self, cx: &Context<'_>) -> Poll<MemoryCut> {
        if let FlowState::Cut(figures) = self.flow.get() {
            return Poll::Ready(figures);
        }
        *self.reader.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether it is paused, or was paused in this episode; also in shadow mode.
    pub(super) fn was_paused(&self) -> bool {
        self.flow.get().was_paused()
    }

    /// Whether reading from the source is paused.
    pub(crate) fn is_paused(&self) -> bool {
        matches!(self.flow.get(), FlowState::Paused(_))
    }

    /// Whether it was ever paused. A later error of the upstream is then not attributed to the upstream.
    pub(crate) fn has_paused(&self) -> bool {
        self.is_paused() || self.resumed.get().is_some()
    }

    /// The later start of a timer that began at `since`: pauses do not count.
    pub(crate) fn after_pause(&self, since: Instant, now: Instant) -> Instant {
        if self.is_paused() { now } else { self.resumed.get().map_or(since, |resumed| since.max(resumed)) }
    }

    /// The input for the pause decision; none after a cut.
    pub(super) fn pause_candidate(&self, now: Instant) -> Option<PauseCandidate> {
        let state = self.flow.get().pause_state(now)?;
        let sink = self.sink.borrow();
        let kernel_bytes = [self.source.as_ref(), sink.as_ref()]
            .into_iter()
            .flatten()
            .map(|socket| socket.memory().held_bytes);
        Some(PauseCandidate { held_bytes: PROCESS_BYTES + kernel_bytes.sum::<u64>(), state })
    }

    /// What was decided about it.
    pub(crate) fn decisions(&self) -> &Rc<TransferDecisions> {
        &self.decisions
    }

    /// Pauses reading from the source until [`Self::resume`] or [`Self::cut`].
    pub(super) fn pause(&self, figures: MemoryCut, now: Instant) {
        self.decisions.set_pause(InForce::Enforced, figures);
        self.shrink(now);
        self.flow.set(FlowState::Paused(now));
        if let Some(progress) = &self.progress {
            progress.set_paused(true);
        }
    }

    /// Begins the time for which the transfer would be paused without the shadow mode of the action.
    pub(super) fn pause_in_shadow(&self, figures: MemoryCut, now: Instant) {
        self.decisions.set_pause(InForce::Shadow, figures);
        self.flow.set(FlowState::PausedInShadow(now));
    }

    /// Resumes reading. `is_short`: memory is still short, so the transfer is not paused a second time.
    pub(super) fn resume(&self, is_short: bool, now: Instant) {
        if self.is_paused() {
            self.resumed.set(Some(now));
        }
        self.flow.set(if is_short { FlowState::Resumed } else { FlowState::Running });
        self.wake();
    }

    /// Resumes reading in place of a cut. True the first time.
    pub(super) fn cut_in_shadow(&self, figures: MemoryCut, now: Instant) -> bool {
        self.resume(true, now);
        self.decisions.set_shadow_cut(figures)
    }

    /// Ends the transfer: the connection ends an answer, the reader ends an upload.
    pub(super) fn cut(&self, figures: MemoryCut) {
        self.flow.set(FlowState::Cut(figures));
        if let Some(progress) = &self.progress {
            progress.cut_by(figures.into());
        }
        self.wake();
    }

    fn wake(&self) {
        if let Some(progress) = &self.progress {
            progress.set_paused(false);
        }
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if let Some(source) = &self.source {
            source.end_transfer(Direction::Receive);
            self.transfers.retain(source);
        }
        if let Some(sink) = self.sink.take() {
            sink.end_transfer(Direction::Send);
            self.transfers.retain(&sink);
        }
    }
}
