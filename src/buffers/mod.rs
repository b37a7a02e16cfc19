//! Socket buffers of large bodies: their sizes, and the pauses and cuts when memory is short.
//!
//! A body of more than [`LARGE_BODY_BYTES`] is a [`Transfer`] with a source socket and a sink socket. Both buffers start small, grow
//! together with the throughput (`tuning.rs`) within the budget of the process (`budget.rs`), and are small again at the end of the body.
//! With each sample of the monitor each worker shrinks the transfers that have slowed down, and all of them at `warning` of memory or above
//! (`transfers.rs`). At `exhausted` it pauses the largest transfers and finally cuts them (`pause_policy.rs`). These are the actions
//! `receive_buffers`, `pause_transfers` and `cut_transfers`. A smaller body costs one comparison for each piece. Answers that nothing
//! inspects pass through the pipe of the thread (`pipe.rs`).
//!
//! This module does not size the buffers of other sockets (admin listener, key sets, credentials), which carry small documents. Rules,
//! measurements and the effect of each socket option: `docs/design/buffers.md`.

pub(crate) mod body_memory;
mod budget;
pub(crate) mod client_wait;
pub(crate) mod cut;
mod flow_state;
mod metrics;
mod pause_policy;
pub(crate) mod pipe;
mod reserved_bytes;
pub(crate) mod revocation;
mod sample;
mod send_pace;
pub(crate) mod send_progress;
mod socket;
mod sockopt;
mod transfer;
mod transfer_decisions;
mod transfers;
mod tuning;

pub(crate) use budget::{BufferBudget, Reservation};
pub(crate) use flow_state::TransferGate;
pub(crate) use metrics::BufferMetrics;
pub(crate) use reserved_bytes::ReservedBytes;
pub(crate) use sample::{MemorySample, TransferLevels};
pub(crate) use socket::{BufferRetention, OpenSocket, SocketBuffers};
pub(crate) use sockopt::{start_small, would_close_first};
pub(crate) use transfer::{LARGE_BODY_BYTES, SMALL_BODY_BYTES, Transfer};
pub(crate) use transfer_decisions::TransferDecisions;
pub(crate) use transfers::{SampleEffect, Transfers, apply_sample};
