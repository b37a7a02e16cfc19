//! Listening sockets that the process has inherited.

use std::net::TcpListener;

/// The inherited sockets by listener. A socket with another address than that of the configuration is closed.
#[derive(Debug, Default)]
pub struct InheritedSockets {
    /// That of the data listener.
    pub data: Option<TcpListener>,
    /// That of the admin listener.
    pub admin: Option<TcpListener>,
}
