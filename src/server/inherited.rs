//! Listening sockets that were opened by another process: by a service manager, or by the predecessor of an upgrade.

use std::net::TcpListener;

/// The names of the listeners: in the log, in `LISTEN_FDNAMES` and in the messages of an upgrade.
pub(crate) const DATA: &str = "data";
pub(crate) const ADMIN: &str = "admin";

/// The inherited sockets. A listener without one binds its own.
#[derive(Debug, Default)]
pub struct InheritedSockets {
    /// The socket of the data listener.
    pub data: Option<InheritedSocket>,
    /// The socket of the admin listener.
    pub admin: Option<InheritedSocket>,
}

/// An inherited socket.
#[derive(Debug)]
pub struct InheritedSocket {
    /// The listening socket.
    pub socket: TcpListener,
    /// A service manager has it open for the whole life of this process. So nothing may change how the kernel treats its new connections,
    /// and a listener that stops leaves its backlog to the next process.
    pub is_activated: bool,
}

impl InheritedSocket {
    /// A socket of a service manager.
    #[must_use]
    pub fn activated(socket: TcpListener) -> Self {
        Self { socket, is_activated: true }
    }
}
