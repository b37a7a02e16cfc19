//! One connection of a scripted upstream: reads a request, calls the handler, sends the reply.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::reply::{ConnectionEnd, Framing, ReplyPart, UpstreamReply};
use super::{ReplyTime, SeenRequest, State};
use crate::support::client::latin1;

/// A count that falls when it is dropped.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(super) async fn connection(mut stream: TcpStream, state: Arc<State>) {
    let number = state.connections.fetch_add(1, Ordering::SeqCst) + 1;
    let _live = Counted::new(&state.live);
    let _ = stream.set_nodelay(true);
    let mut unread = Vec::new();
    loop {
        let Ok(Some(mut seen)) = read_head(&mut stream, &mut unread).await else { return };
        let working = Counted::new(&state.in_flight);
        seen.in_flight = state.in_flight.load(Ordering::SeqCst);
        state.peak.fetch_max(seen.in_flight, Ordering::SeqCst);
        seen.connection = number;
        let index = {
            let mut all = state.seen.lock().unwrap();
            seen.number = all.len() + 1;
            all.push(seen.clone());
            all.len() - 1
        };
        if state.when == ReplyTime::AfterBody {
            seen.is_complete = read_body(&mut stream, &mut unread, &mut seen).await.is_ok();
            state.seen.lock().unwrap()[index] = seen.clone();
            if !seen.is_complete {
                state.cancelled.fetch_add(1, Ordering::SeqCst);
                return;
            }
        }
        let reply = (state.handler)(&seen);
        let done = send_reply(&mut stream, &reply, &seen.method).await;
        if done.is_err() {
            state.cancelled.fetch_add(1, Ordering::SeqCst);
        }
        drop(working);
        match reply.end {
            ConnectionEnd::Keep if done.is_ok() => {}
            ConnectionEnd::Close if done.is_ok() => return linger(stream).await,
            _ => return,
        }
    }
}

async fn fill(stream: &mut TcpStream, unread: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    match stream.read(&mut buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        bytes => {
            unread.extend_from_slice(&buffer[..bytes]);
            Ok(())
        }
    }
}

async fn read_head(stream: &mut TcpStream, unread: &mut Vec<u8>) -> io::Result<Option<SeenRequest>> {
    let end = loop {
        if let Some(at) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        fill(stream, unread).await?;
    };
    let head = latin1(&unread[..end]);
    unread.drain(..end + 4);
    let mut lines = head.split("\r\n");
    let mut request = lines.next().unwrap_or_default().split(' ');
    let mut word = || request.next().unwrap_or_default().to_owned();
    let (method, target) = (word(), word());
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    Ok(Some(SeenRequest { method, target, headers, ..SeenRequest::default() }))
}

async fn read_body(stream: &mut TcpStream, unread: &mut Vec<u8>, seen: &mut SeenRequest) -> io::Result<()> {
    if seen.header("transfer-encoding").is_some() {
        loop {
            let line = read_line(stream, unread).await?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default(), 16);
            let size = size.map_err(|_| io::ErrorKind::InvalidData)?;
            if size == 0 {
                while !read_line(stream, unread).await?.is_empty() {}
                return Ok(());
            }
            read_exactly(stream, unread, size, &mut seen.body).await?;
            read_line(stream, unread).await?;
        }
    }
    let length = seen.header("content-length").map_or(0, |length| length.parse().unwrap_or(0));
    read_exactly(stream, unread, length, &mut seen.body).await
}

async fn read_line(stream: &mut TcpStream, unread: &mut Vec<u8>) -> io::Result<String> {
    loop {
        if let Some(at) = unread.windows(2).position(|window| window == b"\r\n") {
            let line = latin1(&unread[..at]);
            unread.drain(..at + 2);
            return Ok(line);
        }
        fill(stream, unread).await?;
    }
}

async fn read_exactly(
    stream: &mut TcpStream,
    unread: &mut Vec<u8>,
    mut length: usize,
    body: &mut Vec<u8>,
) -> io::Result<()> {
    loop {
        let taken = length.min(unread.len());
        body.extend(unread.drain(..taken));
        length -= taken;
        if length == 0 {
            return Ok(());
        }
        fill(stream, unread).await?;
    }
}

