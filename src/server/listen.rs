//! Binds listening sockets, and closes them without losing the connections in the backlog.
//!
//! A listening socket that closes resets each connection in its backlog. So [`refuse_new`] first has the kernel drop new SYN segments:
//! handshakes that have begun still complete, and nothing new joins the backlog. A client with a dropped SYN repeats it after
//! 1 s (RFC 6298, 2.1) and is refused then, because the socket is closed. A socket that another process has open too is only closed: its
//! backlog stays, and a filter would act in the other process as well.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::buffers;

/// The most connections that may wait for the acceptor; the kernel limits it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// The settings of a listening socket, which accepted connections inherit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SocketSettings {
    /// `TCP_USER_TIMEOUT` (T4): the kernel closes the connection of a client that accepts no byte for this time, because only the kernel
    /// sees the bytes in its send buffer.
    pub(crate) stall: Duration,
    /// The send buffer, if it is set.
    pub(crate) send_bytes: Option<usize>,
}

impl SocketSettings {
    /// Applies the settings, a small receive buffer, and `TCP_NODELAY`: head and body of a response may be two writes.
    pub(crate) fn apply(self, socket: &impl AsFd) -> io::Result<()> {
        let Self { stall, send_bytes } = self;
        let option = SockRef::from(socket);
        option.set_tcp_nodelay(true)?;
        #[cfg(target_os = "linux")]
        option.set_tcp_user_timeout(Some(stall))?;
        buffers::start_small(socket.as_fd().as_raw_fd());
        send_bytes.map_or(Ok(()), |bytes| option.set_send_buffer_size(bytes))
    }
}

/// Binds a listening socket with these settings.
pub(crate) fn listen(address: SocketAddr, settings: SocketSettings) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    settings.apply(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Drops the SYN segments of new connections from now on, with a socket filter (classic BPF; socket(7), `SO_ATTACH_FILTER`). The filter
/// sees a segment from its TCP header on: byte 13 holds the flags (RFC 9293, 3.1).
#[cfg(target_os = "linux")]
pub(super) fn refuse_new(listener: &TcpListener) -> io::Result<()> {
    use socket2::SockFilter;
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const FLAGS_OFFSET: u32 = 13;
    const SYN: u32 = 0x02;
    const SYN_AND_ACK: u32 = 0x12;
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS_OFFSET),
        SockFilter::new(AND, 0, 0, SYN_AND_ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

/// Shortens the backlog to one connection: this system has no socket filters.
#[cfg(not(target_os = "linux"))]
pub(super) fn refuse_new(listener: &TcpListener) -> io::Result<()> {
    SockRef::from(listener).listen(0)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    /// P1, T4: connections inherit the settings of their listener, so that none costs a system call for each connection
    #[test]
    fn connections_inherit_the_settings() {
        let settings = SocketSettings { stall: Duration::from_secs(7), send_bytes: Some(64 << 10) };
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into(), settings).unwrap();
        listener.set_nonblocking(false).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let option = SockRef::from(&accepted);
        assert!(option.tcp_nodelay().unwrap());
        #[cfg(target_os = "linux")]
        assert_eq!(option.tcp_user_timeout().unwrap(), Some(settings.stall));
        assert_eq!(option.send_buffer_size().unwrap(), SockRef::from(&listener).send_buffer_size().unwrap());
    }
}
