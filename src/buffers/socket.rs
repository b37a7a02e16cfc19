//! The kernel buffers of one TCP socket: sizes, limits and what they hold.
//!
//! Linux grows both buffers of a socket by itself and never shrinks them (tcp(7), `tcp_rmem`, `tcp_wmem`). A transfer sets them by its own pace:
//!
//! - The receive buffer is locked (`SO_BUF_LOCK`, socket(7), Linux 5.15) and sized (`SO_RCVBUF`). An advertised window cannot be taken
//!   back (RFC 9293, 3.8.6), so it shrinks by `TCP_WINDOW_CLAMP`: it closes as the peer uses it, and no received byte is dropped.
//! - Of the send buffer only the unsent bytes are limited (`TCP_NOTSENT_LOWAT`): those are what a slow client leaves there. Sent bytes wait for
//!   an acknowledgement only. A smaller `SO_SNDBUF` would stop a connection after each segment until a delayed acknowledgement.
//!
//! A kernel without one of these options keeps its own growth; every option here is set without an error on failure.

use std::cell::{Cell, RefCell};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;

use crate::buffers::budget::{BufferBudget, Reservation};
use crate::buffers::pace::{Pace, Size};
use crate::buffers::sockopt;

/// Receive buffer of a transfer before it grows, in bytes as the kernel accounts them. The window is about half of it.
pub(crate) const RECEIVE_BYTES_MIN: u32 = 40 << 10;
/// What waits to be sent of a transfer before it grows, in bytes. The kernel takes up to one segment more.
const UNSENT_BYTES_MIN: u32 = 16 << 10;
/// The window of a receive buffer that was made small.
const WINDOW_BYTES_MIN: u32 = RECEIVE_BYTES_MIN / 2;

/// The kernel buffers of one socket. It stays on one thread, and outlives the socket without harm.
#[derive(Debug)]
pub(crate) struct SocketBuffers {
    /// None once the socket is closed: its number may belong to another file then.
    descriptor: Cell<Option<RawFd>>,
    keeps: Keeps,
    /// The kernel does not size the receive buffer.
    is_locked: Cell<bool>,
    /// Transfers that send through this socket: more than one on HTTP/2.
    senders: Cell<u32>,
    receivers: Cell<u32>,
    /// The largest receive buffer that was set, in bytes as the kernel accounts them.
    receive_limit: Cell<u32>,
    /// A transfer has ended since the last visit of a kept size.
    was_used: Cell<bool>,
    /// Visited with each sample.
    is_visited: Cell<bool>,
    receive: Side,
    send: Side,
    /// Of bodies that are no transfers.
    small_bodies: Cell<Option<Pace>>,
    receive_resized: Notify,
}

/// One direction.
#[derive(Debug, Default)]
struct Side {
    size: Cell<Size>,
    reservation: RefCell<Option<Reservation>>,
}

/// What a socket keeps of its receive buffer after a large body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// At most a medium size, while transfers follow each other: a client's connection.
    Briefly,
    /// At most a medium size, or a large one while most of the budget is free, with its reservation, until it closes: an upstream's
    /// connection, which many clients share.
    Learnt,
    /// The configured size, always.
    Configured,
}

/// Clears the descriptor when the owner of the socket is dropped.
#[derive(Debug)]
pub(crate) struct OpenSocket(Rc<SocketBuffers>);

