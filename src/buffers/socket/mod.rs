//! The kernel buffers of one TCP socket: sizes, limits and held bytes.
//!
//! Linux grows both buffers of a socket automatically and never shrinks them (tcp(7), `tcp_rmem`, `tcp_wmem`). A transfer sets their sizes
//! by its throughput:
//!
//! - The receive buffer is locked (`SO_BUF_LOCK`, socket(7), Linux 5.15) and sized (`SO_RCVBUF`). An advertised window cannot be taken
//!   back (RFC 9293, 3.8.6), so `TCP_WINDOW_CLAMP` shrinks it: the window closes as the peer uses it, and no received byte is dropped.
//! - In the send buffer only the unsent bytes are limited (`TCP_NOTSENT_LOWAT`), because those accumulate with a slow client. Sent bytes
//!   only wait for an acknowledgement. A smaller `SO_SNDBUF` would stop a connection after each segment until a delayed acknowledgement.
//!
//! A kernel without one of these options sizes the buffer itself: a failure to set an option is ignored. `retention.rs` defines the sizes
//! that a connection keeps between transfers.

mod retention;

use std::cell::{Cell, RefCell};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;

use crate::buffers::budget::{BufferBudget, Reservation};
use crate::buffers::sockopt;
use crate::buffers::tuning::{BufferSize, BufferTuner, MEDIUM_BYTES};

/// Receive buffer of a transfer before it grows, in bytes as the kernel accounts them. The window is about half of it.
pub(crate) const RECEIVE_BYTES_MIN: u32 = 40 << 10;
/// Limit of unsent bytes of a transfer before it grows. The kernel accepts up to one segment more.
const UNSENT_BYTES_MIN: u32 = 16 << 10;
/// The window of a receive buffer after a shrink.
const WINDOW_BYTES_MIN: u32 = RECEIVE_BYTES_MIN / 2;

/// The kernel buffers of one socket. The value stays on one thread and may outlive the socket.
#[derive(Debug)]
pub(crate) struct SocketBuffers {
    /// None after the socket is closed, because its descriptor number may be reused.
    descriptor: Cell<Option<RawFd>>,
    retention: BufferRetention,
    /// The kernel must not size the receive buffer.
    is_locked: Cell<bool>,
    /// Transfers that send through this socket; HTTP/2 connections can have several.
    senders: Cell<u32>,
    receivers: Cell<u32>,
    /// The largest receive buffer that was set, in bytes as the kernel accounts them.
    receive_limit: Cell<u32>,
    /// A transfer has ended since the last sweep.
    was_used: Cell<bool>,
    /// The worker sweeps this socket with each sample.
    is_swept: Cell<bool>,
    receive: BufferSide,
    send: BufferSide,
    /// For bodies that are too small for a transfer.
    small_body_tuner: Cell<Option<BufferTuner>>,
    receive_resized: Notify,
}

/// One direction.
#[derive(Debug, Default)]
struct BufferSide {
    size: Cell<BufferSize>,
    reservation: RefCell<Option<Reservation>>,
}

impl BufferSide {
    /// Marks the reservation as unused or used by a transfer.
    fn set_idle(&self, is_idle: bool) {
        if let Some(reservation) = &mut *self.reservation.borrow_mut() {
            reservation.set_idle(is_idle);
        }
    }
}

/// How long a socket keeps the size of its receive buffer after a large body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BufferRetention {
    /// At most a medium size, until it was idle for two reviews: a client's connection.
    UntilIdle,
    /// A medium size, or a large one while most of the budget is free, with its reservation, until the connection closes: an upstream
    /// connection, which many clients share.
    UntilClose,
    /// Always the configured size.
    Fixed,
}

/// Clears the descriptor when the owner of the socket is dropped.
#[derive(Debug)]
pub(crate) struct OpenSocket(Rc<SocketBuffers>);

