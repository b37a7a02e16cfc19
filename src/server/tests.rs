//! The acceptor and its worker threads on real sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream as Client};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus::Registry;
use slog::{Discard, Drain, OwnedKVList, Record, o};
use tidegate_actors::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::acceptor_handle::DuplicatedSocket;
use super::admission::{Admission, AdmissionDecision};
use super::pause::PauseCause;
use super::*;

pub(super) const TIMEOUT: Duration = Duration::from_secs(60);

/// Replies to each byte with its successor. The byte 0 stops the worker thread.
struct Successor;

impl ConnectionHandler for Successor {
    async fn serve(self: std::rc::Rc<Self>, mut stream: TcpStream, _peer: Option<SocketAddr>) {
        while let Ok(byte) = stream.read_u8().await {
            if byte == 0 {
                actix_rt::Arbiter::current().stop();
            }
            let _ = stream.write_u8(byte.wrapping_add(1)).await;
        }
    }
}

struct Always;

impl Admission for Always {
    fn admit(&self) -> AdmissionDecision {
        AdmissionDecision::Accept
    }
}

/// Always, also on the worker threads.
pub(super) struct Lends;

impl Admission for Lends {
    fn admit(&self) -> AdmissionDecision {
        AdmissionDecision::Accept
    }

    fn has_room(&self, _: usize) -> bool {
        true
    }
}

struct Never;

impl Admission for Never {
    fn admit(&self) -> AdmissionDecision {
        AdmissionDecision::Pause(PauseCause::TooManyConnections)
    }
}

/// Counts its calls, and never admits.
#[derive(Clone, Default)]
struct Full(Arc<AtomicUsize>);

impl Admission for Full {
    fn admit(&self) -> AdmissionDecision {
        self.0.fetch_add(1, Ordering::Relaxed);
        AdmissionDecision::Pause(PauseCause::TooManyConnections)
    }
}

/// Panics once.
#[derive(Default)]
struct Panics(AtomicBool);

impl Admission for Panics {
    fn admit(&self) -> AdmissionDecision {
        assert!(self.0.swap(true, Ordering::Relaxed), "the first accept panics");
        AdmissionDecision::Accept
    }
}

pub(super) fn server(workers: usize, admission: impl Admission + 'static) -> (Server, SocketAddr) {
    server_of(workers, admission, || Successor)
}

fn server_of<S: ConnectionHandler>(
    workers: usize,
    admission: impl Admission + 'static,
    handler: impl Fn() -> S + Clone + Send + 'static,
) -> (Server, SocketAddr) {
    let mut threads = WorkerThreads::new();
    let senders = (0..workers)
        .map(|index| {
            let handler = handler.clone();
            let build = move || async move { Ok(handler()) };
            threads.start(format!("worker {index}"), 1, build).unwrap().sender()
        })
        .collect();
    let settings = SocketSettings { stall: Duration::from_secs(60), send_bytes: None };
    let socket = listen(SocketAddr::from(([127, 0, 0, 1], 0)), settings).unwrap();
    let address = socket.local_addr().unwrap();
    let listener = Listener::new("data", socket, senders, Box::new(admission));
    let metrics = AcceptMetrics::register(&Registry::new()).unwrap();
    let server =
        Server::start(vec![listener], false, threads, metrics, &Logger::root(Discard, o!())).unwrap();
    (server, address)
}

/// The messages of a log.
#[derive(Clone, Default)]
struct Messages(Arc<Mutex<Vec<String>>>);

impl Drain for Messages {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), slog::Never> {
        self.0.lock().unwrap().push(record.msg().to_string());
        Ok(())
    }
}

