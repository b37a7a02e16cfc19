//! Listening sockets that were opened by another process: by a service manager, or by the predecessor of an upgrade.

use std::net::TcpListener;

/// The inherited sockets. A listener without one binds its own.
///
/// Another process has these sockets open too. So nothing may change how the kernel treats their new connections, and a listener that
/// stops leaves its backlog to that process.
#[derive(Debug, Default)]
pub struct InheritedSockets {
    /// The socket of the data listener.
    pub data: Option<TcpListener>,
    /// The socket of the admin listener.
    pub admin: Option<TcpListener>,
}
