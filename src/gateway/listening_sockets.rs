//! The listening sockets of both listeners: inherited, or bound to the configured address.

use std::io;
use std::net::{SocketAddr, TcpListener};

use slog::{Logger, warn};
use tidegate_config::Config;

use super::{ADMIN, DATA, StartError};
use crate::buffers::send_progress::SendLimits;
use crate::server::inherited::{InheritedSocket, InheritedSockets};
use crate::server::{SocketSettings, listen};

/// Send buffer of an admin connection. A client that does not read holds no more than this in the kernel. With less than a few
/// segments of loopback (64 KiB) a large scrape waits for delayed acknowledgements.
const ADMIN_SEND_BYTES: usize = 256 << 10;

/// An open listening socket.
pub(super) struct ListeningSocket {
    pub(super) socket: TcpListener,
    pub(super) address: SocketAddr,
    is_inherited: bool,
    /// A service manager has it open too.
    pub(super) is_activated: bool,
}

/// The sockets of both listeners.
pub(super) struct ListeningSockets {
    pub(super) data: ListeningSocket,
    pub(super) admin: ListeningSocket,
    /// Those that a predecessor uses until it hands over.
    pub(super) shared: Vec<SharedSocket>,
}

/// A socket that this process shares with its predecessor.
pub(super) struct SharedSocket {
    pub(super) name: &'static str,
    duplicate: TcpListener,
    settings: SocketSettings,
}

impl SharedSocket {
    /// Applies the settings of this configuration. The predecessor must not need its own any more.
    pub(super) fn configure(self) -> io::Result<()> {
        self.settings.apply(&self.duplicate)
    }
}

impl ListeningSockets {
    /// Uses the inherited sockets and binds the others. `is_successor`: the sockets are a predecessor's, which still uses them.
    pub(super) fn open(
        config: &Config,
        inherited: InheritedSockets,
        is_successor: bool,
        log: &Logger,
    ) -> Result<Self, StartError> {
        let (server, admin) = (&config.server, &config.admin);
        let data = ListenerSettings {
            name: DATA,
            key: "server.port",
            address: SocketAddr::new(server.address, server.port),
            settings: SocketSettings { stall: server.write_stall_timeout, send_bytes: None },
        };
        let admin = ListenerSettings {
            name: ADMIN,
            key: "admin.port",
            address: SocketAddr::new(admin.address, admin.port),
            settings: SocketSettings {
                stall: SendLimits::admin(server).stall(),
                send_bytes: Some(ADMIN_SEND_BYTES),
            },
        };
        let mut shared = is_successor.then(Vec::new);
        let data = data.open(inherited.data, &mut shared, log)?;
        let admin = admin.open(inherited.admin, &mut shared, log)?;
        Ok(Self { data, admin, shared: shared.unwrap_or_default() })
    }

    /// The names of the inherited ones; none without any.
    pub(super) fn inherited(&self) -> Option<String> {
        let both = [(DATA, &self.data), (ADMIN, &self.admin)];
        let names = both.into_iter().filter_map(|(name, socket)| socket.is_inherited.then_some(name));
        Some(names.collect::<Vec<_>>().join(", ")).filter(|names| !names.is_empty())
    }
}

/// What a listener needs of its socket.
struct ListenerSettings {
    name: &'static str,
    /// The configuration key of the port.
    key: &'static str,
    address: SocketAddr,
    settings: SocketSettings,
}

impl ListenerSettings {
    /// `shared` gets the socket of a predecessor.
    fn open(
        self,
        inherited: Option<InheritedSocket>,
        shared: &mut Option<Vec<SharedSocket>>,
        log: &Logger,
    ) -> Result<ListeningSocket, StartError> {
        let Self { name, key, address, settings } = self;
        let Some(InheritedSocket { socket, is_activated }) = inherited.filter(|socket| self.accepts(socket))
        else {
            let socket =
                listen(address, settings).map_err(|source| StartError::Listen { key, address, source })?;
            let address = socket.local_addr()?;
            return Ok(ListeningSocket { socket, address, is_inherited: false, is_activated: false });
        };
        socket.set_nonblocking(true)?;
        match shared {
            Some(shared) => shared.push(SharedSocket { name, duplicate: socket.try_clone()?, settings }),
            None => settings.apply(&socket)?,
        }
        let (configured, address) = (address, socket.local_addr()?);
        if configured.port() != 0 && address.port() != configured.port() {
            warn!(log, "the listener has the port of the inherited socket, not the configured one"; "listener" => name,
                "address" => address.to_string(), "key" => key,
                "hint" => format!("set {key} to {}, because the commands of tidegate and its warnings read the key", address.port()));
        }
        Ok(ListeningSocket { socket, address, is_inherited: true, is_activated })
    }

    /// Whether the listener uses an inherited socket: that of a service manager always, that of a predecessor at the configured address.
    fn accepts(&self, inherited: &InheritedSocket) -> bool {
        inherited.is_activated || inherited.socket.local_addr().is_ok_and(|at| fits(at, self.address))
    }
}

/// Whether a socket has the configured address. Port 0 is any port.
fn fits(socket: SocketAddr, configured: SocketAddr) -> bool {
    socket.ip() == configured.ip() && (configured.port() == 0 || socket.port() == configured.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G8: a socket is inherited if address and port are equal; port 0 is any port
    #[test]
    fn a_socket_fits_its_address() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let fits = |socket, configured| fits(address(socket), address(configured));
        assert!(fits("127.0.0.1:80", "127.0.0.1:80") && fits("127.0.0.1:80", "127.0.0.1:0"));
        assert!(!fits("127.0.0.1:80", "127.0.0.1:81") && !fits("127.0.0.1:80", "0.0.0.0:80"));
        assert!(!fits("[::]:80", "0.0.0.0:0"));
    }
}
