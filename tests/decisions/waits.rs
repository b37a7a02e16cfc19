//! Waits in the queue that end without a permit: the record names what limited the wait.

use super::assert_recorded;
use crate::support::{Client, Gateway, Upstream, request, wait_for};

/// Method, headers, the key that limits the wait, its origin, and its limit in milliseconds.
type Wait<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, &'a str, f64);

/// O4, P3: a wait that the client's deadline or the total timeout ends names that limit, and one that the queue's timeout ends names this
#[tokio::test]
async fn a_wait_names_the_limit_that_ended_it() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("server.request_timeout", "0.4")
        .set("server.min_body_rate", "0")
        .set("buckets.b.s3.timeout", "0.3")
        .set("buckets.b.s3.long_operation_timeout", "0.6")
        .set("buckets.b.s3.concurrency.max_concurrent", "1")
        .set("buckets.b.s3.concurrency.queue_timeout_ms", "400")
        .set("buckets.b.s3.concurrency.shedding.mode", "off")
        .start()
        .await;
    // An upload that waits for its client holds the permit, and its total timeout does not run.
    let mut holder = Client::connect(gateway.address()).await;
    holder.send("PUT /b/held HTTP/1.1\r\nhost: a\r\ncontent-length: 300000\r\n\r\n").await;
    holder.send(vec![b'x'; 200_000]).await;
    wait_for("the permit is held", || async {
        (gateway.status().await["buckets"]["b"]["pool"]["in_flight"] == 1).then_some(())
    })
    .await;
    // A long operation has more time than the queue's timeout.
    let copy = [("x-amz-copy-source", "/b/j")];
    let cases: [Wait<'_>; 3] = [
        ("GET", &[("x-request-timeout", "0.2")], "x-request-timeout", "header", 200.0),
        ("GET", &[], "server.request_timeout", "variable", 400.0),
        ("PUT", &copy, "buckets.b.s3.concurrency.queue_timeout_ms", "variable", 400.0),
    ];
    for (method, headers, key, origin, limit) in cases {
        let answer = request(gateway.address(), method, "/b/k", headers, None).await;
        assert_eq!((answer.complete_status(), answer.reason()), (503, "queue_timeout"), "{key}: {answer:?}");
        let record = assert_recorded(&gateway, &answer).await;
        let config = &record["config"];
        assert_eq!((&config["key"], &config["origin"]), (&key.into(), &origin.into()), "{record}");
        let threshold = record["threshold"].as_f64().unwrap();
        assert!(threshold <= limit && threshold > 0.0, "the time that was left: {record}");
        assert!(record["measured"].as_f64().unwrap() >= threshold, "{record}");
    }
    holder.send(vec![b'x'; 100_000]).await;
    assert_eq!(holder.response("PUT").await.complete_status(), 200);
}
