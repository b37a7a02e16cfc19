//! An HTTP/1.1 client that sends the given bytes and returns the received ones.
//!
//! It uses no HTTP library, because tests of framing must see the framing. A body that ends before its announced end is
//! reported as broken and never as complete.

use std::net::SocketAddr;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::WAIT_MAX;

/// An answer as received.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// In order, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// How the transfer broke; none if the body is complete.
    pub(crate) broken: Option<String>,
}

impl Response {
    /// The first header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers_named(name).first().copied()
    }

    /// Every header of this name, in order.
    pub(crate) fn headers_named(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(each, _)| each == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The reason of the gateway's own answer; empty for an upstream's.
    pub(crate) fn reason(&self) -> &str {
        self.header("x-tidegate-reason").unwrap_or_default()
    }

    /// The seconds in Retry-After.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        self.header("retry-after").map(|value| value.parse().unwrap())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The text of the first element of this name in an XML document.
    pub(crate) fn element(&self, name: &str) -> Option<String> {
        let text = self.text();
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(inner, _)| inner.to_owned())
    }

    pub(crate) fn sha256(&self) -> String {
        sha256(&self.body)
    }

    /// The status; fails for an incomplete body.
    pub(crate) fn complete_status(&self) -> u16 {
        assert_eq!(self.broken, None, "{self:?}");
        self.status
    }
}

/// The hash in hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// One connection.
pub(crate) struct Client<S = TcpStream> {
    stream: S,
    unread: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = timeout(WAIT_MAX, TcpStream::connect(address)).await.expect("connects in time").unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, unread: Vec::new() }
    }

    /// Connects from this address, with a receive buffer of about this size if one is given.
    pub(crate) async fn connect_from(
        local: [u8; 4],
        address: SocketAddr,
        receive_bytes: Option<u32>,
    ) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((local, 0))).unwrap();
        if let Some(bytes) = receive_bytes {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        let stream = timeout(WAIT_MAX, socket.connect(address)).await.expect("connects in time").unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, unread: Vec::new() }
    }

    /// Closes with a reset instead of a FIN.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Uses an existing connection.
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, unread: Vec::new() }
    }

    /// Sends these bytes; fails if the peer does not accept them.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    /// Sends these bytes; returns an error if the peer does not accept them.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        let writing = async {
            self.stream.write_all(bytes.as_ref()).await?;
            self.stream.flush().await
        };
        timeout(WAIT_MAX, writing).await.expect("the peer takes bytes in time")
    }

    /// The answer's status line and headers, with an empty body.
    pub(crate) async fn head(&mut self) -> Response {
        self.try_head().await.expect("an answer's head")
    }

    /// The head, or none if the connection ends first.
    pub(crate) async fn try_head(&mut self) -> Option<Response> {
        let end = loop {
            if let Some(at) = find(&self.unread, b"\r\n\r\n") {
                break at;
            }
            if self.fill().await.is_err() {
                return None;
            }
        };
        let head = latin1(&self.unread[..end]);
        self.unread.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).expect("a status").parse().unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(':').expect("a header");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        Some(Response { status, headers: lines.map(header).collect(), body: Vec::new(), broken: None })
    }

    /// A complete answer to a request of this method; interim answers are skipped.
    pub(crate) async fn response(&mut self, method: &str) -> Response {
        self.try_response(method).await.expect("an answer")
    }

    /// A complete answer, or none if the connection ends before a head.
    pub(crate) async fn try_response(&mut self, method: &str) -> Option<Response> {
        let mut answer = self.try_head().await?;
        while (100..200).contains(&answer.status) {
            answer = self.try_head().await?;
        }
        self.body(&mut answer, method).await;
        Some(answer)
    }

    /// Reads the body that belongs to this head.
    pub(crate) async fn body(&mut self, answer: &mut Response, method: &str) {
        let read = if method == "HEAD" || matches!(answer.status, 100..=199 | 204 | 304) {
            Ok(())
        } else if answer
            .header("transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
        {
            self.read_chunks(&mut answer.body).await
        } else if let Some(length) = answer.header("content-length") {
            let length = length.parse().unwrap();
            self.read_exactly(length, &mut answer.body).await
        } else {
            while self.fill().await.is_ok() {}
            answer.body.append(&mut self.unread);
            Ok(())
        };
        answer.broken = read.err();
    }

    /// Reads at least one more byte, or returns the error.
    pub(crate) async fn read_some(&mut self) -> Result<Vec<u8>, String> {
        if self.unread.is_empty() {
            self.fill().await?;
        }
        Ok(std::mem::take(&mut self.unread))
    }

    /// Whether the peer closes the connection without another byte.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && self.fill().await.is_err()
    }

    async fn read_chunks(&mut self, body: &mut Vec<u8>) -> Result<(), String> {
        loop {
            let line = self.read_line().await?;
            let size = usize::from_str_radix(line.split(';').next().unwrap().trim(), 16)
                .map_err(|_| "chunk size")?;
            if size == 0 {
                while !self.read_line().await?.is_empty() {}
                return Ok(());
            }
            self.read_exactly(size, body).await?;
            if !self.read_line().await?.is_empty() {
                return Err("a chunk without its end".to_owned());
            }
        }
    }

    async fn read_line(&mut self) -> Result<String, String> {
        loop {
            if let Some(at) = find(&self.unread, b"\r\n") {
                let line = latin1(&self.unread[..at]);
                self.unread.drain(..at + 2);
                return Ok(line);
            }
            self.fill().await?;
        }
    }

    async fn read_exactly(&mut self, mut length: usize, body: &mut Vec<u8>) -> Result<(), String> {
        loop {
            let taken = length.min(self.unread.len());
            body.extend(self.unread.drain(..taken));
            length -= taken;
            if length == 0 {
                return Ok(());
            }
            self.fill().await.map_err(|error| format!("{error}, {length} bytes missing"))?;
        }
    }

    /// Reads more; returns false at the end of the connection, or how it broke.
    async fn fill(&mut self) -> Result<(), String> {
        let mut buffer = vec![0; 64 << 10];
        match timeout(WAIT_MAX, self.stream.read(&mut buffer))
            .await
            .expect("the peer sends or closes in time")
        {
            Ok(0) => Err("closed".to_owned()),
            Ok(bytes) => {
                self.unread.extend_from_slice(&buffer[..bytes]);
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Every byte as the character with its number, so that nothing is lost.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// One request on its own connection. A body gets a Content-Length.
pub(crate) async fn request(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> Response {
    let mut client = Client::connect(address).await;
    client.send(message(method, target, headers, body)).await;
    client.response(method).await
}

/// The bytes of a request.
pub(crate) fn message(method: &str, target: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\nhost: gateway.test\r\n");
    for (name, value) in headers {
        bytes.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = body {
        bytes.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    bytes.push_str("\r\n");
    let mut bytes = bytes.into_bytes();
    bytes.extend_from_slice(body.unwrap_or_default());
    bytes
}

pub(crate) async fn get(address: SocketAddr, target: &str) -> Response {
    request(address, "GET", target, &[], None).await
}

pub(crate) async fn head(address: SocketAddr, target: &str) -> Response {
    request(address, "HEAD", target, &[], None).await
}

pub(crate) async fn put(address: SocketAddr, target: &str, body: impl AsRef<[u8]>) -> Response {
    request(address, "PUT", target, &[], Some(body.as_ref())).await
}
