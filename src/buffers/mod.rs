//! Memory of bodies that pass through the gateway: kernel buffers that follow the client's pace, and what happens when memory is short.
//!
//! A body of more than [`LARGE_BODY_BYTES`] is a [`Transfer`]: it has the socket that it comes from and the socket that it goes to. Both
//! buffers start small, grow together as the bytes flow (`pace.rs`) within a budget of the process (`budget.rs`), and
//! are small again at its end. Each worker visits its transfers at each sample of the monitor (`transfers.rs`): it
//! makes those small that slowed down, all of them from `warning` of memory on, and at `exhausted` it pauses and
//! finally cuts the heaviest (`pausing.rs`). A smaller body costs a comparison for each piece.
//! `docs/design/buffers.md` has the rule, its measurements, and what the kernel does with each option.
//!
//! Deliberately absent: buffers of other sockets (admin listener, key sets, credentials), which carry small documents.

mod budget;
mod metrics;
mod pause_policy;
mod sample;
mod socket;
mod sockopt;
mod transfer;
mod transfers;
mod tuning;

pub(crate) use budget::{BufferBudget, Reservation};
pub(crate) use metrics::BufferMetrics;
pub(crate) use sample::MemorySample;
pub(crate) use socket::{BufferRetention, OpenSocket, SocketBuffers};
pub(crate) use sockopt::start_small;
pub(crate) use transfer::{LARGE_BODY_BYTES, SMALL_BODY_BYTES, Transfer, TransferGate};
pub(crate) use transfers::{Transfers, apply_sample};