impl OpenSocket {
    /// For a socket that is dropped together with this value. `descriptor` is none if the bytes do not come from a socket.
    pub(crate) fn new(descriptor: Option<RawFd>, retention: BufferRetention) -> Self {
        let buffers = SocketBuffers {
            descriptor: Cell::new(descriptor),
            retention,
            is_locked: Cell::new(false),
            senders: Cell::new(0),
            receivers: Cell::new(0),
            receive_limit: Cell::new(0),
            was_used: Cell::new(false),
            is_swept: Cell::new(false),
            receive: BufferSide::default(),
            send: BufferSide::default(),
            small_body_tuner: Cell::new(None),
            receive_resized: Notify::new(),
        };
        match retention {
            BufferRetention::UntilIdle => {}
            // Locked from the start, because the kernel would grow it without a reservation.
            BufferRetention::UntilClose => buffers.lock(true),
            BufferRetention::Fixed => buffers.is_locked.set(true),
        }
        Self(Rc::new(buffers))
    }

    pub(crate) fn buffers(&self) -> &Rc<SocketBuffers> {
        &self.0
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.0.descriptor.set(None);
        self.0.receive.reservation.take();
        self.0.send.reservation.take();
    }
}

/// A direction of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Receive,
    Send,
}

const DIRECTIONS: [Direction; 2] = [Direction::Receive, Direction::Send];

impl SocketBuffers {
    fn side(&self, direction: Direction) -> &BufferSide {
        match direction {
            Direction::Receive => &self.receive,
            Direction::Send => &self.send,
        }
    }

    fn users(&self, direction: Direction) -> &Cell<u32> {
        match direction {
            Direction::Receive => &self.receivers,
            Direction::Send => &self.senders,
        }
    }

    /// Whether several transfers use this direction: streams of one HTTP/2 connection.
    pub(crate) fn is_shared(&self, direction: Direction) -> bool {
        self.users(direction).get() > 1
    }

    /// The current size of this direction.
    pub(crate) fn size(&self, direction: Direction) -> BufferSize {
        self.side(direction).size.get()
    }

    /// Waits until the size of the receive buffer changes.
    pub(crate) async fn receive_resized(&self) {
        self.receive_resized.notified().await;
    }

    /// Whether the receive buffer is larger than small.
    pub(crate) fn has_grown_receive(&self) -> bool {
        self.receive.size.get() > BufferSize::Small
    }

    /// A transfer begins to use this direction. The first one shrinks it, unless it has a limit already.
    pub(crate) fn begin_transfer(&self, direction: Direction) {
        let users = self.users(direction);
        users.set(users.get() + 1);
        // A connection that keeps its size has a limit from an earlier transfer.
        let is_limited = match direction {
            Direction::Send => self.size(direction) > BufferSize::Small,
            Direction::Receive => self.is_locked.get(),
        };
        if users.get() == 1 {
            if !is_limited {
                self.shrink(direction);
            }
            self.side(direction).set_idle(false);
        }
    }

    /// A transfer ends.
    pub(crate) fn end_transfer(&self, direction: Direction) {
        let users = self.users(direction);
        users.set(users.get().saturating_sub(1));
        if users.get() > 0 {
            return;
        }
        match direction {
            // Small answers need no limit.
            Direction::Send if self.size(direction) == BufferSize::Small => self.limit_unsent(0),
            Direction::Send => self.was_used.set(true),
            Direction::Receive => {
                self.was_used.set(true);
                self.prepare_body_end();
            }
        }
        self.side(direction).set_idle(true);
    }

    fn is_used(&self, direction: Direction) -> bool {
        self.users(direction).get() > 0
    }

    /// Counts received bytes of a body that is too small for a transfer. An upstream connection with many of them gets a medium buffer.
    pub(crate) fn record_small_body(&self, bytes: usize, budget: &Arc<BufferBudget>, now: Instant) {
        let size = self.receive.size.get();
        if self.retention != BufferRetention::UntilClose || (size > BufferSize::Small && !budget.is_short()) {
            return;
        }
        if size > BufferSize::Small {
            self.receive.reservation.take();
            return self.shrink(Direction::Receive);
        }
        let mut tuner =
            self.small_body_tuner.get().unwrap_or_else(|| BufferTuner::new(BufferSize::Small, now));
        if let Some(size) = tuner.advance(bytes as u64, budget.headroom(), now) {
            self.grow(Direction::Receive, size, budget.try_reserve(MEDIUM_BYTES.into()));
        }
        self.small_body_tuner.set(Some(tuner));
    }

