//! Small answers of several streams share TLS records and system calls.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::raw::{DATA, END_HEADERS, END_STREAM, HEADERS, SETTINGS, block, frame, request};
use crate::https::Identity;
use crate::support::Upstream;

/// Streams of one burst.
const STREAMS: u32 = 40;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The number of streams that have ended in these frames.
fn ended_streams(mut bytes: &[u8]) -> usize {
    let mut ended = 0;
    while let [l2, l1, l0, kind, flags, _, _, _, _, rest @ ..] = bytes {
        let length = u32::from_be_bytes([0, *l2, *l1, *l0]) as usize;
        let Some(next) = rest.get(length..) else { break };
        ended += usize::from(matches!(*kind, DATA | HEADERS) && flags & END_STREAM != 0);
        bytes = next;
    }
    ended
}

/// A7: the answers to requests that arrived together are in fewer records than there are answers, and all are complete
#[tokio::test]
async fn small_answers_share_records() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity.gateway_before(&upstream).start().await;
    let mut stream = identity.connect(&gateway, &["h2"]).await;
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    // A read of tokio-rustls returns bytes of one record only.
    let (mut buffer, mut received, mut burst) = (vec![0; 64 << 10], Vec::new(), 0);
    for (first, is_counted) in [(1, false), (1 + 2 * STREAMS, true)] {
        let fields = request("GET", "/nowhere/k");
        let requests: Vec<u8> = (0..STREAMS)
            .flat_map(|at| frame(HEADERS, END_HEADERS | END_STREAM, first + 2 * at, &block(&fields)))
            .collect();
        stream.write_all(&requests).await.unwrap();
        burst += STREAMS as usize;
        let mut records = 0;
        while ended_streams(&received) < burst {
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "the connection ended after {} answers", ended_streams(&received));
            received.extend_from_slice(&buffer[..count]);
            records += 1;
        }
        let bodies = String::from_utf8_lossy(&received).matches("NoSuchBucket</Code>").count();
        assert_eq!(bodies, burst, "answers are complete");
        assert!(!is_counted || records <= STREAMS / 2, "{records} records for {STREAMS} answers");
    }
}
