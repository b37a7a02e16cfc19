//! One connection of a watcher.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::framing::BodyFraming;
use crate::head;

const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
const HEAD_BYTES_MAX: usize = 16 << 10;
const READ_BYTES: usize = 4 << 10;
/// The receive buffer of a stalled watcher: a small one fills first.
const STALLED_BUFFER_BYTES: u32 = 2 << 10;
const ACCEPTED: &[u8] = b"HTTP/1.1 200";
/// The line of a sample in the text of the stream. JSON has no line break of its own.
const SAMPLE: &[u8] = b"\nevent: sample\n";
/// A stream that is read and does not end within this time is open.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// A watcher that reads.
pub(super) struct Reader {
    stream: TcpStream,
    framing: BodyFraming,
    buffer: Vec<u8>,
    /// The bytes of [`SAMPLE`] that the text ends with.
    matched: usize,
    /// What came with the head.
    first: Option<Received>,
}

/// The content of one read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Received {
    pub(super) bytes: u64,
    pub(super) samples: u64,
}

async fn request(admin: SocketAddr, receive_buffer_bytes: Option<u32>) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(bytes) = receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    let mut stream = socket.connect(admin).await?;
    stream.set_nodelay(true)?;
    stream.write_all(format!("GET /status/stream HTTP/1.1\r\nhost: {admin}\r\n\r\n").as_bytes()).await?;
    Ok(stream)
}

fn refused() -> io::Error {
    io::Error::other("the gateway refused the stream")
}

/// Opens a stream and reads its head.
pub(super) async fn open_reader(admin: SocketAddr) -> io::Result<Reader> {
    tokio::time::timeout(REPLY_TIMEOUT, read_head(admin)).await?
}

async fn read_head(admin: SocketAddr) -> io::Result<Reader> {
    let mut stream = request(admin, None).await?;
    let (mut head, mut buffer) = (Vec::new(), vec![0; READ_BYTES]);
    loop {
        let count = stream.read(&mut buffer).await?;
        head.extend_from_slice(&buffer[..count]);
        match head::response(&head) {
            Ok(Some(read)) if read.status == 200 => {
                let rest = head.split_off(read.length_bytes);
                let mut reader = Reader { stream, framing: read.body, buffer, matched: 0, first: None };
                reader.first = Some(reader.count(&rest)?);
                return Ok(reader);
            }
            Ok(None) if count > 0 && head.len() < HEAD_BYTES_MAX => {}
            _ => return Err(refused()),
        }
    }
}

impl Reader {
    /// Waits for bytes. An error is the end of the stream.
    pub(super) async fn next(&mut self) -> io::Result<Received> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        let count = self.stream.read(&mut self.buffer).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let bytes = self.buffer[..count].to_vec();
        self.count(&bytes)
    }

    fn count(&mut self, bytes: &[u8]) -> io::Result<Received> {
        let Self { framing, matched, .. } = self;
        let mut samples = 0;
        let each = |text: &[u8]| {
            for byte in text {
                if *byte == SAMPLE[*matched] {
                    *matched += 1;
                } else {
                    *matched = usize::from(*byte == SAMPLE[0]);
                }
                if *matched == SAMPLE.len() {
                    samples += 1;
                    // Its last byte is the first one of the next.
                    *matched = 1;
                }
            }
        };
        framing.feed(bytes, each).map_err(|cause| io::Error::new(io::ErrorKind::InvalidData, cause))?;
        if self.framing.is_done() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Received { bytes: bytes.len() as u64, samples })
    }
}

/// Opens a stream and reads nothing of it.
pub(super) async fn open_stalled(admin: SocketAddr) -> io::Result<TcpStream> {
    let open = async {
        let stream = request(admin, Some(STALLED_BUFFER_BYTES)).await?;
        let mut begin = [0; ACCEPTED.len()];
        let count = stream.peek(&mut begin).await?;
        if begin[..count] == *ACCEPTED { Ok(stream) } else { Err(refused()) }
    };
    tokio::time::timeout(REPLY_TIMEOUT, open).await?
}

/// Whether the gateway has ended a stream. Reads what the kernel has received.
pub(super) async fn has_ended(mut stream: TcpStream) -> bool {
    let mut buffer = vec![0; READ_BYTES];
    let read = async { while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {} };
    tokio::time::timeout(END_TIMEOUT, read).await.is_ok()
}
