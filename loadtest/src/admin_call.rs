//! Calls of the gateway's admin listener, with a separate connection each.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Maximum of a reply: the reply to a reload shows every changed key.
const REPLY_BYTES_MAX: u64 = 64 << 20;

/// The head and body of the answer to a GET.
pub(crate) fn get(admin: SocketAddr, path: &str, within: Duration) -> io::Result<String> {
    call(admin, "GET", path, within)
}

/// The head and body of the answer.
pub(crate) fn call(admin: SocketAddr, method: &str, path: &str, within: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, within)?;
    stream.set_read_timeout(Some(within))?;
    let length = if method == "POST" { "content-length: 0\r\n" } else { "" };
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n{length}\r\n")?;
    let mut bytes = Vec::new();
    stream.take(REPLY_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
