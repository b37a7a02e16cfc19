//! Fuzzing target `http2`: frames against the HTTP/2 loop in memory, and the scanners alone.

#![allow(clippy::expect_used, reason = "a failed assertion is the result")]

use actix_web::web::{self, Bytes as Body};
use actix_web::{App, HttpResponse};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use super::frames::{Frame, FrameScanner, FrameSink};
use super::header_block::{BlockFindings, BlockScanner};
use super::*;
use crate::fuzz_input::{Input, split};
use crate::listener::application::WebApplication;
use crate::server::idle_connections::IdleConnections;

/// The most bytes that the loop sends beyond a multiple of its input: each frame may get a response, and bodies are
/// echoed.
const RESPONSE_BYTES_SPARE: usize = 64 << 10;
const WAIT: Duration = Duration::from_secs(5);

/// Checks for HTTP/2: the loop ends with its client after any frames, and its output is bounded and made of complete
/// frames; the scanners report the same frames and fields however the bytes are split, and find every literal
/// pseudo-header field.
pub fn http2(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (mode, cuts) = (input.byte(), input.byte());
    match mode % 3 {
        0 => connection(cuts, input.rest()),
        1 => scanners(cuts, input.rest()),
        _ => literals(cuts, input),
    }
}

/// The frames of a stream of bytes, and the bytes of their payloads.
#[derive(Debug, Default, PartialEq)]
struct Found {
    begun: Vec<Frame>,
    ended: Vec<Frame>,
    payload: Vec<u8>,
}

impl FrameSink for Found {
    fn begin(&mut self, frame: &Frame) {
        self.begun.push(*frame);
    }

    fn payload(&mut self, frame: &Frame, at: u32, bytes: &[u8]) {
        assert!(at as usize + bytes.len() <= frame.length as usize);
        self.payload.extend_from_slice(bytes);
    }

    fn end(&mut self, frame: &Frame) {
        self.ended.push(*frame);
    }
}

fn frames(pieces: &[&[u8]]) -> Found {
    let (mut scanner, mut found) = (FrameScanner::new(0), Found::default());
    pieces.iter().for_each(|piece| scanner.scan(piece, &mut found));
    found
}

fn connection(cuts: u8, bytes: &[u8]) {
    let preface: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    let sent: Vec<Vec<u8>> = split(bytes, cuts).into_iter().map(<[u8]>::to_vec).collect();
    let (ended, received) = actix_rt::System::new().block_on(async {
        let echo = |body: Body| async move {
            HttpResponse::with_body(Default::default(), body).map_into_boxed_body()
        };
        let application = App::new().default_service(web::to(echo));
        let application = Rc::new(WebApplication(actix_web::test::init_service(application).await));
        let (server_socket, mut client_socket) = duplex(16 << 10);
        let (_drain, subscribed) = watch::channel(DrainPhase::Serving);
        let settings = ConnectionSettings {
            client_socket: None,
            header_timeout: WAIT * 4,
            keep_alive: KeepAlive::fixed(WAIT * 4),
            header_bytes: 8192,
            drain: subscribed,
            watch: None,
            buffer: None,
            idle: IdleConnections::data(clock::now()).register(clock::now()),
        };
        let peer = Peer { client: None, source: AddressSource::Peer };
        let client = async {
            let (mut reader, mut writer) = tokio::io::split(&mut client_socket);
            let write = async {
                // The loop may end before it has read everything.
                let _ = writer.write_all(preface).await;
                for piece in &sent {
                    let _ = writer.write_all(piece).await;
                }
                let _ = writer.shutdown().await;
            };
            let mut received = Vec::new();
            let _ = tokio::join!(write, reader.read_to_end(&mut received));
            received
        };
        let both = async { tokio::join!(drive(server_socket, peer, &application, settings, |_| ()), client) };
        timeout(WAIT, both).await.expect("the loop does not end with its client")
    });
    assert!(!matches!(ended, Err(ConnectionError::Timeout)), "{ended:?}");
    assert!(
        received.len() <= 20 * bytes.len() + RESPONSE_BYTES_SPARE,
        "{} bytes of responses",
        received.len()
    );
    let found = frames(&[&received]);
    assert_eq!(found.begun.len(), found.ended.len(), "a frame is incomplete");
    assert!(found.begun.iter().all(|frame| frame.length <= 16 << 10));
}

fn scanners(cuts: u8, bytes: &[u8]) {
    let whole = frames(&[bytes]);
    for cuts in [1, cuts] {
        assert_eq!(frames(&split(bytes, cuts)), whole, "cut by {cuts}");
    }
    let open = whole.begun.len() - whole.ended.len();
    let heads = whole.begun.len() * 9;
    assert!(
        open <= 1
            && heads + whole.payload.len() <= bytes.len()
            && bytes.len() < heads + whole.payload.len() + 9
    );
    let block = |pieces: &[&[u8]]| {
        let mut scanner = BlockScanner::default();
        pieces.iter().for_each(|piece| scanner.scan(piece));
        let first = scanner.end();
        pieces.iter().for_each(|piece| scanner.scan(piece));
        [first, scanner.end()]
    };
    let whole = block(&[bytes]);
    for cuts in [1, cuts] {
        assert_eq!(block(&split(bytes, cuts)), whole, "cut by {cuts}");
    }
}

/// A block of literal fields without indexing or Huffman code, so its contents are known.
fn literals(cuts: u8, mut input: Input<'_>) {
    let (mut block, mut expected) = (Vec::new(), BlockFindings::default());
    while !input.is_empty() {
        let is_inserted = input.byte() & 1 == 1;
        let (name, value) = (input.bytes(), input.bytes());
        let (name, value) = (&name[..name.len().min(126)], &value[..value.len().min(126)]);
        // `h2` refuses other names and schemes.
        if name.is_empty() || !name.is_ascii() || !value.is_ascii() {
            continue;
        }
        let is_pseudo = name[0] == b':';
        let is_scheme = name == b":scheme";
        expected.pseudo |= is_pseudo;
        expected.invalid |= is_pseudo && value.contains(&b'#');
        expected.invalid |= is_scheme && value != b"http" && value != b"https";
        block.push(if is_inserted { 0x40 } else { 0 });
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
            block.extend_from_slice(text);
        }
    }
    for cuts in [0, 1, cuts] {
        let mut scanner = BlockScanner::default();
        split(&block, cuts).iter().for_each(|piece| scanner.scan(piece));
        assert_eq!(scanner.end(), expected, "cut by {cuts}");
    }
}
