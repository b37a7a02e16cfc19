//! Reserved loopback ports.
//!
//! A port that is only checked to be free can be taken before its server binds it. A reservation is a socket that is bound and never
//! listens: the kernel gives its port to no other socket, except to one that sets `SO_REUSEADDR` too, as servers do (socket(7), ip(7)).

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use rand::Rng as _;
use socket2::{Domain, Socket, Type};

/// Below Linux's range of ephemeral ports (32768 to 60999), so that a port is seldom in use.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
const ATTEMPTS: usize = 200;

/// A loopback port that no other program gets until the drop. A connection to it is refused while no server listens on it.
#[derive(Debug)]
pub(crate) struct ReservedPort {
    address: SocketAddr,
    _socket: Socket,
}

impl ReservedPort {
    /// Reserves a port of 127.0.0.1.
    pub(crate) fn reserve() -> io::Result<Self> {
        let mut random = rand::rng();
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..ATTEMPTS {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, random.random_range(PORTS)));
            match Self::bind(address) {
                Ok(socket) => return Ok(Self { address, _socket: socket }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The address to listen on, with `SO_REUSEADDR`.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    fn bind(address: SocketAddr) -> io::Result<Socket> {
        // Without SO_REUSEADDR the bind fails if another reservation has the port.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&address.into())?;
        // With it, the server can bind the port too.
        socket.set_reuse_address(true)?;
        Ok(socket)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_reserved_port_is_given_once_and_a_server_can_listen_on_it() {
        let port = ReservedPort::reserve().unwrap();
        assert_eq!(ReservedPort::bind(port.address()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        for _ in 0..2 {
            assert_eq!(
                TcpStream::connect(port.address()).unwrap_err().kind(),
                io::ErrorKind::ConnectionRefused
            );
            // std sets SO_REUSEADDR.
            let listener = TcpListener::bind(port.address()).unwrap();
            let client = TcpStream::connect(port.address()).unwrap();
            drop((listener.accept().unwrap(), listener, client));
        }
    }
}
