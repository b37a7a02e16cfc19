//! The attacks of hostile clients.
//!
//! Each attack is a script: bytes that open a connection, pieces that follow at a rate, and a read rate. The script runs until the gateway
//! ends the connection.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

use super::response_scan::ResponseScan;
use super::{AttackCounts, frames};
use crate::destination::ClientStream;

/// Interval of sending pieces and reading bytes.
const TICK: Duration = Duration::from_millis(100);
/// Announced length of a body; no attack sends all of it.
const BODY_BYTES: u64 = 64 << 20;

/// The kinds of attack.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Attack {
    /// Requests an object and reads it slowly, with a small receive buffer.
    SlowReader { receive_buffer_bytes: u32, bytes_per_second: f64 },
    /// Sends the fields of a POST form slowly.
    SlowForm { bytes_per_second: f64 },
    /// Sends an `aws-chunked` upload in chunks of one byte, each in a separate packet.
    Crumbs { per_second: f64 },
    /// Sends a chunked upload with one byte of data and a long extension in each chunk.
    ChunkExtensions { extension_bytes: usize, per_second: f64 },
    /// Sends heads with many headers of 100 bytes, one after the other.
    HeaderFlood { headers: usize, per_second: f64 },
    /// Requests an object, reads the answer, and keeps the connection idle.
    Idle,
    /// Opens connections and sends half a head.
    ConnectionFlood,
    /// Opens HTTP/2 streams and resets them immediately.
    Http2RapidReset { per_second: f64 },
    /// Sends empty DATA frames on a stream that never ends, with a window of 0 for its answer.
    Http2EmptyData { per_second: f64 },
    /// Sends SETTINGS frames.
    Http2Settings { per_second: f64 },
    /// Sends PING frames.
    Http2Ping { per_second: f64 },
}

/// Read rate of a client.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum ReadRate {
    /// Unlimited.
    All,
    /// At most this number of bytes per second.
    BytesPerSecond(f64),
}

/// The script of one connection.
pub(super) struct AttackScript {
    opening: Vec<u8>,
    /// Returns the piece with this number, from 0.
    piece: Box<dyn Fn(u64) -> Vec<u8>>,
    /// Pieces per second; 0 for none.
    per_second: f64,
    pace: ReadRate,
    /// Whether the opening is a complete HTTP/1.1 request, which requires an answer.
    is_request: bool,
}

impl Attack {
    pub(crate) fn is_http2(&self) -> bool {
        matches!(
            self,
            Self::Http2RapidReset { .. }
                | Self::Http2EmptyData { .. }
                | Self::Http2Settings { .. }
                | Self::Http2Ping { .. }
        )
    }

    /// The script of one connection to `host`.
    pub(super) fn script(&self, bucket: &str, host: SocketAddr) -> AttackScript {
        let object = format!("/{bucket}/object");
        let head = |line: &str, more: &str| format!("{line} HTTP/1.1\r\nhost: {host}\r\n{more}").into_bytes();
        let authority = host.to_string();
        match *self {
            Self::SlowReader { bytes_per_second, .. } => AttackScript {
                pace: ReadRate::BytesPerSecond(bytes_per_second),
                ..AttackScript::once(head(&format!("GET {object}"), "\r\n"))
            },
            Self::Idle => AttackScript::once(head(&format!("GET {object}"), "\r\n")),
            Self::SlowForm { bytes_per_second } => {
                let kind = "content-type: multipart/form-data; boundary=b\r\n";
                let field = "--b\r\ncontent-disposition: form-data; name=\"key\"\r\n\r\n";
                let more = format!("{kind}content-length: {BODY_BYTES}\r\n\r\n{field}");
                AttackScript::repeating(
                    head(&format!("POST /{bucket}"), &more),
                    b"k".to_vec(),
                    bytes_per_second,
                )
            }
            Self::Crumbs { per_second } => {
                let more = format!(
                    "content-encoding: aws-chunked\r\nx-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\r\n\
                     x-amz-trailer: x-amz-checksum-crc32c\r\nx-amz-decoded-content-length: {BODY_BYTES}\r\n\
                     content-length: {}\r\n\r\n",
                    BODY_BYTES * 6
                );
                AttackScript::repeating(
                    head(&format!("PUT {object}"), &more),
                    b"1\r\nx\r\n".to_vec(),
                    per_second,
                )
            }
            Self::ChunkExtensions { extension_bytes, per_second } => {
                let piece = format!("1;e={}\r\nx\r\n", "e".repeat(extension_bytes)).into_bytes();
                let more = "transfer-encoding: chunked\r\n\r\n";
                AttackScript::repeating(head(&format!("PUT {object}"), more), piece, per_second)
            }
            Self::HeaderFlood { headers, per_second } => {
                let mut more = String::new();
                for number in 0..headers {
                    // Writing to a String cannot fail.
                    let _ = write!(more, "x-{number:05}: {}\r\n", "v".repeat(90));
                }
                let piece = head(&format!("GET {object}"), &format!("{more}\r\n"));
                AttackScript::repeating(Vec::new(), piece, per_second)
            }
            Self::ConnectionFlood => AttackScript::once(head(&format!("GET {object}"), "x-half: ")),
            Self::Http2RapidReset { per_second } => AttackScript {
                piece: Box::new(move |number| {
                    let stream = stream(number);
                    [frames::request(stream, true, &object, &authority), frames::reset(stream)].concat()
                }),
                ..AttackScript::repeating(frames::opening(65_535), Vec::new(), per_second)
            },
            Self::Http2EmptyData { per_second } => {
                let put = frames::request(1, false, "/nowhere/object", &authority);
                let opening = [frames::opening(0), put].concat();
                AttackScript::repeating(opening, frames::empty_data(1), per_second)
            }
            Self::Http2Settings { per_second } => AttackScript {
                piece: Box::new(|number| frames::settings(if number % 2 == 0 { 0 } else { 65_535 })),
                ..AttackScript::repeating(frames::opening(65_535), Vec::new(), per_second)
            },
            Self::Http2Ping { per_second } => {
                AttackScript::repeating(frames::opening(65_535), frames::ping(), per_second)
            }
        }
    }
}

