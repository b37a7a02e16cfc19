//! The start of a successor: it sends `hello`, receives `inherit`, and reports a failed start. `src/gateway/take_over.rs` has the rest.
//!
//! It runs before the configuration is loaded, and outside of a runtime: the variables with secrets come from the predecessor.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use slog::{Logger, warn};
use thiserror::Error;
use zeroize::Zeroizing;

use super::channel::{Channel, ReceiveError, Received, receive_blocking, send_blocking};
use super::message::{Inherit, MAGIC, MESSAGE_BYTES_MAX, PROTOCOL, PredecessorMessage, SuccessorMessage};
use super::variables::{Variables, unpack_variables};
use crate::server::inherited::{ADMIN, DATA, InheritedSocket, InheritedSockets};
use crate::server::tls_tickets::TicketKeys;

/// Why the process cannot take over.
#[derive(Debug, Error)]
pub enum SuccessorError {
    /// The standard input is no channel of an upgrade.
    #[error(
        "the standard input is no channel of an upgrade: {0}; tidegate starts itself with --upgrade-on-stdin"
    )]
    Channel(io::Error),
    /// The predecessor has ended before it handed over.
    #[error("the predecessor ended or gave up before it handed over")]
    PredecessorEnded,
    /// The predecessor sent something else.
    #[error("the predecessor sent another message than the protocol has at its place")]
    UnexpectedMessage,
    /// The predecessor sent more descriptors than a message has.
    #[error("the predecessor sent more descriptors with a message than the protocol has")]
    TooManyDescriptors,
    /// A signal stopped the process before it served.
    #[error("stopped before it took over")]
    Stopped,
}

impl From<ReceiveError> for SuccessorError {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::Ended => Self::PredecessorEnded,
            ReceiveError::NoMessage => Self::UnexpectedMessage,
            ReceiveError::TooManyDescriptors => Self::TooManyDescriptors,
            ReceiveError::Io(error) => Self::Channel(error),
        }
    }
}

/// What the predecessor has handed over before the start.
pub struct Inheritance {
    /// The variables with secrets.
    pub variables: Variables,
    /// The listening sockets.
    pub sockets: InheritedSockets,
    /// The keys of TLS tickets, exported.
    ticket_keys: Zeroizing<Vec<u8>>,
    /// The process ID of the predecessor.
    pub(crate) pid: u32,
    pub(crate) version: String,
    socket: UnixStream,
    report: FailureReport,
}

impl Inheritance {
    /// Reports this process to its predecessor, and receives what that hands over.
    ///
    /// # Errors The standard input is no channel of an upgrade, or the predecessor ends it.
    pub fn receive_on_stdin() -> Result<Self, SuccessorError> {
        let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(SuccessorError::Channel)?;
        let socket = UnixStream::from(stdin);
        let hello = SuccessorMessage::Hello {
            magic: MAGIC.to_owned(),
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
        };
        send_blocking(&socket, &hello).map_err(SuccessorError::Channel)?;
        let Received { message, descriptors } = receive_blocking(&socket, MESSAGE_BYTES_MAX)?;
        let PredecessorMessage::Inherit(inherit) = message else {
            return Err(SuccessorError::UnexpectedMessage);
        };
        let report = socket.try_clone().map_err(SuccessorError::Channel)?;
        let report = FailureReport(Arc::new(Mutex::new(Some(report))));
        Self::new(inherit, descriptors, socket, report)
    }

    fn new(
        mut inherit: Inherit,
        descriptors: Vec<OwnedFd>,
        socket: UnixStream,
        report: FailureReport,
    ) -> Result<Self, SuccessorError> {
        let decode = |text: &str| {
            STANDARD.decode(text).map(Zeroizing::new).map_err(|_| SuccessorError::UnexpectedMessage)
        };
        let mut sockets = InheritedSockets::default();
        for (name, descriptor) in inherit.sockets.iter().zip(descriptors) {
            let is_activated = inherit.activated.contains(name);
            let socket = |descriptor| InheritedSocket { socket: TcpListener::from(descriptor), is_activated };
            match name.as_str() {
                DATA => sockets.data = Some(socket(descriptor)),
                ADMIN => sockets.admin = Some(socket(descriptor)),
                // A later version may have further sockets.
                _ => drop(descriptor),
            }
        }
        Ok(Self {
            variables: unpack_variables(&decode(&inherit.variables)?),
            sockets,
            ticket_keys: decode(&inherit.ticket_keys)?,
            pid: inherit.pid,
            version: std::mem::take(&mut inherit.version),
            socket,
            report,
        })
    }

    /// The keys of TLS tickets: those of the predecessor, unless they cannot be read.
    pub(crate) fn ticket_keys(&self, log: &Logger) -> TicketKeys {
        TicketKeys::import(&self.ticket_keys).unwrap_or_else(|error| {
            warn!(log, "the predecessor's keys of TLS tickets cannot be used: clients begin new TLS sessions"; "error" => error.to_string());
            TicketKeys::generate()
        })
    }

    /// The report of a failure. It must be made as long as the predecessor waits for this process.
    #[must_use]
    pub fn failure_report(&self) -> FailureReport {
        self.report.clone()
    }

    /// The channel for the rest of the upgrade. Must be called inside a runtime.
    pub(crate) fn into_channel(self) -> io::Result<(Channel, FailureReport)> {
        Ok((Channel::new(self.socket)?, self.report))
    }
}

/// Reports to the predecessor why this process ends.
#[derive(Debug, Clone)]
pub struct FailureReport(Arc<Mutex<Option<UnixStream>>>);

impl FailureReport {
    /// Sends the reason. False if the predecessor does not wait for it.
    #[must_use]
    pub fn send(&self, reason: &str) -> bool {
        let message = SuccessorMessage::Failed { reason: reason.to_owned() };
        self.take().is_some_and(|socket| send_blocking(&socket, &message).is_ok())
    }

    /// This process serves: its failures are its own from now on.
    pub(crate) fn end(&self) {
        drop(self.take());
    }

    fn take(&self) -> Option<UnixStream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