    /// Grows this direction to `size`, if its memory was reserved. Smaller sizes are ignored.
    pub(crate) fn grow(&self, direction: Direction, size: BufferSize, reservation: Option<Reservation>) {
        let side = self.side(direction);
        let is_fixed = direction == Direction::Receive && self.retention == BufferRetention::Fixed;
        let Some(reservation) = reservation.filter(|_| size > side.size.get() && !is_fixed) else { return };
        let bytes = u32::try_from(reservation.bytes()).unwrap_or(u32::MAX);
        let bytes = (size != BufferSize::Unlimited).then_some(bytes);
        side.size.set(size);
        *side.reservation.borrow_mut() = Some(reservation);
        if direction == Direction::Receive {
            self.receive_resized.notify_one();
        }
        match (direction, bytes) {
            (Direction::Send, bytes) => self.limit_unsent(bytes.map_or(0, |bytes| bytes / 2)),
            (Direction::Receive, None) => {
                self.receive_limit.set(u32::MAX);
                self.lock(false);
            }
            (Direction::Receive, Some(bytes)) => {
                // Never lowered, because the kernel would drop bytes within the advertised window.
                if bytes > self.receive_limit.get() {
                    self.receive_limit.set(bytes);
                    self.with_descriptor(|socket| sockopt::set_receive_buffer(socket, bytes));
                }
                self.with_descriptor(|socket| sockopt::set_window_clamp(socket, bytes));
            }
        }
    }

    /// Shrinks this direction. A receive window closes as the peer uses it; queued bytes are still sent.
    pub(crate) fn shrink(&self, direction: Direction) {
        let side = self.side(direction);
        if side.size.replace(BufferSize::Small) > BufferSize::Small && direction == Direction::Receive {
            self.receive_resized.notify_one();
        }
        self.release_unused_in(direction);
        match direction {
            Direction::Send => self.limit_unsent(UNSENT_BYTES_MIN),
            Direction::Receive if self.retention == BufferRetention::Fixed => {}
            Direction::Receive => {
                self.clamp_window();
                self.lock(true);
            }
        }
    }

    /// Reserves the size that the kernel has given to this direction. False if the budget does not allow it.
    pub(crate) fn reserve_kernel_size(&self, direction: Direction) -> bool {
        let memory = self.memory();
        let bytes = match direction {
            Direction::Receive => memory.receive_limit,
            Direction::Send => memory.send_limit,
        };
        let mut reservation = self.side(direction).reservation.borrow_mut();
        reservation.as_mut().is_none_or(|reservation| reservation.resize(bytes))
    }

    fn clamp_window(&self) {
        self.with_descriptor(|socket| {
            // A peer sends whole segments. On loopback a segment can be larger than the window, and each would wait for the probe timer.
            let segment = sockopt::received_segment(socket);
            sockopt::set_window_clamp(socket, WINDOW_BYTES_MIN.max(segment.saturating_mul(2)));
        });
    }

    fn limit_unsent(&self, bytes: u32) {
        self.with_descriptor(|socket| sockopt::set_unsent_limit(socket, bytes));
    }

    /// Forbids or allows the kernel to size the receive buffer.
    fn lock(&self, is_locked: bool) {
        if self.is_locked.replace(is_locked) != is_locked {
            self.with_descriptor(|socket| sockopt::lock_receive_buffer(socket, is_locked));
        }
    }

    fn with_descriptor(&self, set: impl FnOnce(RawFd)) {
        if let Some(socket) = self.descriptor.get() {
            set(socket);
        }
    }

    /// Bytes of kernel memory that the socket holds in both directions, and the sizes of its buffers.
    pub(crate) fn memory(&self) -> sockopt::SocketMemory {
        self.descriptor.get().map(sockopt::memory).unwrap_or_default()
    }
}