/// Fails if the peer closes before the reply is complete.
async fn send_reply(stream: &mut TcpStream, reply: &UpstreamReply, method: &str) -> io::Result<()> {
    for part in &reply.before {
        send_part(stream, part, Framing::Raw).await?;
    }
    if reply.framing != Framing::Raw {
        stream.write_all(head(reply, method).as_bytes()).await?;
    }
    if method != "HEAD" && !matches!(reply.status, 204 | 304) {
        send_body(stream, reply).await?;
    }
    match reply.end {
        ConnectionEnd::Keep | ConnectionEnd::Close => Ok(()),
        ConnectionEnd::Reset => {
            socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO))?;
            Ok(())
        }
        ConnectionEnd::Hang => {
            let mut unread = Vec::new();
            while fill(stream, &mut unread).await.is_ok() {
                unread.clear();
            }
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

fn head(reply: &UpstreamReply, method: &str) -> String {
    let mut head = format!("HTTP/1.1 {} Status\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let length: usize =
        reply.parts.iter().map(|part| if let ReplyPart::Bytes(bytes) = part { bytes.len() } else { 0 }).sum();
    let has_length = reply.headers.iter().any(|(name, _)| name == "content-length");
    match reply.framing {
        Framing::Length if has_length || (matches!(reply.status, 204 | 304) && method != "HEAD") => {}
        Framing::Length => head.push_str(&format!("content-length: {length}\r\n")),
        Framing::Chunked => head.push_str("transfer-encoding: chunked\r\n"),
        Framing::Close | Framing::Raw => {}
    }
    head + "\r\n"
}

async fn send_body(stream: &mut TcpStream, reply: &UpstreamReply) -> io::Result<()> {
    let mut left = reply.cut_at.unwrap_or(usize::MAX);
    for part in &reply.parts {
        match part {
            ReplyPart::Bytes(bytes) => {
                let sent = bytes.len().min(left);
                left -= sent;
                let cut = sent < bytes.len();
                if reply.framing == Framing::Chunked && cut {
                    // The chunk announces its full size and is truncated.
                    stream.write_all(format!("{:x}\r\n", bytes.len()).as_bytes()).await?;
                    stream.write_all(&bytes[..sent]).await?;
                } else {
                    send_part(stream, &ReplyPart::Bytes(bytes[..sent].to_vec()), reply.framing).await?;
                }
                if cut {
                    return Ok(());
                }
            }
            pause => send_part(stream, pause, reply.framing).await?,
        }
    }
    if reply.framing == Framing::Chunked && reply.cut_at.is_none() {
        stream.write_all(b"0\r\n\r\n").await?;
    }
    Ok(())
}

async fn send_part(stream: &mut TcpStream, part: &ReplyPart, framing: Framing) -> io::Result<()> {
    match part {
        ReplyPart::Bytes(bytes) if bytes.is_empty() => Ok(()),
        ReplyPart::Bytes(bytes) if framing == Framing::Chunked => {
            let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
            chunk.extend_from_slice(bytes);
            chunk.extend_from_slice(b"\r\n");
            stream.write_all(&chunk).await
        }
        ReplyPart::Bytes(bytes) => stream.write_all(bytes).await,
        ReplyPart::Pause(pause) => unless_disconnected(stream, tokio::time::sleep(*pause)).await,
        ReplyPart::Hold(latch) => unless_disconnected(stream, latch.wait()).await,
    }
}

/// Waits, but stops if the peer disconnects.
async fn unless_disconnected(stream: &TcpStream, wait: impl Future<Output = ()>) -> io::Result<()> {
    tokio::select! {
        () = wait => Ok(()),
        () = disconnected(stream) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

async fn disconnected(stream: &TcpStream) {
    let mut byte = [0];
    loop {
        match stream.peek(&mut byte).await {
            Ok(0) | Err(_) => return,
            // Unread bytes would hide the end of the stream.
            Ok(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// A lingering close as in real servers: incoming bytes are read for a while, so that no reset overtakes the answer.
async fn linger(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut unread = Vec::new();
    let drain = async {
        while fill(&mut stream, &mut unread).await.is_ok() {
            unread.clear();
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), drain).await;
}
