//! Linux socket options that neither the standard library nor socket2 has.

#![expect(unsafe_code, reason = "setsockopt and getsockopt of options that no safe wrapper has")]

use std::os::fd::RawFd;

use libc::{SOL_SOCKET, c_int, c_void, socklen_t};

/// `include/uapi/asm-generic/socket.h`; Linux 5.15.
const SO_BUF_LOCK: c_int = 72;
/// `include/uapi/linux/socket.h`.
const SOCK_RCVBUF_LOCK: u32 = 2;
/// `include/uapi/linux/sock_diag.h`: the values that SO_MEMINFO fills.
const MEMORY_VALUES: usize = 9;

/// Kernel memory of one socket, in bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketMemory {
    /// Received and queued bytes with their overhead, and memory that is allocated ahead.
    pub(crate) held_bytes: u64,
    /// The limit of the receive buffer.
    pub(crate) receive_limit: u64,
    /// The limit of the send buffer.
    pub(crate) send_limit: u64,
    /// Received bytes that were not read.
    pub(crate) received_bytes: u64,
    /// Bytes that wait to be sent or acknowledged.
    pub(crate) queued_bytes: u64,
}

fn set(socket: RawFd, level: c_int, option: c_int, value: u32) {
    let value = c_int::try_from(value).unwrap_or(c_int::MAX);
    #[expect(clippy::cast_possible_truncation, reason = "the size of an integer")]
    let length = size_of::<c_int>() as socklen_t;
    // SAFETY: the pointer and the length are those of `value`, which lives until the call returns. The kernel only reads it.
    let _ = unsafe { libc::setsockopt(socket, level, option, (&raw const value).cast::<c_void>(), length) };
}

/// Fills `values`. Returns how many bytes the kernel wrote; 0 if it does not have the option.
fn get<const N: usize>(socket: RawFd, level: c_int, option: c_int, values: &mut [u32; N]) -> usize {
    let Ok(mut length) = socklen_t::try_from(size_of_val(values)) else { return 0 };
    // SAFETY: the pointer and the length are those of `values`; the kernel writes at most `length` bytes, and any bytes are valid u32.
    let result = unsafe {
        libc::getsockopt(socket, level, option, values.as_mut_ptr().cast::<c_void>(), &raw mut length)
    };
    if result == 0 { length as usize } else { 0 }
}

/// Sets `SO_RCVBUF` so that the kernel accounts at most `bytes`: it doubles the value (socket(7)).
pub(super) fn set_receive_buffer(socket: RawFd, bytes: u32) {
    set(socket, SOL_SOCKET, libc::SO_RCVBUF, bytes / 2);
}

/// Limits the unsent bytes in the send buffer: `TCP_NOTSENT_LOWAT` (Linux `ip-sysctl`). 0 is the system's default.
pub(super) fn set_unsent_limit(socket: RawFd, bytes: u32) {
    set(socket, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, bytes);
}

/// Limits the window that is advertised from now on: `TCP_WINDOW_CLAMP` (tcp(7)).
pub(super) fn set_window_clamp(socket: RawFd, bytes: u32) {
    set(socket, libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP, bytes);
}

/// Forbids or allows the kernel to size the receive buffer. It continues to size the send buffer.
pub(super) fn lock_receive_buffer(socket: RawFd, is_locked: bool) {
    set(socket, SOL_SOCKET, SO_BUF_LOCK, if is_locked { SOCK_RCVBUF_LOCK } else { 0 });
}

/// The kernel's estimate of the size of the peer's segments, `tcpi_rcv_mss` (`include/uapi/linux/tcp.h`).
pub(super) fn received_segment(socket: RawFd) -> u32 {
    // Eight bytes, then rto, ato, snd_mss, rcv_mss.
    let mut values = [0_u32; 6];
    let filled = get(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut values);
    if filled == size_of_val(&values) { values[5] } else { 0 }
}

/// States in which the peer has not closed its side: `tcpi_state` ESTABLISHED, FIN_WAIT1, FIN_WAIT2 (`include/net/tcp_states.h`).
const OPEN_AT_PEER: [u8; 3] = [1, 4, 5];

/// Whether closing this TCP socket leaves its port in TIME_WAIT: the peer has not closed its side, and no received bytes are unread, which
/// would reset the connection (RFC 1122 4.2.2.13).
pub(crate) fn would_close_first(socket: RawFd) -> bool {
    let mut values = [0_u32; 1];
    let filled = get(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut values);
    let [state, ..] = values[0].to_ne_bytes();
    filled > 0 && OPEN_AT_PEER.contains(&state) && memory(socket).received_bytes == 0
}

/// Reads `SO_MEMINFO`.
pub(super) fn memory(socket: RawFd) -> SocketMemory {
    let mut values = [0_u32; MEMORY_VALUES];
    if get(socket, SOL_SOCKET, libc::SO_MEMINFO, &mut values) == 0 {
        return SocketMemory::default();
    }
    let [received, receive_limit, _, send_limit, ahead, queued, ..] = values.map(u64::from);
    SocketMemory {
        held_bytes: received + queued + ahead,
        receive_limit,
        send_limit,
        received_bytes: received,
        queued_bytes: queued,
    }
}

/// Sets a small initial receive buffer for the connections of a listener. The kernel grows the buffers as before, and announces the same
/// window scale.
pub(crate) fn start_small(socket: RawFd) {
    set_receive_buffer(socket, super::socket::RECEIVE_BYTES_MIN);
    lock_receive_buffer(socket, false);
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    use super::*;

    /// X1: a port stays in TIME_WAIT only on the side that closes first
    #[test]
    fn only_the_side_that_closes_first_keeps_its_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let pair = || {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (client, listener.accept().unwrap().0)
        };
        let (client, mut server) = pair();
        assert!(would_close_first(client.as_raw_fd()));
        client.shutdown(Shutdown::Write).unwrap();
        assert!(would_close_first(client.as_raw_fd()), "half closed by this side");
        assert_eq!(server.read(&mut [0; 8]).unwrap(), 0);
        assert!(!would_close_first(server.as_raw_fd()), "the peer has closed");

        let (client, mut server) = pair();
        server.write_all(b"unread").unwrap();
        client.peek(&mut [0; 8]).unwrap();
        assert!(!would_close_first(client.as_raw_fd()), "unread bytes reset the connection");
        assert!(!would_close_first(-1), "no socket");
    }
}
