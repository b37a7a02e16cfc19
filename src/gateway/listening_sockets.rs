//! The listening sockets of both listeners: inherited, or bound to the configured address.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use slog::{Logger, warn};
use tidegate_config::Config;

use super::{ADMIN, ADMIN_SEND_BYTES, DATA, StartError};
use crate::buffers::send_progress::SendLimits;
use crate::server;
use crate::server::inherited::InheritedSockets;

/// An open listening socket.
pub(super) struct ListeningSocket {
    pub(super) socket: TcpListener,
    pub(super) address: SocketAddr,
    /// Another process has opened it, and has it open too.
    pub(super) is_inherited: bool,
}

/// The sockets of both listeners.
pub(super) struct ListeningSockets {
    pub(super) data: ListeningSocket,
    pub(super) admin: ListeningSocket,
}

impl ListeningSockets {
    /// Adopts the inherited sockets and binds the others.
    pub(super) fn open(
        config: &Config,
        inherited: InheritedSockets,
        log: &Logger,
    ) -> Result<Self, StartError> {
        let (server, admin) = (&config.server, &config.admin);
        let data = ListenerSettings {
            name: DATA,
            key: "server.port",
            address: SocketAddr::new(server.address, server.port),
            stall: server.write_stall_timeout,
            send_bytes: None,
        };
        let admin = ListenerSettings {
            name: ADMIN,
            key: "admin.port",
            address: SocketAddr::new(admin.address, admin.port),
            stall: SendLimits::admin(server).stall(),
            send_bytes: Some(ADMIN_SEND_BYTES),
        };
        Ok(Self { data: data.open(inherited.data, log)?, admin: admin.open(inherited.admin, log)? })
    }

    /// The names of the inherited ones.
    pub(super) fn inherited(&self) -> Vec<&'static str> {
        let both = [(DATA, &self.data), (ADMIN, &self.admin)];
        both.into_iter().filter_map(|(name, socket)| socket.is_inherited.then_some(name)).collect()
    }
}

/// What a listener needs of its socket.
struct ListenerSettings {
    name: &'static str,
    /// The configuration key of the port.
    key: &'static str,
    address: SocketAddr,
    stall: Duration,
    send_bytes: Option<usize>,
}

impl ListenerSettings {
    fn open(self, inherited: Option<TcpListener>, log: &Logger) -> Result<ListeningSocket, StartError> {
        let (is_inherited, configured) = (inherited.is_some(), self.address);
        let (key, address) = (self.key, self.address);
        let failed = |source: io::Error| StartError::Listen { key, address, source };
        let socket = match inherited {
            Some(socket) => {
                server::adopt(&socket, self.stall, self.send_bytes)?;
                socket
            }
            None => server::listen(address, self.stall, self.send_bytes).map_err(failed)?,
        };
        let address = socket.local_addr()?;
        if is_inherited && configured.port() != 0 && address.port() != configured.port() {
            warn!(log, "the listener has the port of the inherited socket, not the configured one"; "listener" => self.name,
                "address" => address.to_string(), "key" => key,
                "hint" => format!("set {key} to {}, because the commands of tidegate and its warnings read the key", address.port()));
        }
        Ok(ListeningSocket { socket, address, is_inherited })
    }
}
