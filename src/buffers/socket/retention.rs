//! Buffer sizes that a connection keeps after a transfer, and their release.
//!
//! With a retained size the next transfer starts at the size of the last one. The size stays reserved in the budget. Bytes that a peer
//! leaves in the kernel after a shrink stay reserved too. The worker sweeps such sockets with each sample of the monitor
//! (`buffers/transfers.rs`).

use super::{BufferRetention, DIRECTIONS, Direction, SocketBuffers};
use crate::buffers::budget::Reservation;
use crate::buffers::tuning::{BufferSize, MEDIUM_BYTES, SMALL_BYTES};

impl SocketBuffers {
    /// The window that is open covers the rest of the received body: reduces the buffer to the size that the connection may keep.
    pub(crate) fn prepare_body_end(&self) {
        match (self.retention, self.receive.size.get()) {
            (_, BufferSize::Small) | (BufferRetention::Fixed, _) => {}
            (_, BufferSize::Medium) => {}
            (_, BufferSize::Large) if self.may_retain_large() => {}
            (_, BufferSize::Large) => self.shrink_to_medium(),
            (BufferRetention::UntilIdle, BufferSize::Unlimited) => self.shrink(Direction::Receive),
            // Its window cannot be taken back, so the connection closes after the body.
            (BufferRetention::UntilClose, BufferSize::Unlimited) => {}
        }
    }

    /// Whether the advertised window is larger than a reusable connection may have.
    pub(crate) fn has_open_window(&self) -> bool {
        self.receive_limit.get() == u32::MAX
    }

    fn may_retain_large(&self) -> bool {
        self.receive.reservation.borrow().as_ref().is_some_and(Reservation::may_be_retained)
    }

    fn shrink_to_medium(&self) {
        let mut reservation = self.receive.reservation.take();
        self.shrink(Direction::Receive);
        if reservation.as_mut().is_some_and(|reservation| reservation.resize(MEDIUM_BYTES.into())) {
            self.grow(Direction::Receive, BufferSize::Medium, reservation);
        }
    }

    /// Whether this direction has a size that it keeps only until the connection was idle for two reviews (0.5 s).
    fn retains_idle_in(&self, direction: Direction) -> bool {
        let is_temporary = direction == Direction::Send || self.retention == BufferRetention::UntilIdle;
        is_temporary && self.size(direction) > BufferSize::Small && !self.is_used(direction)
    }

    /// [`Self::retains_idle_in`] for either direction.
    fn retains_idle(&self) -> bool {
        DIRECTIONS.into_iter().any(|direction| self.retains_idle_in(direction))
    }

    /// Whether sweeps must begin after a transfer: a size is retained or memory of a former size is reserved, and no sweeps are running.
    pub(crate) fn begin_sweeps(&self) -> bool {
        let is_due =
            self.retains_idle() || DIRECTIONS.into_iter().any(|direction| self.is_shrinking(direction));
        is_due && !self.is_swept.replace(true)
    }

    /// Releases unneeded memory. Returns whether another sweep is needed. The second sweep without a transfer in between releases a
    /// retained size; while memory is short the first one does.
    pub(crate) fn sweep(&self, is_short: bool) -> bool {
        let is_retained = self.retains_idle() && self.was_used.replace(false) && !is_short;
        for direction in
            DIRECTIONS.into_iter().filter(|direction| !is_retained && self.retains_idle_in(*direction))
        {
            self.shrink(direction);
            if direction == Direction::Send {
                self.limit_unsent(0);
            }
        }
        let needs_sweep = self.release_unused() || is_retained;
        self.is_swept.set(needs_sweep);
        needs_sweep
    }

    /// Whether this direction is small and still has a reservation for bytes of a former size.
    fn is_shrinking(&self, direction: Direction) -> bool {
        let side = self.side(direction);
        side.size.get() == BufferSize::Small && side.reservation.borrow().is_some()
    }

    /// Releases the reservations of former sizes that the kernel no longer holds. Returns whether some are left.
    pub(crate) fn release_unused(&self) -> bool {
        let is_left =
            DIRECTIONS.map(|direction| self.is_shrinking(direction) && self.release_unused_in(direction));
        is_left.contains(&true)
    }

    /// [`Self::release_unused`] for one direction, which is small. Bytes that a peer does not receive stay in the kernel, so they stay
    /// reserved. Otherwise clients that stop one after the other would hold many times the budget.
    pub(super) fn release_unused_in(&self, direction: Direction) -> bool {
        let mut stored = self.side(direction).reservation.borrow_mut();
        let Some(reservation) = stored.as_mut() else { return false };
        let memory = self.memory();
        let bytes = match direction {
            Direction::Receive => memory.received_bytes,
            Direction::Send => memory.queued_bytes,
        };
        let is_left = bytes > u64::from(SMALL_BYTES);
        if is_left {
            reservation.shrink_to(bytes);
        } else {
            *stored = None;
        }
        is_left
    }
}
