//! Why a request to the admin listener has no usable reply.

use std::io;

use thiserror::Error;

use super::{ClientError, InvalidTarget};

/// No usable reply. The exit code of the commands is 3.
#[derive(Debug, Error)]
pub(crate) enum ReplyError {
    #[error("{0}")]
    Target(#[from] InvalidTarget),
    #[error("the running gateway cannot be asked: {0}")]
    Client(#[from] ClientError),
    #[error("{host} refused the request with {status}: {detail}{hint}")]
    Refused {
        host: String,
        status: u16,
        detail: String,
        /// Whether the detail is that of an admin listener.
        has_document: bool,
        hint: &'static str,
    },
    #[error("{host} sent no {document}; is it the admin listener of a tidegate?")]
    NoDocument { host: String, document: &'static str },
    #[error("the connection to {host} broke: {source}")]
    Broken { host: String, source: io::Error },
}
