//! The idle timeout of an answer counts the silence of the upstream, and not the time in which the client accepts no bytes.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::client::message;
use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, wait_for};

const IDLE_CUTS: &str = "errors_total{bucket=\"b\",reason=\"timeout_idle\"}";
/// So small that the gateway holds most of an answer.
const CLIENT_BUFFER: Option<u32> = Some(16 << 10);
/// The upstream sends from 64 KiB to 2 MiB and waits for its latch before it sends the rest: with some of these sizes its last bytes are
/// those that the client does not accept.
const SIZES: std::ops::Range<usize> = 4..128;
const STEP_BYTES: usize = 16 << 10;
const REST_BYTES: usize = 100 << 10;
/// Longer than the idle timeout, 1 s, and than the timer of the answers that it ends while the clients stop.
const STOP: Duration = Duration::from_millis(2500);
/// Shorter than the idle timeout.
const LATE: Duration = Duration::from_millis(300);

struct Download {
    client: Client,
    latch: Latch,
    bytes: usize,
}

impl Download {
    /// Reads the bytes that the upstream has sent. False if the gateway has cut the download.
    async fn read_sent(&mut self) -> bool {
        let mut read = 0;
        while read < self.bytes {
            match self.client.read_some().await {
                Ok(piece) => read += piece.len(),
                Err(_) => return false,
            }
        }
        true
    }

    /// Reads on. True if the download ends completely after the upstream has sent its rest late.
    async fn read_on(mut self) -> bool {
        if !self.read_sent().await {
            return false;
        }
        sleep(LATE).await;
        self.latch.open(1);
        self.bytes = REST_BYTES;
        self.read_sent().await
    }
}

/// Begins a download for each size, and reads none of its body.
async fn begin_all(gateway: &Gateway, latches: &[Latch]) -> Vec<Download> {
    let mut downloads = Vec::new();
    for (steps, latch) in SIZES.zip(latches) {
        let mut client = Client::connect_from([127, 0, 0, 2], gateway.address(), CLIENT_BUFFER).await;
        client.send(message("GET", &format!("/b/{steps}"), &[], None)).await;
        assert_eq!(client.head().await.status, 200);
        downloads.push(Download { client, latch: latch.clone(), bytes: steps * STEP_BYTES });
    }
    downloads
}

/// T2, T4: a client that stops for longer than the idle timeout and reads on loses nothing, with bodies that are copied and bodies that
/// pass through a pipe; an upstream that is silent while the gateway reads is cut, also after its client has read on
#[tokio::test]
async fn only_the_silence_of_the_upstream_counts() {
    for buffer_budget in ["0", "256MiB"] {
        let latches: Vec<Latch> = SIZES.map(|_| Latch::new()).collect();
        let of_upstream = latches.clone();
        let upstream = Upstream::start(move |request| {
            let steps: usize = request.target.trim_start_matches("/b/").parse().unwrap();
            UpstreamReply::ok(vec![b'x'; steps * STEP_BYTES])
                .then_body_when_open(&of_upstream[steps - SIZES.start], vec![b'x'; REST_BYTES])
        });
        let gateway = Gateway::builder()
            .bucket("b", &upstream)
            .set("server.buffer_budget", buffer_budget)
            .set("server.min_send_rate", "0")
            .set("buckets.b.s3.concurrency.max_concurrent", "400")
            .set("buckets.b.s3.connection_pool.size", "400")
            .set("buckets.b.s3.idle_timeout", "1")
            .start()
            .await;
        let mut downloads = begin_all(&gateway, &latches).await;
        sleep(STOP).await;
        // The gateway has read these whole, and waits for the upstream.
        let silent = gateway.metric(IDLE_CUTS).await;
        assert!(silent > 0.0 && silent < downloads.len() as f64 / 2.0, "{silent} were cut");
        let mut never_sent = downloads.pop().unwrap();
        let mut reading: JoinSet<bool> = downloads.into_iter().map(Download::read_on).collect();
        let mut complete = 0.0;
        while let Some(is_complete) = reading.join_next().await {
            complete += f64::from(is_complete.unwrap());
        }
        let cut = SIZES.len() as f64 - 1.0 - complete;
        assert_eq!(cut, silent, "budget {buffer_budget}: downloads were cut when their clients read on");
        assert!(never_sent.read_sent().await, "it is not cut while its client reads");
        wait_for("the silent upstream is cut", || async {
            (gateway.metric(IDLE_CUTS).await == silent + 1.0).then_some(())
        })
        .await;
        assert!(never_sent.client.read_some().await.is_err(), "its body looks complete");
        gateway.wait_until_idle().await;
    }
}