impl OpenSocket {
    /// For a socket that this value is dropped with. None where the bytes do not come from a socket.
    pub(crate) fn new(descriptor: Option<RawFd>, keeps: Keeps) -> Self {
        let buffers = SocketBuffers {
            descriptor: Cell::new(descriptor),
            keeps,
            is_locked: Cell::new(false),
            senders: Cell::new(0),
            receivers: Cell::new(0),
            receive_limit: Cell::new(0),
            was_used: Cell::new(false),
            is_visited: Cell::new(false),
            receive: Side::default(),
            send: Side::default(),
            small_bodies: Cell::new(None),
            receive_resized: Notify::new(),
        };
        match keeps {
            Keeps::Briefly => {}
            // Locked from the start: the kernel would grow it without a reservation.
            Keeps::Learnt => buffers.lock(true),
            Keeps::Configured => buffers.is_locked.set(true),
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
    fn side(&self, direction: Direction) -> &Side {
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

    /// The size that this direction has now.
    pub(crate) fn size(&self, direction: Direction) -> Size {
        self.side(direction).size.get()
    }

    /// Waits until the receive buffer has another size.
    pub(crate) async fn receive_resized(&self) {
        self.receive_resized.notified().await;
    }

    /// Whether the receive buffer is larger than at first.
    pub(crate) fn has_grown_receive(&self) -> bool {
        self.receive.size.get() > Size::Small
    }

    /// A large transfer begins to use this direction. The first one makes it small.
    pub(crate) fn begin(&self, direction: Direction) {
        let users = self.users(direction);
        users.set(users.get() + 1);
        // A connection that keeps its buffer has limited it before.
        let is_limited = match direction {
            Direction::Send => self.size(direction) > Size::Small,
            Direction::Receive => self.is_locked.get(),
        };
        if users.get() == 1 && !is_limited {
            self.shrink(direction);
        }
    }

    /// A large transfer ends.
    pub(crate) fn end(&self, direction: Direction) {
        let users = self.users(direction);
        users.set(users.get().saturating_sub(1));
        if users.get() > 0 {
            return;
        }
        match direction {
            // Small answers need no limit.
            Direction::Send if self.size(direction) == Size::Small => self.limit_unsent(0),
            Direction::Send => self.was_used.set(true),
            Direction::Receive => {
                self.was_used.set(true);
                self.rest();
            }
        }
    }

    /// The large body that comes through this socket ends soon: the window that is open covers the rest of it.
    pub(crate) fn rest(&self) {
        match (self.keeps, self.receive.size.get()) {
            (_, Size::Small) | (Keeps::Configured, _) => {}
            (_, Size::Medium) => {}
            (_, Size::Large) if self.is_ample() => {}
            (_, Size::Large) => self.rest_medium(),
            (Keeps::Briefly, Size::Unlimited) => self.shrink(Direction::Receive),
            // Its window cannot be taken back, so the connection closes with the body.
            (Keeps::Learnt, Size::Unlimited) => {}
        }
    }

    /// Whether more was promised to the peer than a kept connection may hold.
    pub(crate) fn has_open_window(&self) -> bool {
        self.receive_limit.get() == u32::MAX
    }

    fn is_ample(&self) -> bool {
        self.receive.reservation.borrow().as_ref().is_some_and(Reservation::is_ample)
    }

    fn rest_medium(&self) {
        let mut reservation = self.receive.reservation.take();
        self.shrink(Direction::Receive);
        let bytes = Size::Medium.bytes().unwrap_or_default();
        if reservation.as_mut().is_some_and(|held| held.resize(bytes.into())) {
            self.grow(Direction::Receive, Size::Medium, reservation);
        }
    }

    /// Whether this direction has a size that it keeps only until the connection was idle for two samples.
    fn keeps_idle_in(&self, direction: Direction) -> bool {
        let is_temporary = direction == Direction::Send || self.keeps == Keeps::Briefly;
        is_temporary && self.size(direction) > Size::Small && !self.is_used(direction)
    }

    /// The same for either direction.
    fn keeps_idle(&self) -> bool {
        DIRECTIONS.into_iter().any(|direction| self.keeps_idle_in(direction))
    }

    /// Whether visits must begin after a transfer: a size is kept, or memory of a former size is reserved, and no visits are under way.
    pub(crate) fn begin_visits(&self) -> bool {
        let is_due = self.keeps_idle() || DIRECTIONS.into_iter().any(|direction| self.is_draining(direction));
        is_due && !self.is_visited.replace(true)
    }

    /// Gives back what is no longer needed; returns whether another visit is. The second visit without a transfer in between gives a kept
    /// size back, or the first where memory is short.
    pub(crate) fn visit(&self, is_short: bool) -> bool {
        let keeps = self.keeps_idle() && self.was_used.replace(false) && !is_short;
        for direction in DIRECTIONS.into_iter().filter(|direction| !keeps && self.keeps_idle_in(*direction)) {
            self.shrink(direction);
            if direction == Direction::Send {
                self.limit_unsent(0);
            }
        }
        let is_visited = self.release_drained() || keeps;
        self.is_visited.set(is_visited);
        is_visited
    }

    fn is_used(&self, direction: Direction) -> bool {
        self.users(direction).get() > 0
    }

    /// Bytes of a body that is no transfer came. A connection that brings many of them soon gets a medium buffer.
    pub(crate) fn carried(&self, bytes: usize, budget: &Arc<BufferBudget>, now: Instant) {
        let size = self.receive.size.get();
        if self.keeps != Keeps::Learnt || (size > Size::Small && !budget.is_short()) {
            return;
        }
        if size > Size::Small {
            self.receive.reservation.take();
            return self.shrink(Direction::Receive);
        }
        let mut pace = self.small_bodies.get().unwrap_or_else(|| Pace::new(Size::Small, now));
        if let Some(size) = pace.advance(bytes as u64, now) {
            let bytes = size.bytes().unwrap_or_default().into();
            self.grow(Direction::Receive, size, budget.try_reserve(bytes));
        }
        self.small_bodies.set(Some(pace));
    }

    /// Sets the size of this direction, if its memory was reserved. Smaller sizes are ignored.
    pub(crate) fn grow(&self, direction: Direction, size: Size, reservation: Option<Reservation>) {
        let side = self.side(direction);
        let is_fixed = direction == Direction::Receive && self.keeps == Keeps::Configured;
        if reservation.is_none() || size <= side.size.get() || is_fixed {
            return;
        }
        side.size.set(size);
        *side.reservation.borrow_mut() = reservation;
        if direction == Direction::Receive {
            self.receive_resized.notify_one();
        }
        match (direction, size.bytes()) {
            (Direction::Send, bytes) => self.limit_unsent(bytes.map_or(0, |bytes| bytes / 2)),
            (Direction::Receive, None) => {
                self.receive_limit.set(u32::MAX);
                self.lock(false);
            }
            (Direction::Receive, Some(bytes)) => {
                // Never lowered: the kernel would drop bytes that it has promised to take.
                if bytes > self.receive_limit.get() {
                    self.receive_limit.set(bytes);
                    self.set(|socket| sockopt::set_receive_buffer(socket, bytes));
                }
                self.set(|socket| sockopt::set_window_clamp(socket, bytes));
            }
        }
    }

    /// Makes this direction small. A receive window closes as the peer uses it; bytes that wait to be sent are sent.
    pub(crate) fn shrink(&self, direction: Direction) {
        let side = self.side(direction);
        if side.size.replace(Size::Small) > Size::Small && direction == Direction::Receive {
            self.receive_resized.notify_one();
        }
        self.release_drained_in(direction);
        match direction {
            Direction::Send => self.limit_unsent(UNSENT_BYTES_MIN),
            Direction::Receive if self.keeps == Keeps::Configured => {}
            Direction::Receive => {
                self.clamp();
                self.lock(true);
            }
        }
    }

    /// Whether this direction is small and has memory reserved for bytes of a former size.
    fn is_draining(&self, direction: Direction) -> bool {
        let side = self.side(direction);
        side.size.get() == Size::Small && side.reservation.borrow().is_some()
    }

    /// Gives back the memory of former sizes that the kernel no longer holds; returns whether some is left.
    pub(crate) fn release_drained(&self) -> bool {
        let is_left =
            DIRECTIONS.map(|direction| self.is_draining(direction) && self.release_drained_in(direction));
        is_left.contains(&true)
    }

    /// The same for one direction, which is small. Bytes that a peer does not take stay in the kernel, so they stay reserved: else clients
    /// that stop one after the other would hold many times the budget.
    fn release_drained_in(&self, direction: Direction) -> bool {
        let mut held = self.side(direction).reservation.borrow_mut();
        let Some(reservation) = held.as_mut() else { return false };
        let memory = self.memory();
        let bytes = match direction {
            Direction::Receive => memory.received_bytes,
            Direction::Send => memory.queued_bytes,
        };
        let is_left = bytes > Size::Small.bytes().map_or(0, u64::from);
        if is_left {
            reservation.lower(bytes);
        } else {
            *held = None;
        }
        is_left
    }

    /// Reserves the size that the kernel has given to this direction. False where the budget has no more.
    pub(crate) fn follow(&self, direction: Direction) -> bool {
        let memory = self.memory();
        let bytes = match direction {
            Direction::Receive => memory.receive_limit,
            Direction::Send => memory.send_limit,
        };
        let mut reservation = self.side(direction).reservation.borrow_mut();
        reservation.as_mut().is_none_or(|reservation| reservation.resize(bytes))
    }

    fn clamp(&self) {
        self.set(|socket| {
            // A peer sends whole segments; where one is larger than the window (loopback), each would wait for a timer.
            let segment = sockopt::received_segment(socket);
            sockopt::set_window_clamp(socket, WINDOW_BYTES_MIN.max(segment.saturating_mul(2)));
        });
    }

    fn limit_unsent(&self, bytes: u32) {
        self.set(|socket| sockopt::set_unsent_limit(socket, bytes));
    }

    /// Whether the kernel must not size the receive buffer.
    fn lock(&self, is_locked: bool) {
        if self.is_locked.replace(is_locked) != is_locked {
            self.set(|socket| sockopt::lock_receive_buffer(socket, is_locked));
        }
    }

    fn set(&self, set: impl FnOnce(RawFd)) {
        if let Some(socket) = self.descriptor.get() {
            set(socket);
        }
    }

    /// Bytes of kernel memory that the socket holds in both directions, and the sizes of its buffers.
    pub(crate) fn memory(&self) -> sockopt::SocketMemory {
        self.descriptor.get().map(sockopt::memory).unwrap_or_default()
    }
}
