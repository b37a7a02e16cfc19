//! Why a request has no response.

use std::io;

use thiserror::Error;

use crate::shortage::{Shortage, record_shortage};
use crate::upstream::exchange::response_head_error::ResponseHeadError;

/// Why a request has no response.
#[derive(Debug, Error)]
pub(crate) enum SendError {
    /// No connection could be made.
    #[error("{0}")]
    Connect(io::Error),
    /// No connection in time.
    #[error("no connection within the connect timeout")]
    ConnectTimeout,
    /// A connection that had served other requests was closed before a byte of the response.
    #[error("the upstream closed a reused connection: {0}")]
    ReusedClosed(io::Error),
    /// The connection broke, or the request body failed.
    #[error("{0}")]
    Io(io::Error),
    /// The head of the response is refused.
    #[error("{0}")]
    Head(#[from] ResponseHeadError),
}

impl SendError {
    /// The gateway's own resource shortage that kept the request from being sent.
    pub(crate) fn shortage(&self) -> Option<Shortage> {
        match self {
            Self::Connect(error) => Shortage::of(error),
            Self::Io(error) => Shortage::of_system(error).inspect(|shortage| record_shortage(*shortage)),
            Self::ConnectTimeout | Self::ReusedClosed(_) | Self::Head(_) => None,
        }
    }
}

/// Whether an error means that the upstream had closed the connection.
pub(super) fn is_close(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
    )
}
