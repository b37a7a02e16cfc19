//! A scripted upstream on a real socket: it answers byte by byte and records its requests.
//!
//! It runs on its own thread, so that a test may block. It counts connections and concurrent requests, so a gate is
//! verified at the upstream, not by the gateway's own figures.

mod reply;
mod serve;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

pub(crate) use reply::{Latch, UpstreamReply};

use super::wait_until;

/// A request as received by the upstream.
#[derive(Debug, Clone, Default)]
pub(crate) struct SeenRequest {
    pub(crate) method: String,
    /// The request target, byte for byte (latin-1).
    pub(crate) target: String,
    /// In order, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body; empty if the upstream did not read it.
    pub(crate) body: Vec<u8>,
    /// Whether the body was complete.
    pub(crate) is_complete: bool,
    /// The ordinal of its connection, from 1.
    pub(crate) connection: usize,
    /// The ordinal of the request, from 1.
    pub(crate) number: usize,
    /// The number of concurrent requests when it arrived, itself included.
    pub(crate) in_flight: usize,
}

impl SeenRequest {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers_named(name).first().copied()
    }

    pub(crate) fn headers_named(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(each, _)| each == name).map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn sha256(&self) -> String {
        super::client::sha256(&self.body)
    }
}

type Handler = dyn Fn(&SeenRequest) -> UpstreamReply + Send + Sync;

/// When the handler is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReplyTime {
    AfterBody,
    AfterHead,
}

struct State {
    handler: Box<Handler>,
    when: ReplyTime,
    seen: Mutex<Vec<SeenRequest>>,
    connections: AtomicUsize,
    live: AtomicUsize,
    in_flight: AtomicUsize,
    peak: AtomicUsize,
    cancelled: AtomicUsize,
}

enum Command {
    Stop(oneshot::Sender<()>),
    Start(oneshot::Sender<()>),
}

/// A scripted upstream.
pub(crate) struct Upstream {
    address: SocketAddr,
    state: Arc<State>,
    commands: mpsc::UnboundedSender<Command>,
}

impl Upstream {
    /// Calls the handler after a request's body.
    pub(crate) fn start(handler: impl Fn(&SeenRequest) -> UpstreamReply + Send + Sync + 'static) -> Self {
        Self::start_when(ReplyTime::AfterBody, Box::new(handler))
    }

    /// Calls the handler after a request's head, and does not read the body.
    pub(crate) fn replying_before_body(
        handler: impl Fn(&SeenRequest) -> UpstreamReply + Send + Sync + 'static,
    ) -> Self {
        Self::start_when(ReplyTime::AfterHead, Box::new(handler))
    }

    /// Answers every request with 200 and this body.
    pub(crate) fn ok(body: &'static str) -> Self {
        Self::start(move |_| UpstreamReply::ok(body))
    }

    /// Answers the first requests with these replies, and all later ones with the last.
    pub(crate) fn sequence(acts: Vec<UpstreamReply>) -> Self {
        Self::start(move |seen| acts[seen.number.min(acts.len()) - 1].clone())
    }

    fn start_when(when: ReplyTime, handler: Box<Handler>) -> Self {
        let state = Arc::new(State {
            handler,
            when,
            seen: Mutex::default(),
            connections: AtomicUsize::default(),
            live: AtomicUsize::default(),
            in_flight: AtomicUsize::default(),
            peak: AtomicUsize::default(),
            cancelled: AtomicUsize::default(),
        });
        let port = reserve_port();
        let address = port.local_addr().unwrap().as_socket().unwrap();
        let socket = std::net::TcpListener::bind(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        let (commands, received) = mpsc::unbounded_channel();
        let of_thread = Arc::clone(&state);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime
                .block_on(async { run(TcpListener::from_std(socket), address, of_thread, received).await });
            drop(port);
        });
        Self { address, state, commands }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests with a complete head, in order.
    pub(crate) fn seen(&self) -> Vec<SeenRequest> {
        self.state.seen.lock().unwrap().clone()
    }

    /// The number of requests.
    pub(crate) fn count(&self) -> usize {
        self.state.seen.lock().unwrap().len()
    }

    /// The last request.
    pub(crate) fn last(&self) -> SeenRequest {
        self.seen().pop().expect("a request arrived")
    }

    /// The number of open connections.
    pub(crate) fn open_connections(&self) -> usize {
        self.state.live.load(Ordering::SeqCst)
    }

    /// The number of connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// The number of requests in flight: with a complete head and an unfinished answer.
    pub(crate) fn in_flight(&self) -> usize {
        self.state.in_flight.load(Ordering::SeqCst)
    }

    /// The maximum of concurrent requests.
    pub(crate) fn peak_in_flight(&self) -> usize {
        self.state.peak.load(Ordering::SeqCst)
    }

    /// The number of requests that were disconnected before the end of their answer.
    pub(crate) fn cancelled(&self) -> usize {
        self.state.cancelled.load(Ordering::SeqCst)
    }

    /// Waits until this many requests are in flight.
    pub(crate) async fn wait_until_in_flight(&self, requests: usize) {
        wait_until(&format!("{requests} requests are in flight at the upstream"), || {
            self.in_flight() == requests
        })
        .await;
    }

    /// Closes every connection and refuses new ones.
    pub(crate) async fn stop(&self) {
        self.command(Command::Stop).await;
    }

    /// Listens again at the same address.
    pub(crate) async fn start_again(&self) {
        self.command(Command::Start).await;
    }

    async fn command(&self, command: impl FnOnce(oneshot::Sender<()>) -> Command) {
        let (done, is_done) = oneshot::channel();
        assert!(self.commands.send(command(done)).is_ok());
        is_done.await.unwrap();
    }
}

/// A bound socket that never listens. While it exists, the kernel gives its port to no other socket without `SO_REUSEADDR`, so a
/// stopped upstream can listen again; a connection to a stopped one is refused.
fn reserve_port() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    // The listener has it too, so both can have the port.
    socket.set_reuse_address(true).unwrap();
    socket
}

async fn run(
    listener: std::io::Result<TcpListener>,
    address: SocketAddr,
    state: Arc<State>,
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    let mut listener = Some(listener.unwrap());
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = accepted => {
                let (stream, _) = accepted.unwrap();
                connections.spawn(serve::connection(stream, Arc::clone(&state)));
            }
            Some(_) = connections.join_next() => {}
            command = commands.recv() => match command {
                None => return,
                Some(Command::Stop(done)) => {
                    listener = None;
                    connections.shutdown().await;
                    let _ = done.send(());
                }
                Some(Command::Start(done)) => {
                    listener = Some(TcpListener::bind(address).await.unwrap());
                    let _ = done.send(());
                }
            }
        }
    }
}
