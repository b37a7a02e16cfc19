//! The load of a count: requests for a small object on kept connections, in rounds of one request on each connection.
//!
//! The rounds make the work of the proxy the same in each count: how many sockets are ready at a time depends on the rounds and little on
//! the speed of the machine.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::head;

/// Enough for a few sockets to be ready at a time, as under load. Each has one request in a round.
pub(super) const CONNECTIONS: usize = 16;
/// The wait for one answer of a proxy that runs under callgrind, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);
const BUFFER_BYTES: usize = 64 << 10;

/// Kept connections to a proxy.
pub(super) struct ClosedLoop {
    connections: Vec<TcpStream>,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

impl ClosedLoop {
    /// Connects. `path` is of an object with a length.
    pub(super) fn connect(address: SocketAddr, path: &str) -> io::Result<Self> {
        let open = || {
            let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let connections = (0..CONNECTIONS).map(|_| open()).collect::<io::Result<Vec<_>>>()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").into_bytes();
        Ok(Self { connections, request, buffer: vec![0; BUFFER_BYTES] })
    }

    /// Sends this many requests, rounded down to whole rounds, and receives their answers. Any other answer than 200 is an error.
    pub(super) fn exchange(&mut self, requests: usize) -> io::Result<()> {
        for _ in 0..requests / CONNECTIONS {
            for connection in &mut self.connections {
                connection.write_all(&self.request)?;
            }
            for connection in &mut self.connections {
                receive(connection, &mut self.buffer)?;
            }
        }
        Ok(())
    }
}

fn receive(connection: &mut TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    loop {
        let read = connection.read(&mut buffer[filled..])?;
        if read == 0 {
            return Err(io::Error::other("the proxy closed a connection, or its answer is too long"));
        }
        filled += read;
        let Some(head) = head::response(&buffer[..filled]).map_err(io::Error::other)? else { continue };
        if head.status != 200 {
            let text = String::from_utf8_lossy(&buffer[..filled]);
            return Err(io::Error::other(format!("the proxy answered with {}: {text}", head.status)));
        }
        let mut body = head.body;
        body.feed(&buffer[head.length_bytes..filled], |_| {}).map_err(io::Error::other)?;
        if body.is_done() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn answered(answer: &'static [u8]) -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            for _ in 0..CONNECTIONS {
                let mut stream = listener.accept().unwrap().0;
                std::thread::spawn(move || {
                    let mut request = [0; 1_024];
                    while stream.read(&mut request).is_ok_and(|read| read > 0) {
                        stream.write_all(answer).unwrap();
                    }
                });
            }
        });
        let result = ClosedLoop::connect(address, "/x")?.exchange(2 * CONNECTIONS);
        server.join().unwrap();
        result
    }

    #[test]
    fn whole_answers_are_received_and_others_are_errors() {
        answered(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc").unwrap();
        let refused = answered(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").unwrap_err();
        assert!(refused.to_string().contains("answered with 503"), "{refused}");
    }
}
