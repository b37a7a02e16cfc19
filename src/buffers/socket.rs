//! The kernel buffers of one TCP socket: sizes, limits and what they hold.
//!
//! Linux grows both buffers of a socket by itself and never shrinks them (tcp(7), `tcp_rmem`, `tcp_wmem`). A large transfer locks
//! this growth (`SO_BUF_LOCK`, socket(7), Linux 5.15) and then sets each size by its own pace. A receive window that was
//! advertised cannot be taken back (RFC 9293, 3.8.6), so a receive buffer shrinks by `TCP_WINDOW_CLAMP`: the window closes as
//! the peer uses it, and no received byte is dropped. A send buffer shrinks at once.
//!
//! A kernel without one of these options keeps its own growth; every option here is set without an error on failure.

use std::cell::{Cell, RefCell};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::buffers::budget::{BufferBudget, Reservation};
use crate::buffers::pace::{Pace, Size};
use crate::buffers::sockopt;

/// Receive buffer of a transfer before it grows, in bytes as the kernel accounts them. The window is about half of it.
pub(crate) const RECEIVE_BYTES_MIN: u32 = 40 << 10;
/// Send buffer of a transfer before it grows, in bytes as the kernel accounts them.
pub(crate) const SEND_BYTES_MIN: u32 = 16 << 10;
/// The window of a receive buffer that was made small.
const WINDOW_BYTES_MIN: u32 = RECEIVE_BYTES_MIN / 2;

/// The kernel buffers of one socket. It stays on one thread, and outlives the socket without harm.
#[derive(Debug)]
pub(crate) struct SocketBuffers {
    /// None once the socket is closed: its number may belong to another file then.
    descriptor: Cell<Option<RawFd>>,
    keeps: Keeps,
    locks: Cell<u32>,
    /// Transfers that send through this socket: more than one on HTTP/2.
    senders: Cell<u32>,
    receivers: Cell<u32>,
    has_grown: Cell<bool>,
    receive: Side,
    send: Side,
    /// Of bodies that are no transfers.
    small_bodies: Cell<Option<Pace>>,
}

/// One direction.
#[derive(Debug, Default)]
struct Side {
    size: Cell<Size>,
    reservation: RefCell<Option<Reservation>>,
}

/// What a socket keeps of its receive buffer between large bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// Nothing: a client's connection.
    Nothing,
    /// At most a medium buffer, with its reservation: an upstream's connection, which many clients share.
    Medium,
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
            locks: Cell::new(0),
            senders: Cell::new(0),
            receivers: Cell::new(0),
            has_grown: Cell::new(false),
            receive: Side::default(),
            send: Side::default(),
            small_bodies: Cell::new(None),
        };
        match keeps {
            Keeps::Nothing => {}
            // Locked from the start: the kernel would grow it without a reservation.
            Keeps::Medium => buffers.set_locks(Direction::Receive.lock()),
            Keeps::Configured => buffers.locks.set(Direction::Receive.lock()),
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

impl Direction {
    /// The kernel's bit in `SO_BUF_LOCK` (`SOCK_SNDBUF_LOCK`, `SOCK_RCVBUF_LOCK`).
    fn lock(self) -> u32 {
        match self {
            Self::Send => 1,
            Self::Receive => 2,
        }
    }
}

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

    /// A large transfer begins to use this direction. The first one makes it small.
    pub(crate) fn begin(&self, direction: Direction) {
        let users = self.users(direction);
        users.set(users.get() + 1);
        // A connection that keeps its buffer has limited it before.
        if users.get() == 1 && self.locks.get() & direction.lock() == 0 {
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
            // Small answers need no limit; the kernel grows the buffer again.
            Direction::Send => {
                self.unlock(Direction::Send);
                self.send.size.set(Size::Small);
                self.send.reservation.take();
            }
            Direction::Receive => self.rest(),
        }
    }

    /// The large body that comes through this socket ends soon: the window that is open covers the rest of it.
    pub(crate) fn rest(&self) {
        let size = self.receive.size.get();
        if size == Size::Small || (size == Size::Medium && self.keeps == Keeps::Medium) {
            return;
        }
        let mut reservation = self.receive.reservation.take();
        self.shrink(Direction::Receive);
        let bytes = Size::Medium.bytes().unwrap_or_default();
        if self.keeps == Keeps::Medium && reservation.as_mut().is_some_and(|held| held.resize(bytes.into())) {
            self.receive.size.set(Size::Medium);
            *self.receive.reservation.borrow_mut() = reservation;
            self.set(|socket| sockopt::set_window_clamp(socket, bytes / 2));
        }
    }

    /// Bytes of a body that is no transfer came. A connection that brings many of them soon gets a medium buffer.
    pub(crate) fn carried(&self, bytes: usize, budget: &Arc<BufferBudget>, now: Instant) {
        let size = self.receive.size.get();
        if self.keeps != Keeps::Medium || (size > Size::Small && !budget.is_short()) {
            return;
        }
        if size > Size::Small {
            return self.shrink(Direction::Receive);
        }
        let mut pace = self.small_bodies.get().unwrap_or_else(|| Pace::new(now));
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
        self.has_grown.set(true);
        *side.reservation.borrow_mut() = reservation;
        let Some(bytes) = size.bytes() else { return self.unlock(direction) };
        match direction {
            Direction::Send => self.set(|socket| sockopt::set_send_buffer(socket, bytes)),
            Direction::Receive => self.set(|socket| {
                sockopt::set_receive_buffer(socket, bytes);
                sockopt::set_window_clamp(socket, bytes);
            }),
        }
        // The kernel locks a buffer with its size.
        self.locks.set(self.locks.get() | direction.lock());
    }

    /// Makes this direction small. A receive window closes as the peer uses it.
    pub(crate) fn shrink(&self, direction: Direction) {
        let side = self.side(direction);
        side.size.set(Size::Small);
        side.reservation.take();
        match direction {
            Direction::Send => {
                self.set(|socket| sockopt::set_send_buffer(socket, SEND_BYTES_MIN));
                self.locks.set(self.locks.get() | direction.lock());
            }
            Direction::Receive => {
                self.clamp();
                if self.keeps != Keeps::Configured {
                    self.set_locks(self.locks.get() | direction.lock());
                }
            }
        }
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
        if self.keeps == Keeps::Configured {
            return;
        }
        self.set(|socket| {
            // A peer sends whole segments; where one is larger than the window (loopback), each would wait for a timer.
            let segment = if self.has_grown.get() { sockopt::received_segment(socket) } else { 0 };
            sockopt::set_window_clamp(socket, WINDOW_BYTES_MIN.max(segment.saturating_mul(2)));
        });
    }

    fn unlock(&self, direction: Direction) {
        self.set_locks(self.locks.get() & !direction.lock());
    }

    fn set_locks(&self, locks: u32) {
        if self.locks.replace(locks) != locks {
            self.set(|socket| sockopt::set_buffer_locks(socket, locks));
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
