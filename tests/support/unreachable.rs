//! Unreachable addresses: one refuses connections, the other never completes them.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// A bound port that does not listen: connections are refused, and no other process can bind it.
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

/// A port with a full backlog that is never accepted from: the kernel drops new SYNs.
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
