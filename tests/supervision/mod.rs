//! Effects of actor crashes: no check is bypassed, nothing is lost, nothing leaks.

mod breakers;
mod crash;
mod mailbox;
mod request_panic;
pub(crate) mod restart_delay;
mod stall;
mod storm;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Client, Gateway, Response, client};

const PLACES: [&str; 5] = ["decide", "apply", "applied", "timer", "started"];

/// Clients that send requests continuously, each on its own connection, until they are stopped.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<Vec<Response>>>,
}

impl Load {
    fn start(gateway: &Gateway, clients: usize, target: &str, headers: &[(&str, &str)]) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let message = client::message("GET", target, headers, None);
        let ask = |_| {
            let (stop, message, address) = (Arc::clone(&stop), message.clone(), gateway.address());
            tokio::spawn(async move {
                let mut answers = Vec::new();
                let mut client = Client::connect(address).await;
                while !stop.load(Ordering::Relaxed) {
                    client.send(&message).await;
                    answers.push(client.response("GET").await);
                }
                answers
            })
        };
        let clients = (0..clients).map(ask).collect();
        Self { stop, clients }
    }

    /// All answers; each must be complete.
    async fn answers(self) -> Vec<Response> {
        self.stop.store(true, Ordering::Relaxed);
        let mut answers = Vec::new();
        for client in self.clients {
            answers.extend(client.await.unwrap());
        }
        assert!(answers.iter().all(|answer| answer.broken.is_none()), "a transfer broke");
        answers
    }
}

/// The number of answers with this status and reason.
fn count(answers: &[Response], status: u16, reason: &str) -> usize {
    answers.iter().filter(|answer| answer.status == status && answer.reason() == reason).count()
}

/// The answers that are neither 200 nor refused for this reason.
fn others<'a>(answers: &'a [Response], reason: &str) -> Vec<&'a Response> {
    answers.iter().filter(|answer| answer.status != 200 && answer.reason() != reason).collect()
}
