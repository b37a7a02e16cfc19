//! The listening sockets of a start: inherited ones where the address is the same, else new ones.

use std::io;
use std::net::{SocketAddr, TcpListener};

use tidegate_config::Config;

use super::{ADMIN, DATA, StartError};
use crate::buffers::send_progress::SendLimits;
use crate::server::inherited::InheritedSockets;
use crate::server::{SocketSettings, listen};

/// Send buffer of an admin connection. A client that does not read holds no more than this in the kernel. With less than a few
/// segments of loopback (64 KiB) a large scrape waits for delayed acknowledgements.
const ADMIN_SEND_BYTES: usize = 256 << 10;

/// The sockets of both listeners.
pub(super) struct ListeningSockets {
    pub(super) data: TcpListener,
    pub(super) admin: TcpListener,
    /// The inherited ones among them.
    pub(super) inherited: Vec<InheritedListener>,
}

/// A socket that this process shares with its predecessor.
pub(super) struct InheritedListener {
    pub(super) name: &'static str,
    duplicate: TcpListener,
    settings: SocketSettings,
}

impl InheritedListener {
    /// Applies the settings of this configuration. The predecessor must not need its own any more.
    pub(super) fn configure(self) -> io::Result<()> {
        self.settings.apply(&self.duplicate)
    }
}

/// Binds the sockets of both listeners, or uses inherited ones.
pub(super) fn listen_both(
    config: &Config,
    sockets: InheritedSockets,
) -> Result<ListeningSockets, StartError> {
    let (server, admin) = (&config.server, &config.admin);
    let data = ConfiguredListener {
        name: DATA,
        key: "server.port",
        address: SocketAddr::new(server.address, server.port),
        settings: SocketSettings { stall: server.write_stall_timeout, send_bytes: None },
    };
    let admin = ConfiguredListener {
        name: ADMIN,
        key: "admin.port",
        address: SocketAddr::new(admin.address, admin.port),
        settings: SocketSettings {
            stall: SendLimits::admin(server).stall(),
            send_bytes: Some(ADMIN_SEND_BYTES),
        },
    };
    let mut inherited = Vec::new();
    let data = data.open(sockets.data, &mut inherited)?;
    let admin = admin.open(sockets.admin, &mut inherited)?;
    Ok(ListeningSockets { data, admin, inherited })
}

struct ConfiguredListener {
    name: &'static str,
    key: &'static str,
    address: SocketAddr,
    settings: SocketSettings,
}

impl ConfiguredListener {
    fn open(
        self,
        socket: Option<TcpListener>,
        inherited: &mut Vec<InheritedListener>,
    ) -> Result<TcpListener, StartError> {
        let Self { name, key, address, settings } = self;
        if let Some(socket) = socket.filter(|socket| socket.local_addr().is_ok_and(|at| fits(at, address))) {
            let duplicate = socket.try_clone()?;
            inherited.push(InheritedListener { name, duplicate, settings });
            return Ok(socket);
        }
        listen(address, settings).map_err(|source| StartError::Listen { key, address, source })
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
