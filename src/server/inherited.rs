//! Listening sockets that the process has inherited.

use std::net::TcpListener;

/// The inherited sockets by listener. One whose address is not that of the configuration is closed.
#[derive(Debug, Default)]
pub struct InheritedSockets {
    /// That of the data listener.
    pub data: Option<TcpListener>,
    /// That of the admin listener.
    pub admin: Option<TcpListener>,
}
