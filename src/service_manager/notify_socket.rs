//! The socket of the service manager that receives notifications.
//!
//! Each message is one datagram of lines `NAME=VALUE`. The socket stays unconnected, so a service manager that opens its socket again is
//! reached. A send waits at most [`SEND_MAX`], while the service manager reads nothing and its queue is full.

use std::ffi::OsStr;
use std::io;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The longest wait for room in the queue of the service manager.
const SEND_MAX: Duration = Duration::from_secs(1);

/// A socket, and the address of the service manager.
pub(super) struct NotifySocket {
    socket: UnixDatagram,
    to: SocketAddr,
}

impl NotifySocket {
    /// # Errors The address is neither an absolute path nor an abstract name, or there is no descriptor left.
    pub(super) fn new(address: &OsStr) -> io::Result<Self> {
        let to = parse(address)?;
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_MAX))?;
        Ok(Self { socket, to })
    }

    pub(super) fn send(&self, message: &str) -> io::Result<()> {
        self.socket.send_to_addr(message.as_bytes(), &self.to).map(|_| ())
    }
}

/// The address that `NOTIFY_SOCKET` names.
fn parse(address: &OsStr) -> io::Result<SocketAddr> {
    match address.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(address),
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "an address of a kind that is not known")),
    }
}