/// G8, X5: an episode of pauses ends with its listener, at a hand-over and at a close, in the log and in the list of paused listeners
#[actix_rt::test]
async fn an_episode_ends_with_its_listener() {
    for is_released in [true, false] {
        let (messages, metrics) = (Messages::default(), AcceptMetrics::register(&Registry::new()).unwrap());
        let settings = SocketSettings { stall: Duration::from_secs(60), send_bytes: None };
        let socket = listen(SocketAddr::from(([127, 0, 0, 1], 0)), settings).unwrap();
        let address = socket.local_addr().unwrap();
        let listener = Listener::new("data", socket, Vec::new(), Box::new(Never)).activated(true);
        let log = Logger::root(messages.clone(), o!());
        let server =
            Server::start(vec![listener], false, WorkerThreads::new(), metrics.clone(), &log).unwrap();
        let _waiting = connect(address);
        let began = clock::now();
        while metrics.paused_listeners().is_empty() {
            assert!(began.elapsed() < TIMEOUT, "it does not pause");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        match is_released {
            true => server.acceptor().release(vec!["data"]).await,
            false => server.close("data").await,
        }
        assert!(metrics.paused_listeners().is_empty());
        let messages = messages.0.lock().unwrap().clone();
        assert_eq!(
            messages,
            ["accepting connections pauses", "accepting connections ends with the listener, while it pauses"]
        );
        server.stop(TIMEOUT).await;
    }
}

pub(super) fn connect(address: SocketAddr) -> Client {
    let client = Client::connect(address).unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    client
}

pub(super) fn exchange(mut client: &Client, byte: u8) -> u8 {
    client.write_all(&[byte]).unwrap();
    let mut reply = [0];
    client.read_exact(&mut reply).unwrap();
    reply[0]
}

pub(super) fn counts(server: &Server) -> Vec<usize> {
    server.threads.iter().map(|thread| thread.open().load(Ordering::Relaxed)).collect()
}

/// X5: each connection is sent to the worker with the fewest, also after others have closed
#[actix_rt::test]
async fn connections_go_to_the_least_loaded_worker() {
    let (server, address) = server(3, Always);
    let mut clients: Vec<Client> = (0..9).map(|_| connect(address)).collect();
    assert!(clients.iter().all(|client| exchange(client, 1) == 2));
    assert_eq!(counts(&server), [3, 3, 3]);
    // The workers take turns, so every third connection is of one worker.
    for index in [6, 3, 0] {
        clients.remove(index);
    }
    let began = clock::now();
    while counts(&server).iter().sum::<usize>() > 6 {
        assert!(began.elapsed() < TIMEOUT, "{:?}", counts(&server));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(counts(&server).contains(&0), "{:?}", counts(&server));
    clients.extend((0..3).map(|_| connect(address)));
    assert!(clients.iter().all(|client| exchange(client, 1) == 2));
    assert_eq!(counts(&server), [3, 3, 3]);
    server.stop(TIMEOUT).await;
}

/// X5: a full listener checks often whether a connection has ended, so that its room is used at once, and does not
/// spin
#[actix_rt::test]
async fn a_full_listener_is_sampled_often() {
    let full = Full::default();
    let (server, address) = server(1, full.clone());
    let waiting = connect(address);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let samples = full.0.load(Ordering::Relaxed);
    assert!((20..=400).contains(&samples), "{samples} samples in a second");
    drop(waiting);
    server.stop(TIMEOUT).await;
}

/// E3: a panic of the acceptor ends neither the acceptor nor the waiting connection
#[actix_rt::test]
async fn a_panic_of_the_acceptor_does_not_end_it() {
    let (server, address) = server(1, Panics::default());
    assert_eq!(exchange(&connect(address), 1), 2);
    assert_eq!(exchange(&connect(address), 7), 8);
    server.stop(TIMEOUT).await;
}

/// Counts its dropped connections. Each drop takes a while.
struct SlowToDrop(Arc<AtomicUsize>);

struct SlowDrop(Arc<AtomicUsize>);

impl Drop for SlowDrop {
    fn drop(&mut self) {
        std::thread::sleep(Duration::from_millis(100));
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl ConnectionHandler for SlowToDrop {
    async fn serve(self: std::rc::Rc<Self>, mut stream: TcpStream, _peer: Option<SocketAddr>) {
        let _slow = SlowDrop(Arc::clone(&self.0));
        let _ = stream.write_u8(1).await;
        std::future::pending().await
    }
}

/// G4, O2: a stop waits until the connections of all threads are dropped, because their drops write the last log lines
#[actix_rt::test]
async fn a_stop_waits_for_the_end_of_all_connections() {
    let dropped = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&dropped);
    let (server, address) = server_of(2, Always, move || SlowToDrop(Arc::clone(&count)));
    let clients: Vec<Client> = (0..4).map(|_| connect(address)).collect();
    for mut client in &clients {
        client.read_exact(&mut [0]).unwrap();
    }
    server.stop(TIMEOUT).await;
    assert_eq!(dropped.load(Ordering::Relaxed), 4);
}

/// S4: a worker thread that ends is reported with its name, and the others serve new connections
#[actix_rt::test]
async fn an_ended_worker_thread_is_reported() {
    let (mut server, address) = server(2, Always);
    let fatal = connect(address);
    (&fatal).write_all(&[0]).unwrap();
    let name = tokio::time::timeout(TIMEOUT, server.worker_ended()).await.unwrap();
    assert!(name.starts_with("worker "), "{name}");
    for _ in 0..4 {
        assert_eq!(exchange(&connect(address), 1), 2);
    }
}

/// G8: a suspended listener accepts nothing; the connections that wait are served when it resumes
#[actix_rt::test]
async fn a_suspended_listener_leaves_connections_in_the_backlog() {
    suspends(server(2, Always)).await;
    suspends(server(2, Lends)).await;
}

async fn suspends((server, address): (Server, SocketAddr)) {
    assert_eq!(exchange(&connect(address), 1), 2);
    let acceptor = server.acceptor();
    acceptor.suspend().await;
    let before: usize = counts(&server).iter().sum();
    let clients: Vec<Client> = (0..100).map(|_| connect(address)).collect();
    for mut client in &clients {
        client.write_all(&[1]).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(counts(&server).iter().sum::<usize>() <= before, "none is accepted");
    acceptor.resume();
    for mut client in &clients {
        let mut reply = [0];
        client.read_exact(&mut reply).unwrap();
        assert_eq!(reply, [2]);
    }
    server.stop(TIMEOUT).await;
}

/// G8: a released listener leaves its backlog to the process that shares the socket, and refuses nothing
#[actix_rt::test]
async fn a_released_listener_stays_open_at_its_other_owner() {
    is_released(server(1, Always)).await;
    is_released(server(2, Lends)).await;
}

async fn is_released((server, address): (Server, SocketAddr)) {
    let acceptor = server.acceptor();
    let mut sockets = acceptor.duplicate_sockets().await.unwrap();
    let DuplicatedSocket { name, socket: shared, .. } = sockets.pop().unwrap();
    assert_eq!((name, sockets.len()), ("data", 0));
    acceptor.suspend().await;
    let waiting = connect(address);
    acceptor.release(vec!["data"]).await;
    let later = connect(address);
    let shared = std::net::TcpListener::from(shared);
    for client in [waiting, later] {
        let (accepted, from) = shared.accept().unwrap();
        assert_eq!(from, client.local_addr().unwrap());
        drop(accepted);
    }
    drop(shared);
    assert_eq!(Client::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    server.stop(TIMEOUT).await;
}

/// G4: connections in the backlog of a closing listener are accepted and served; later connections are refused
#[actix_rt::test]
async fn a_closing_listener_serves_its_backlog() {
    let (server, address) = server(2, Never);
    let clients: Vec<Client> = (0..100).map(|_| connect(address)).collect();
    for mut client in &clients {
        client.write_all(&[1]).unwrap();
    }
    assert_eq!(counts(&server), [0, 0], "all of them wait");
    server.close("data").await;
    for mut client in &clients {
        let mut reply = [0];
        client.read_exact(&mut reply).unwrap();
        assert_eq!(reply, [2]);
    }
    assert_eq!(Client::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    server.stop(TIMEOUT).await;
}
