//! The loop in memory: over a pipe instead of a socket, with an application that echoes.

use actix_web::web::{self, Bytes as Body};
use actix_web::{App, HttpRequest, HttpResponse};
use futures_util::future::join_all;
use proptest::prelude::*;
use tokio::io::{AsyncWriteExt, DuplexStream, ReadBuf, duplex};

use std::cell::Cell;
use std::io;
use std::pin::Pin;

use super::*;
use crate::listener::application::WebApplication;
use crate::server::idle_connections::IdleConnections;

async fn echo(request: HttpRequest, body: Body) -> HttpResponse {
    let method = request.method().as_str().to_owned();
    HttpResponse::with_body(Default::default(), body).map_into_boxed_body().map_body(|head, body| {
        if let Ok(value) = method.parse() {
            head.headers_mut().insert(actix_web::http::header::ETAG, value);
        }
        body
    })
}

fn settings() -> (ConnectionSettings, watch::Sender<DrainPhase>) {
    let (drain, subscribed) = watch::channel(DrainPhase::Serving);
    let settings = ConnectionSettings {
        client_socket: None,
        header_timeout: Duration::from_secs(30),
        keep_alive: KeepAlive::fixed(Duration::from_secs(30)),
        header_bytes: 8192,
        drain: subscribed,
        watch: None,
        buffer: None,
        idle: IdleConnections::data(clock::now()).register(clock::now()),
    };
    (settings, drain)
}

const PEER: Peer = Peer { client: None, source: AddressSource::Peer };

/// A pipe that counts the writes to it.
struct CountedPipe {
    pipe: DuplexStream,
    writes: Rc<Cell<usize>>,
}

impl AsyncRead for CountedPipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buf)
    }
}

impl AsyncWrite for CountedPipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.set(self.writes.get() + 1);
        Pin::new(&mut self.pipe).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

/// Runs the loop with a client at the other end of the pipe.
fn run<T>(client: impl AsyncFnOnce(DuplexStream) -> T) -> (Result<(), ConnectionError>, T) {
    run_counted(&Rc::default(), client)
}

/// As `run`, and counts the writes of the loop.
fn run_counted<T>(
    writes: &Rc<Cell<usize>>,
    client: impl AsyncFnOnce(DuplexStream) -> T,
) -> (Result<(), ConnectionError>, T) {
    actix_rt::System::new().block_on(async {
        let application = actix_web::test::init_service(App::new().default_service(web::to(echo))).await;
        let application = Rc::new(WebApplication(application));
        let (server_socket, client_socket) = duplex(16 << 10);
        let server_socket = CountedPipe { pipe: server_socket, writes: Rc::clone(writes) };
        let (settings, _drain) = settings();
        let both = async {
            tokio::join!(drive(server_socket, PEER, &application, settings, |_| ()), client(client_socket))
        };
        timeout(Duration::from_secs(60), both).await.unwrap()
    })
}

async fn exchange(requests: &mut h2::client::SendRequest<Bytes>, body: &[u8], cut: usize) -> Vec<u8> {
    let request = http::Request::builder().method("PUT").uri("https://a/k").body(()).unwrap();
    let (response, mut sending) = requests.send_request(request, false).unwrap();
    for piece in body.chunks(cut) {
        sending.send_data(Bytes::copy_from_slice(piece), false).unwrap();
    }
    sending.send_data(Bytes::new(), true).unwrap();
    let response = response.await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["etag"].as_bytes()), (200, &b"PUT"[..]));
    let (mut response, mut whole) = (response.into_body(), Vec::new());
    while let Some(piece) = response.data().await {
        let piece = piece.unwrap();
        response.flow_control().release_capacity(piece.len()).unwrap();
        whole.extend_from_slice(&piece);
    }
    whole
}

/// A7: responses that are ready together share a write, and each is complete
#[test]
fn responses_of_one_turn_share_a_write() {
    const ROUNDS: usize = 20;
    let bodies: Vec<Vec<u8>> =
        [0, 1, 255, 256, 1_000, 1_024, 1_500, 4_000].iter().map(|&bytes| vec![bytes as u8; bytes]).collect();
    let (writes, sent) = (Rc::default(), bodies.clone());
    let (ended, ()) = run_counted(&writes, async move |pipe| {
        let (requests, connection) = h2::client::handshake(pipe).await.unwrap();
        let exchanging = async {
            for _ in 0..ROUNDS {
                let echoed = join_all(sent.iter().map(|body| {
                    let mut requests = requests.clone();
                    async move { exchange(&mut requests, body, 2_000).await }
                }));
                assert_eq!(echoed.await, sent);
            }
            drop(requests);
        };
        let (ended, ()) = tokio::join!(connection, exchanging);
        ended.unwrap();
    });
    assert!(ended.is_ok(), "{ended:?}");
    let responses = ROUNDS * bodies.len();
    assert!(writes.get() <= responses / 2, "{} writes for {responses} responses", writes.get());
}

