//! An HTTP/2 client that sends arbitrary frames and records the answers.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;

use crate::https::{Identity, NAME};
use crate::support::{Gateway, wait_for};

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

pub(super) const PROTOCOL_ERROR: u32 = 1;
pub(super) const ENHANCE_YOUR_CALM: u32 = 11;

/// SETTINGS_INITIAL_WINDOW_SIZE
pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;

/// One frame that the gateway sent.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// The error code of a GOAWAY or RST_STREAM.
    fn code(&self) -> Option<u32> {
        let code = match self.kind {
            RST_STREAM => self.payload.get(..4),
            GOAWAY => self.payload.get(4..8),
            _ => None,
        };
        Some(u32::from_be_bytes(code?.try_into().unwrap()))
    }
}

/// The bytes of a frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header block of these fields, as literals without indexing.
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let string = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let field = |(name, value): &(&str, &str)| [vec![0], string(name), string(value)].concat();
    fields.iter().flat_map(field).collect()
}

/// The fields that every request has.
pub(super) fn request(method: &'static str, path: &'static str) -> [(&'static str, &'static str); 4] {
    [(":method", method), (":scheme", "https"), (":authority", NAME), (":path", path)]
}

/// One connection.
pub(super) struct Raw {
    writer: WriteHalf<TlsStream<TcpStream>>,
    seen: Arc<Mutex<Vec<Frame>>>,
    reading: JoinHandle<()>,
}

impl Raw {
    /// A connection after its preface and SETTINGS.
    pub(super) async fn open(identity: &Identity, gateway: &Gateway, settings: &[(u16, u32)]) -> Self {
        let (reader, mut writer) = split(identity.connect(gateway, &["h2"]).await);
        let setting = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
        let settings: Vec<u8> = settings.iter().flat_map(setting).collect();
        let mut preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        preface.extend(frame(SETTINGS, 0, 0, &settings));
        writer.write_all(&preface).await.unwrap();
        let seen = Arc::<Mutex<Vec<Frame>>>::default();
        let reading = tokio::spawn(read(reader, Arc::clone(&seen)));
        Self { writer, seen, reading }
    }

    /// Sends frames; false if the connection has ended.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> bool {
        let written = async {
            self.writer.write_all(bytes).await?;
            self.writer.flush().await
        };
        written.await.is_ok()
    }

    /// Sends a request's HEADERS frame.
    pub(super) async fn begin(&mut self, stream: u32, fields: &[(&str, &str)], flags: u8) -> bool {
        self.send(&frame(HEADERS, END_HEADERS | flags, stream, &block(fields))).await
    }

    /// The first match among the received frames.
    fn find<T>(&self, fits: impl Fn(&Frame) -> Option<T>) -> Option<T> {
        self.seen.lock().unwrap().iter().find_map(fits)
    }

    /// The received frames.
    pub(super) fn seen(&self) -> Vec<Frame> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits for a frame.
    pub(super) async fn wait<T>(&self, what: &str, fits: impl Fn(&Frame) -> Option<T> + Copy) -> T {
        wait_for(what, || {
            let found = self.find(fits);
            async move { found }
        })
        .await
    }

    /// Waits for the answer's head on this stream.
    pub(super) async fn head(&self, stream: u32) -> Frame {
        self.wait("an answer's head", |frame| {
            (frame.kind == HEADERS && frame.stream == stream).then(|| frame.clone())
        })
        .await
    }

    /// Waits until this stream is reset, and returns the error code.
    pub(super) async fn reset(&self, stream: u32, for_what: &str) -> u32 {
        let is_reset = |frame: &Frame| frame.kind == RST_STREAM && frame.stream == stream;
        let what = format!("stream {stream} is reset for {for_what}");
        self.wait(&what, |frame| frame.code().filter(|_| is_reset(frame))).await
    }

    /// Stops reading.
    pub(super) fn stop_reading(&self) {
        self.reading.abort();
    }

    /// Whether GOAWAY was received or the connection has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.reading.is_finished() || self.find(|frame| (frame.kind == GOAWAY).then_some(())).is_some()
    }

    /// Repeats these bytes until the connection ends, up to `bytes_max`.
    pub(super) async fn flood(&mut self, bytes: &[u8], bytes_max: usize) {
        let mut sent = 0;
        while sent < bytes_max && !self.has_ended() && self.send(bytes).await {
            sent += bytes.len();
            tokio::task::yield_now().await;
        }
    }

    /// Waits for the end of the connection, and returns GOAWAY's error code.
    pub(super) async fn ended(&self) -> Option<u32> {
        wait_for("the connection ends", || {
            let ended = self.reading.is_finished();
            async move { ended.then_some(()) }
        })
        .await;
        self.find(|frame| frame.code().filter(|_| frame.kind == GOAWAY))
    }
}

/// Records every frame up to the end of the connection.
async fn read(mut reader: ReadHalf<TlsStream<TcpStream>>, seen: Arc<Mutex<Vec<Frame>>>) {
    loop {
        let mut head = [0; 9];
        if reader.read_exact(&mut head).await.is_err() {
            return;
        }
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        if reader.read_exact(&mut payload).await.is_err() {
            return;
        }
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let frame = Frame { kind: head[3], flags: head[4], stream, payload };
        // Acknowledgements of a flood would take memory in the test.
        let is_noise =
            matches!((frame.kind, frame.flags), (PING | SETTINGS, 1)) || frame.kind == WINDOW_UPDATE;
        if !is_noise {
            seen.lock().unwrap().push(frame);
        }
    }
}