/// The stream ID of a client's stream: odd numbers only.
fn stream(number: u64) -> u32 {
    u32::try_from(number * 2 + 1).unwrap_or(u32::MAX) & 0x7fff_ffff
}

impl AttackScript {
    fn once(opening: Vec<u8>) -> Self {
        Self { is_request: opening.ends_with(b"\r\n\r\n"), ..Self::repeating(opening, Vec::new(), 0.0) }
    }

    fn repeating(opening: Vec<u8>, piece: Vec<u8>, per_second: f64) -> Self {
        Self {
            opening,
            piece: Box::new(move |_| piece.clone()),
            per_second,
            pace: ReadRate::All,
            is_request: false,
        }
    }
}

/// Runs a script until the gateway ends the connection. Returns the state of the answer to its request.
pub(super) async fn play(
    wire: ClientStream,
    script: AttackScript,
    counts: &RefCell<AttackCounts>,
) -> ResponseScan {
    let (reader, writer) = tokio::io::split(wire);
    let mut answer = if script.is_request { ResponseScan::expected() } else { ResponseScan::ignored() };
    tokio::select! {
        () = read(reader, script.pace, counts, &mut answer) => {}
        // A write error means that the gateway has ended the connection.
        _ = write(writer, &script, counts) => {}
    }
    answer
}

async fn write(
    mut writer: WriteHalf<ClientStream>,
    script: &AttackScript,
    counts: &RefCell<AttackCounts>,
) -> io::Result<()> {
    writer.write_all(&script.opening).await?;
    writer.flush().await?;
    counts.borrow_mut().sent_bytes += script.opening.len() as u64;
    if script.per_second <= 0.0 {
        std::future::pending::<()>().await;
    }
    // Pieces with an interval above a tick are sent one by one, others in batches.
    let every = TICK.max(Duration::from_secs_f64(1.0 / script.per_second));
    let mut ticks = tokio::time::interval(every);
    let (mut due, mut number) = (0.0, 0);
    loop {
        ticks.tick().await;
        due += script.per_second * every.as_secs_f64();
        while due >= 1.0 {
            due -= 1.0;
            let piece = (script.piece)(number);
            number += 1;
            writer.write_all(&piece).await?;
            counts.borrow_mut().sent_bytes += piece.len() as u64;
        }
        writer.flush().await?;
    }
}

async fn read(
    mut reader: ReadHalf<ClientStream>,
    pace: ReadRate,
    counts: &RefCell<AttackCounts>,
    answer: &mut ResponseScan,
) {
    let mut bytes = vec![0; 16 << 10];
    let room = match pace {
        ReadRate::All => bytes.len(),
        ReadRate::BytesPerSecond(rate) => ((rate * TICK.as_secs_f64()).ceil() as usize).clamp(1, bytes.len()),
    };
    loop {
        match reader.read(&mut bytes[..room]).await {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                counts.borrow_mut().received_bytes += count as u64;
                answer.feed(&bytes[..count]);
                if let ReadRate::BytesPerSecond(rate) = pace {
                    tokio::time::sleep(Duration::from_secs_f64(count as f64 / rate)).await;
                }
            }
        }
    }
}
