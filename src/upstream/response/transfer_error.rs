//! Why the body of a response ends before its last byte.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::buffers::cut::TransferCut;

/// Why a transfer was aborted.
#[derive(Debug, Error)]
pub(crate) enum TransferError {
    /// The upstream closed the connection too early.
    #[error("the upstream closed the connection after {received} of {expected} bytes")]
    Short {
        /// Received bytes.
        received: u64,
        /// Declared bytes.
        expected: u64,
    },
    /// The connection to the upstream broke.
    #[error("the connection to the upstream broke: {0}")]
    Broken(io::Error),
    /// The body does not match its checksum.
    #[error("the body of the upstream does not match the checksum in its {0}")]
    Checksum(&'static str),
    /// No byte within the idle timeout.
    #[error("the upstream sent nothing for {0:?}")]
    Idle(Duration),
    /// The transfer was cut.
    #[error("the gateway cut the transfer: {}", .0.reason())]
    Cut(TransferCut),
}