const NAMES: [&str; 6] = ["x-a", "x-b", "user-agent", "accept", "x-a-name-that-fills-the-table", "referer"];

/// The headers of a request: names and values.
type Fields = Vec<(prop::sample::Index, String)>;

fn fields() -> impl Strategy<Value = Fields> {
    prop::collection::vec((any::<prop::sample::Index>(), "[a-zA-Z0-9#/:._%-]{0,120}"), 0..12)
}

/// The status of a request with these headers and trailers.
async fn status(
    requests: &mut h2::client::SendRequest<Bytes>,
    path: u8,
    headers: &Fields,
    trailers: &Fields,
) -> Result<u16, h2::Error> {
    let map = |fields: &Fields| -> http::HeaderMap {
        let name =
            |index: &prop::sample::Index| http::HeaderName::from_static(NAMES[index.index(NAMES.len())]);
        fields.iter().map(|(index, value)| (name(index), value.parse().unwrap())).collect()
    };
    let mut request =
        http::Request::builder().method("PUT").uri(format!("https://a/{path}")).body(()).unwrap();
    *request.headers_mut() = map(headers);
    let (response, mut sending) = requests.send_request(request, false)?;
    sending.send_data(Bytes::from_static(b"body"), false)?;
    sending.send_trailers(map(trailers))?;
    Ok(response.await?.status().as_u16())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// V9, A7: bodies are forwarded completely, for any piece sizes and any window of the client
    #[test]
    fn bodies_are_complete(bytes in 0_usize..250_000, cut in 20_usize..40_000, window in 1000_u32..100_000) {
        let body: Vec<u8> = (0..bytes).map(|at| (at * 7 % 251) as u8).collect();
        let sent = body.clone();
        let (ended, echoed) = run(async move |pipe| {
            let (mut requests, connection) = h2::client::Builder::new()
                .initial_window_size(window)
                .handshake(pipe).await.unwrap();
            let exchanging = async {
                let mut echoed = exchange(&mut requests, &sent, cut).await;
                echoed.extend(exchange(&mut requests, &sent, cut).await);
                drop(requests);
                echoed
            };
            let (ended, echoed) = tokio::join!(connection, exchanging);
            ended.unwrap();
            echoed
        });
        prop_assert!(ended.is_ok(), "{ended:?}");
        prop_assert_eq!(echoed, [&body[..], &body[..]].concat());
    }

    /// V9: valid headers and trailers are never malformed, whatever the entries of the compression tables
    #[test]
    fn valid_trailers_are_accepted(exchanges in prop::collection::vec((any::<u8>(), fields(), fields()), 1..30)) {
        let (ended, statuses) = run(async move |pipe| {
            let (mut requests, connection) = h2::client::handshake(pipe).await.unwrap();
            let exchanging = async {
                let mut statuses = Vec::new();
                for (path, headers, trailers) in &exchanges {
                    statuses.push(status(&mut requests, *path, headers, trailers).await);
                }
                drop(requests);
                statuses
            };
            let (ended, statuses) = tokio::join!(connection, exchanging);
            ended.unwrap();
            statuses
        });
        prop_assert!(ended.is_ok(), "{ended:?}");
        prop_assert!(statuses.iter().all(|status| matches!(status, Ok(200))), "{statuses:?}");
    }

    /// V9, Bad input: the loop ends with its client after any frames
    #[test]
    fn any_frames_end_with_the_connection(
        frames in prop::collection::vec(
            (0_u8..12, any::<u8>(), 0_u32..8, prop::collection::vec(any::<u8>(), 0..60)), 0..40),
        at in any::<prop::sample::Index>(),
    ) {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec();
        let request = b"\x82\x87\x84\x01\x01a";
        let good = (1_u8, 4_u8, 1_u32, request.to_vec());
        let position = at.index(frames.len() + 1);
        for (kind, flags, stream, payload) in
            frames[..position].iter().chain([&good]).chain(&frames[position..])
        {
            bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
            bytes.extend_from_slice(&[*kind, *flags]);
            bytes.extend_from_slice(&stream.to_be_bytes());
            bytes.extend_from_slice(payload);
        }
        let (ended, ()) = run(async move |mut pipe| {
            // The loop may end before it has read all frames.
            let _ = pipe.write_all(&bytes).await;
            let _ = pipe.shutdown().await;
            let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
        });
        prop_assert!(!matches!(ended, Err(ConnectionError::Timeout)), "{ended:?}");
    }
}
