//! The memory for finished responses that still wait for their clients (V10).
//!
//! The body of a response that fits this memory ends although its client has not read the last bytes, so its permit
//! and its slot are released. The memory is bounded for each connection (`server.send_buffer_per_connection`) and for
//! the process (`server.send_buffer`). If none is left, a connection reads a body only as fast as its client reads
//! it. Connections of the admin listener have no share of it, so their readers cannot use it up.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use crate::process::Process;
use crate::worker::Worker;

/// The reservations of one connection.
pub(crate) struct ConnectionBuffer {
    process: Arc<Process>,
    reserved: Cell<u64>,
    /// `server.send_buffer_per_connection`
    max: u64,
    /// `server.send_buffer`
    process_max: u64,
}

/// Memory for bytes that wait for the client. Dropping it releases the memory.
#[must_use = "a dropped reservation is released"]
pub(crate) struct Reservation {
    buffer: Rc<ConnectionBuffer>,
    bytes: u64,
}

impl ConnectionBuffer {
    pub(crate) fn new(worker: &Worker) -> Rc<Self> {
        let (max, process_max) = (worker.limits.send_buffer, worker.shared.config.server.send_buffer);
        Rc::new(Self { process: Arc::clone(&worker.process), reserved: Cell::new(0), max, process_max })
    }

    /// Reserves memory for this number of bytes; `None` beyond the limit of the connection or of the process.
    pub(crate) fn try_reserve(self: &Rc<Self>, bytes: usize) -> Option<Reservation> {
        let bytes = bytes as u64;
        let reserved = self.reserved.get().checked_add(bytes)?;
        if reserved > self.max || !self.process.send_buffer.try_add(bytes, self.process_max) {
            return None;
        }
        self.reserved.set(reserved);
        Some(Reservation { buffer: Rc::clone(self), bytes })
    }
}

impl Reservation {
    /// Releases memory of bytes that were written.
    pub(crate) fn release(&mut self, bytes: usize) {
        let bytes = (bytes as u64).min(self.bytes);
        self.bytes -= bytes;
        self.buffer.reserved.set(self.buffer.reserved.get().saturating_sub(bytes));
        self.buffer.process.send_buffer.subtract(bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release(usize::MAX);
    }
}
