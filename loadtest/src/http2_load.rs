//! A closed loop over HTTP/2: a number of connections, each with a number of concurrent requests.
//!
//! It is the load of comparisons and not of scenarios: nothing is checked but the status. A connection that breaks ends its streams, which
//! count as failed, and is replaced. Nothing is retried.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Uri};
use tokio::task::JoinSet;

use crate::client::RequestFault;
use crate::clock;
use crate::destination::Destination;
use crate::recorder::{FinishedRequest, Recorder};

/// Pause after a failed connect.
const CONNECT_RETRY_DELAY: Duration = Duration::from_millis(10);

/// Destination and bounds of a load.
pub(crate) struct Http2Load {
    /// The server. Its TLS configuration offers `h2`; without one the server must expect HTTP/2 in cleartext.
    pub(crate) destination: Destination,
    /// The target of each request.
    pub(crate) target: Uri,
    pub(crate) connections: usize,
    /// Concurrent requests of each connection.
    pub(crate) streams: usize,
    pub(crate) seconds: f64,
    /// The client's timeout.
    pub(crate) timeout: Duration,
}

/// Offers the load, and waits for the last answer.
pub(crate) async fn run(load: Http2Load, recorder: Rc<RefCell<Recorder>>) -> io::Result<()> {
    let (begin, length) = (clock::now(), Duration::from_secs_f64(load.seconds));
    recorder.borrow_mut().begin(begin, Some(length));
    let running = Rc::new(RunningLoad { load, recorder, end: begin + length });
    let mut connections = JoinSet::new();
    for _ in 0..running.load.connections {
        connections.spawn_local(Rc::clone(&running).connection());
    }
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// State that the tasks of a running load share.
struct RunningLoad {
    load: Http2Load,
    recorder: Rc<RefCell<Recorder>>,
    end: Instant,
}

impl RunningLoad {
    /// Keeps one connection open until the end.
    async fn connection(self: Rc<Self>) {
        while clock::now() < self.end {
            let began = clock::now();
            let Ok(requests) = self.open().await else {
                self.record(began, Err(RequestFault::Connect), 0);
                tokio::time::sleep(CONNECT_RETRY_DELAY).await;
                continue;
            };
            let mut streams = JoinSet::new();
            for _ in 0..self.load.streams {
                streams.spawn_local(Rc::clone(&self).stream(requests.clone()));
            }
            while streams.join_next().await.is_some() {}
        }
    }

    async fn open(&self) -> io::Result<SendRequest<Bytes>> {
        let opened = async {
            let stream = self.load.destination.connect().await?;
            h2::client::handshake(stream).await.map_err(io::Error::other)
        };
        let (requests, connection) = tokio::time::timeout(self.load.timeout, opened).await??;
        // It ends with its last stream. Its error is that of the streams.
        tokio::task::spawn_local(connection);
        Ok(requests)
    }

    /// Sends one request after the other until the end, or until one fails.
    async fn stream(self: Rc<Self>, mut requests: SendRequest<Bytes>) {
        while clock::now() < self.end {
            let sent = clock::now();
            let exchange = exchange(&mut requests, &self.load.target);
            let (outcome, body_bytes) = match tokio::time::timeout(self.load.timeout, exchange).await {
                Ok(Ok((status, body_bytes))) => (Ok(status), body_bytes),
                Ok(Err(_)) => (Err(RequestFault::Closed), 0),
                Err(_) => (Err(RequestFault::TimedOut), 0),
            };
            self.record(sent, outcome, body_bytes);
            if outcome.is_err() {
                return;
            }
        }
    }

    fn record(&self, sent: Instant, outcome: Result<u16, RequestFault>, body_bytes: u64) {
        let finished = FinishedRequest { intended: sent, sent, ended: clock::now(), outcome, body_bytes };
        self.recorder.borrow_mut().record(finished);
    }
}

/// Sends one request; returns the status, and the bytes of the body.
pub(crate) async fn exchange(
    requests: &mut SendRequest<Bytes>,
    target: &Uri,
) -> Result<(u16, u64), h2::Error> {
    poll_fn(|cx| requests.poll_ready(cx)).await?;
    let mut request = Request::new(());
    *request.uri_mut() = target.clone();
    let (response, _) = requests.send_request(request, true)?;
    let (head, mut body) = response.await?.into_parts();
    let mut body_bytes = 0;
    while let Some(piece) = body.data().await {
        let bytes = piece?.len();
        body_bytes += bytes as u64;
        body.flow_control().release_capacity(bytes)?;
    }
    Ok((head.status.as_u16(), body_bytes))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use h2::server::SendResponse;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::LocalSet;

    use super::*;
    use crate::statistics::Statistics;

    const CONNECTIONS: usize = 2;
    const STREAMS: usize = 3;

    /// What the server has seen.
    #[derive(Default)]
    struct Seen {
        connections: Cell<usize>,
        /// Requests in flight, and the most of them at a time.
        open: Cell<usize>,
        peak: Cell<usize>,
    }

    impl Seen {
        async fn answer(self: Rc<Self>, mut respond: SendResponse<Bytes>) {
            self.open.set(self.open.get() + 1);
            self.peak.set(self.peak.get().max(self.open.get()));
            tokio::time::sleep(Duration::from_millis(5)).await;
            self.open.set(self.open.get() - 1);
            // An error means that the connection has ended.
            if let Ok(mut sending) = respond.send_response(http::Response::new(()), false) {
                let _ = sending.send_data(Bytes::from_static(b"abc"), true);
            }
        }

        /// Serves a connection, and closes it at the request after this number.
        async fn serve(self: Rc<Self>, stream: TcpStream, requests_max: usize) {
            self.connections.set(self.connections.get() + 1);
            let mut connection = h2::server::handshake(stream).await.unwrap();
            for _ in 0..requests_max {
                let Some(Ok((_, respond))) = connection.accept().await else { return };
                tokio::task::spawn_local(Rc::clone(&self).answer(respond));
            }
            let _ = connection.accept().await;
        }
    }

    /// The statistics of a load on a server that closes each connection after this number of requests.
    fn offered(requests_max: usize) -> (Statistics, Rc<Seen>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (recorder, seen) = (Rc::new(RefCell::new(Recorder::new())), Rc::<Seen>::default());
        let offer = async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let load = Http2Load {
                destination: listener.local_addr().unwrap().into(),
                target: Uri::from_static("http://localhost/x"),
                connections: CONNECTIONS,
                streams: STREAMS,
                seconds: 0.2,
                timeout: Duration::from_secs(20),
            };
            let server = Rc::clone(&seen);
            tokio::task::spawn_local(async move {
                loop {
                    let stream = listener.accept().await.unwrap().0;
                    tokio::task::spawn_local(Rc::clone(&server).serve(stream, requests_max));
                }
            });
            run(load, Rc::clone(&recorder)).await
        };
        LocalSet::new().block_on(&runtime, offer).unwrap();
        let mut statistics = Statistics::default();
        recorder.borrow().summarize("x", &mut statistics);
        (statistics, seen)
    }

    #[test]
    fn each_connection_has_its_streams_at_once() {
        let (statistics, seen) = offered(usize::MAX);
        let value = |name: &str| statistics.value(name).unwrap();
        assert_eq!((seen.connections.get(), seen.peak.get()), (CONNECTIONS, CONNECTIONS * STREAMS));
        assert!(value("x.lost") == 0.0 && value("x.ok") >= (CONNECTIONS * STREAMS) as f64, "{statistics:?}");
        assert_eq!(value("x.body_bytes"), 3.0 * value("x.ok"));
    }

    #[test]
    fn a_broken_connection_counts_as_failed_and_is_replaced() {
        let (statistics, seen) = offered(2 * STREAMS);
        assert!(seen.connections.get() > CONNECTIONS, "{statistics:?}");
        assert!(statistics.value("x.fault_closed").unwrap() >= 1.0, "{statistics:?}");
        assert!(statistics.value("x.ok").unwrap() >= STREAMS as f64, "{statistics:?}");
    }
}
