//! The memory of finished answers that still wait for their clients (V10).
//!
//! The body of an answer that fits this memory ends although its client has not taken the last bytes, so its place in the
//! bucket and its slot are free. The memory is bounded for each connection (`server.send_buffer_per_connection`) and for the
//! process (`server.send_buffer`). Where no more is to be had, a connection reads a body only as fast as its client takes it.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::worker::{Shared, Worker};

/// What is reserved in the whole process, in bytes.
#[derive(Debug, Default)]
pub(crate) struct ReservedBytes(AtomicU64);

impl ReservedBytes {
    fn try_add(&self, bytes: u64, limit: u64) -> bool {
        let add = |reserved: u64| reserved.checked_add(bytes).filter(|sum| *sum <= limit);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    fn subtract(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes that are reserved now.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one connection has reserved.
pub(crate) struct ConnectionBuffer {
    shared: Arc<Shared>,
    reserved: Cell<u64>,
}

/// Memory for bytes that wait for the client. Dropping it gives it back.
#[must_use = "a reservation that is dropped is given back"]
pub(crate) struct Reservation {
    buffer: Rc<ConnectionBuffer>,
    bytes: u64,
}

impl ConnectionBuffer {
    /// For one connection.
    pub(crate) fn new(worker: &Worker) -> Rc<Self> {
        Rc::new(Self { shared: Arc::clone(&worker.shared), reserved: Cell::new(0) })
    }

    /// Reserves memory for so many bytes; none if that would be more than the connection or the process may hold.
    pub(crate) fn try_reserve(self: &Rc<Self>, bytes: usize) -> Option<Reservation> {
        let bytes = bytes as u64;
        let server = &self.shared.config.server;
        let reserved = self.reserved.get().checked_add(bytes)?;
        if reserved > server.send_buffer_per_connection
            || !self.shared.send_buffer.try_add(bytes, server.send_buffer)
        {
            return None;
        }
        self.reserved.set(reserved);
        Some(Reservation { buffer: Rc::clone(self), bytes })
    }
}

impl Reservation {
    /// Gives part of it back: so many bytes were written.
    pub(crate) fn release(&mut self, bytes: usize) {
        let bytes = (bytes as u64).min(self.bytes);
        self.bytes -= bytes;
        self.buffer.reserved.set(self.buffer.reserved.get().saturating_sub(bytes));
        self.buffer.shared.send_buffer.subtract(bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release(usize::MAX);
    }
}
