//! Accepting on the worker threads, on real sockets.

use std::io::{Read, Write};
use std::net::TcpStream as Client;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidegate_actors::clock;

use super::admission::{Admission, AdmissionDecision};
use super::pause::PauseCause;
use super::tests::{Lends, TIMEOUT, connect, counts, exchange, server};

/// Has room for the workers until it is full, and admits none then.
#[derive(Clone, Default)]
struct Fills(Arc<AtomicBool>);

impl Admission for Fills {
    fn admit(&self) -> AdmissionDecision {
        match self.0.load(Ordering::Relaxed) {
            true => AdmissionDecision::Pause(PauseCause::TooManyConnections),
            false => AdmissionDecision::Accept,
        }
    }

    fn has_room(&self, _: usize) -> bool {
        !self.0.load(Ordering::Relaxed)
    }
}

/// X5: threads that accept spread few connections evenly, and the other thread of an ended one serves new connections
#[actix_rt::test]
async fn worker_threads_spread_what_they_accept() {
    let (mut server, address) = server(2, Lends);
    let clients: Vec<Client> = (0..8).map(|_| connect(address)).collect();
    assert!(clients.iter().all(|client| exchange(client, 1) == 2));
    assert_eq!(counts(&server), [4, 4]);
    (&clients[0]).write_all(&[0]).unwrap();
    tokio::time::timeout(TIMEOUT, server.worker_ended()).await.unwrap();
    let more: Vec<Client> = (0..20).map(|_| connect(address)).collect();
    assert!(more.iter().all(|client| exchange(client, 1) == 2));
    server.stop(TIMEOUT).await;
}

/// X5: a listener without room goes back to the acceptor, which pauses; the workers accept again when there is room for a second
#[actix_rt::test]
async fn a_full_listener_goes_back_to_the_acceptor() {
    let fills = Fills::default();
    let (server, address) = server(2, fills.clone());
    assert_eq!(exchange(&connect(address), 1), 2);
    for _ in 0..2 {
        let began = clock::now();
        while counts(&server).iter().sum::<usize>() > 0 {
            assert!(began.elapsed() < TIMEOUT, "{:?}", counts(&server));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        fills.0.store(true, Ordering::Relaxed);
        let waiting: Vec<Client> = (0..10).map(|_| connect(address)).collect();
        for mut client in &waiting {
            client.write_all(&[1]).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(counts(&server).iter().sum::<usize>(), 0, "none is accepted");
        fills.0.store(false, Ordering::Relaxed);
        for mut client in &waiting {
            let mut reply = [0];
            client.read_exact(&mut reply).unwrap();
            assert_eq!(reply, [2]);
        }
        drop(waiting);
        // Until the episode of pauses has ended.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        assert_eq!(exchange(&connect(address), 1), 2);
    }
    server.stop(TIMEOUT).await;
}
