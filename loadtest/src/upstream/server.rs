//! One listener and its connections.
//!
//! Answers with a small body are encoded once, before the first request, and sent in one write.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::{Behaviour, UpstreamCounters};
use crate::head::{self, RequestHead};
use crate::pacer::Pacer;
use crate::pattern;
use crate::port::ReservedPort;
use crate::receive_buffer::ReceiveBuffer;
use crate::size::Bytes;

const BACKLOG: u32 = 4096;
/// Bodies up to this size are part of the prepared answer.
const INLINE_BYTES: u64 = 64 * 1024;

/// An upstream, on the thread of the upstreams.
pub(super) struct Server {
    port: ReservedPort,
    behaviour: Behaviour,
    counters: Arc<UpstreamCounters>,
    accepting: Option<JoinHandle<()>>,
    frozen: watch::Sender<bool>,
}

impl Server {
    pub(super) fn new(port: ReservedPort, behaviour: Behaviour, counters: Arc<UpstreamCounters>) -> Self {
        Self { port, behaviour, counters, accepting: None, frozen: watch::Sender::new(false) }
    }

    /// Starts to listen, unless it listens already or has the behaviour `refused`.
    pub(super) fn listen(&mut self) -> io::Result<()> {
        if self.accepting.is_some() || matches!(self.behaviour, Behaviour::Refused) {
            return Ok(());
        }
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(self.port.address())?;
        let listener = socket.listen(BACKLOG)?;
        let state = Rc::new(ServerState::new(
            self.behaviour.clone(),
            Arc::clone(&self.counters),
            self.frozen.subscribe(),
        ));
        self.accepting = Some(tokio::task::spawn_local(accept(listener, state)));
        Ok(())
    }

    /// Stops or continues reading, sending and accepting.
    pub(super) fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// Ends the listener and all connections.
    pub(super) async fn close(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            // The abort is complete only when the task has ended.
            let _ = accepting.await;
        }
    }
}

async fn accept(listener: TcpListener, state: Rc<ServerState>) {
    let mut connections = JoinSet::new();
    loop {
        state.wait_until_thawed().await;
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                let state = Rc::clone(&state);
                connections.spawn_local(async move { state.connection(stream).await });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Shared state of the connections of one upstream.
struct ServerState {
    behaviour: Behaviour,
    counters: Arc<UpstreamCounters>,
    frozen: watch::Receiver<bool>,
    capacity: Semaphore,
    hold_time: Duration,
    get: PreparedResponse,
    other: PreparedResponse,
    verify: bool,
}

/// An encoded head with a small body, and the number of body bytes to stream after it.
struct PreparedResponse {
    inline: Vec<u8>,
    streamed_bytes: u64,
}

impl PreparedResponse {
    fn new(status: &str, body_bytes: u64) -> Self {
        let mut inline = head_text(status, body_bytes);
        let streamed_bytes = if body_bytes > INLINE_BYTES { body_bytes } else { 0 };
        let mut offset = 0;
        while streamed_bytes == 0 && offset < body_bytes {
            let slice = pattern::slice(offset, body_bytes);
            inline.extend_from_slice(slice);
            offset += slice.len() as u64;
        }
        Self { inline, streamed_bytes }
    }

    async fn send(&self, stream: &mut TcpStream, state: &ServerState) -> io::Result<()> {
        stream.write_all(&self.inline).await?;
        let mut offset = 0;
        while offset < self.streamed_bytes {
            state.wait_until_thawed().await;
            let slice = pattern::slice(offset, self.streamed_bytes);
            stream.write_all(slice).await?;
            offset += slice.len() as u64;
        }
        Ok(())
    }
}

fn head_text(status: &str, body_bytes: u64) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/octet-stream\r\ncontent-length: {body_bytes}\r\n\r\n"
    )
    .into_bytes()
}

impl ServerState {
    fn new(behaviour: Behaviour, counters: Arc<UpstreamCounters>, frozen: watch::Receiver<bool>) -> Self {
        let (body_bytes, verify) = match behaviour {
            Behaviour::Normal { body_bytes, verify } => (body_bytes.0, verify),
            Behaviour::Echo { body_bytes } => (body_bytes.0.min(INLINE_BYTES), false),
            _ => (0, false),
        };
        let (permits, hold_time) = match behaviour {
            Behaviour::Capacity { parallel, hold_ms } => (parallel, Duration::from_millis(hold_ms)),
            Behaviour::Slow { delay_ms } => (Semaphore::MAX_PERMITS, Duration::from_millis(delay_ms)),
            _ => (Semaphore::MAX_PERMITS, Duration::ZERO),
        };
        let status =
            if matches!(behaviour, Behaviour::Unavailable) { "503 Service Unavailable" } else { "200 OK" };
        Self {
            behaviour,
            counters,
            frozen,
            capacity: Semaphore::new(permits),
            hold_time,
            get: PreparedResponse::new(status, body_bytes),
            other: PreparedResponse::new(status, 0),
            verify,
        }
    }

