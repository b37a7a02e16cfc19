//! The upstream of a count: it answers the requests of a round when all of them have arrived.
//!
//! So the proxy has two batches of work in each round, whatever the speed of the machine: the requests, and the answers.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Barrier};

use super::closed_loop::CONNECTIONS;

const BODY_BYTES: usize = 1 << 10;
const HEAD_END: &[u8] = b"\r\n\r\n";

/// Starts the upstream; returns its address. Its threads end with their connections, the accepting one with the program.
pub(super) fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let round = Arc::new(Barrier::new(CONNECTIONS));
    std::thread::Builder::new().name("upstream".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let round = Arc::clone(&round);
            std::thread::spawn(move || {
                // An error is the end of the connection, and of the proxy: its answer is missing in the load.
                let _ = serve(stream, &round);
            });
        }
    })?;
    Ok(address)
}

/// Answers each request of one connection. Without a request for a round, the other connections wait: each has one request in a round.
fn serve(mut stream: TcpStream, round: &Barrier) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut response = format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY_BYTES}\r\n\r\n").into_bytes();
    response.resize(response.len() + BODY_BYTES, b'x');
    let (mut buffer, mut filled) = ([0; 16 << 10], 0);
    loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        if buffer[..filled].ends_with(HEAD_END) {
            filled = 0;
            round.wait();
            stream.write_all(&response)?;
        }
    }
}
