//! Addresses that do not answer, honestly: one that refuses connections and one that leaves them hanging.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// A port that is bound, so that nobody else gets it, but does not listen: connections are refused.
pub(crate) struct RefusingAddress {
    pub(crate) address: SocketAddr,
    _socket: Socket,
}

impl RefusingAddress {
    pub(crate) fn new() -> Self {
        let socket = bound();
        Self { address: local(&socket), _socket: socket }
    }
}

/// A port whose backlog is full and never taken from: the kernel drops what tries to connect.
pub(crate) struct UnresponsiveAddress {
    pub(crate) address: SocketAddr,
    _socket: Socket,
    _filling: Vec<TcpStream>,
}

impl UnresponsiveAddress {
    pub(crate) fn new() -> Self {
        let socket = bound();
        socket.listen(0).unwrap();
        let address = local(&socket);
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
        let filling: Vec<TcpStream> = std::iter::from_fn(connect).take(16).collect();
        assert!(filling.len() < 16, "the backlog does not fill");
        Self { address, _socket: socket, _filling: filling }
    }
}

fn bound() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket
}

fn local(socket: &Socket) -> SocketAddr {
    socket.local_addr().unwrap().as_socket().unwrap()
}