    /// Waits until it is not frozen.
    async fn wait_until_thawed(&self) {
        // An error means that the server has ended; its connections end with it.
        let _ = self.frozen.clone().wait_for(|frozen| !frozen).await;
    }

    async fn connection(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut buffer = ReceiveBuffer::new();
        let mut pacer = Pacer::new()?;
        let mut shown = String::new();
        let echoes = matches!(self.behaviour, Behaviour::Echo { .. });
        while let Some(head) = next_head(&mut stream, &mut buffer, echoes.then_some(&mut shown)).await? {
            self.wait_until_thawed().await;
            let active = self.counters.begin();
            if head.expects_continue {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            }
            let mut hash = Sha256::new();
            let each = |slice: &[u8]| {
                if self.verify {
                    hash.update(slice);
                }
            };
            buffer.read_body(&mut stream, head.body, each).await?;
            match self.behaviour {
                Behaviour::Hang => std::future::pending().await,
                Behaviour::Reset => return SockRef::from(&stream).set_linger(Some(Duration::ZERO)),
                _ => self.wait_for_capacity(&mut pacer).await?,
            }
            self.wait_until_thawed().await;
            drop(active);
            match self.behaviour {
                Behaviour::Stall { body_bytes: Bytes(bytes) } => return stall(&mut stream, bytes).await,
                Behaviour::Events { events, interval_ms } => {
                    send_events(&mut stream, events, Duration::from_millis(interval_ms)).await?;
                }
                Behaviour::Echo { .. } => self.echo(&mut stream, &shown).await?,
                _ => self.answer(&mut stream, &head, hash).await?,
            }
            if !head.keep_alive {
                break;
            }
        }
        Ok(())
    }

    async fn wait_for_capacity(&self, pacer: &mut Pacer) -> io::Result<()> {
        if self.hold_time.is_zero() {
            return Ok(());
        }
        let _permit = self.capacity.acquire().await.map_err(io::Error::other)?;
        pacer.sleep(self.hold_time).await
    }

    /// Sends the prepared answer with these headers in its head.
    async fn echo(&self, stream: &mut TcpStream, shown: &str) -> io::Result<()> {
        let status_line = b"HTTP/1.1 200 OK\r\n";
        let mut answer = self.get.inline.clone();
        answer.splice(status_line.len()..status_line.len(), shown.bytes());
        stream.write_all(&answer).await
    }

    async fn answer(&self, stream: &mut TcpStream, head: &RequestHead, hash: Sha256) -> io::Result<()> {
        if head.is_get {
            return self.get.send(stream, self).await;
        }
        if !self.verify {
            return self.other.send(stream, self).await;
        }
        let digest = hex::encode(hash.finalize());
        let mut text = head_text("200 OK", digest.len() as u64);
        text.extend_from_slice(digest.as_bytes());
        stream.write_all(&text).await
    }
}

/// Sends half of an answer and then waits until the peer has closed.
async fn stall(stream: &mut TcpStream, body_bytes: u64) -> io::Result<()> {
    stream.write_all(&head_text("200 OK", body_bytes)).await?;
    stream.write_all(pattern::slice(0, body_bytes / 2)).await?;
    while stream.read(&mut [0; 64]).await? > 0 {}
    Ok(())
}

/// Sends an event stream.
async fn send_events(stream: &mut TcpStream, events: u32, interval: Duration) -> io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    for number in 0..events {
        tokio::time::sleep(interval).await;
        let event = format!("id: {number}\ndata: {{}}\n\n");
        stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
    }
    stream.write_all(b"0\r\n\r\n").await
}

/// The headers of an answer that show the call.
fn shown_call(local: SocketAddr, head: &[u8]) -> String {
    let store_path = head::path(head).split('/').nth(1).unwrap_or_default();
    let authorization = head::value(head, "authorization");
    let key = authorization.split_once("Credential=").and_then(|(_, rest)| rest.split('/').next());
    format!("x-store: {local}\r\nx-store-path: {store_path}\r\nx-store-key: {}\r\n", key.unwrap_or_default())
}

/// The next head; its call is written to `shown` if there is one.
async fn next_head(
    stream: &mut TcpStream,
    buffer: &mut ReceiveBuffer,
    mut shown: Option<&mut String>,
) -> io::Result<Option<RequestHead>> {
    loop {
        let parsed = head::request(buffer.unread()).map_err(io::Error::other)?;
        if let Some(head) = parsed {
            if let Some(shown) = &mut shown {
                **shown = shown_call(stream.local_addr()?, &buffer.unread()[..head.length_bytes]);
            }
            buffer.consume(head.length_bytes);
            return Ok(Some(head));
        }
        if buffer.fill(stream).await? == 0 {
            return Ok(None);
        }
    }
}
