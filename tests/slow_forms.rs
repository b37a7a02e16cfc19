//! Slow POST forms: refusals by the head, the number of concurrent reads, and their timeout.

use std::time::{Duration, Instant};

use crate::support::{Client, Gateway, Response, Upstream, UpstreamReply, put, wait_for};

const HOSTILE: [u8; 4] = [127, 0, 0, 2];
const HEAD: &str = "POST /b HTTP/1.1\r\nhost: a\r\ncontent-type: multipart/form-data; boundary=x\r\ncontent-length: 5000\r\n\r\n";
const FIELD: &str = "--x\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\n";
const FORM: &str = "--x\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n\
    --x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\ndata\r\n--x--\r\n";

/// Sends a form's head and the beginning of its first field.
async fn begin(gateway: &Gateway, local: [u8; 4]) -> Client {
    let mut client = Client::connect_from(local, gateway.address(), None).await;
    client.send(HEAD).await;
    // A refusal may have closed the connection.
    let _ = client.try_send(FIELD).await;
    client
}

/// Sends a whole form.
async fn post(gateway: &Gateway) -> Response {
    let mut client = Client::connect(gateway.address()).await;
    let head = HEAD.replace("5000", &FORM.len().to_string());
    client.send(head + FORM).await;
    client.response("POST").await
}

/// V10: a form that cannot succeed is refused by its head, and takes no slot
#[tokio::test]
async fn a_form_that_cannot_succeed_is_refused_by_its_head() {
    let upstream = Upstream::ok("stored");
    let builder = || Gateway::builder().bucket("b", &upstream).bucket("good", &upstream);
    for (name, builder, status, reason) in [
        ("closed", builder().set("buckets.b.auth", ""), 403, "bucket_closed"),
        ("signatures, no keys", builder().set("buckets.b.auth", "sigv4"), 403, "not_signed"),
        ("read access only", builder().set("buckets.b.anonymous", "read"), 403, "anonymous_denied"),
    ] {
        let gateway = builder.set("server.max_concurrent_requests", "20").start().await;
        let mut forms = Vec::new();
        for _ in 0..20 {
            let mut form = Client::connect_from(HOSTILE, gateway.address(), None).await;
            form.send(HEAD).await;
            forms.push(form);
        }
        for mut form in forms {
            let answer = form.response("POST").await;
            assert_eq!((answer.complete_status(), answer.reason()), (status, reason), "{name}");
        }
        assert_eq!(gateway.get("/good/k").await.complete_status(), 200, "{name}");
    }
}

/// V10, B2: an open circuit refuses a form before its body is read
#[tokio::test]
async fn an_open_circuit_refuses_a_form_by_its_head() {
    let upstream = Upstream::start(|_| UpstreamReply::status(500));
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.retry.max_attempts", "1")
        .set("buckets.b.s3.circuit_breaker.failure_threshold", "1")
        .start()
        .await;
    assert_eq!(put(gateway.address(), "/b/k", b"x").await.complete_status(), 500);
    let mut form = Client::connect(gateway.address()).await;
    form.send(HEAD).await;
    let answer = form.response("POST").await;
    assert_eq!((answer.complete_status(), answer.reason()), (503, "breaker_open"));
}

/// V10, P2: a thousand slow forms take no slot from others, and forms of other clients are read
#[tokio::test]
async fn a_thousand_slow_forms_do_not_affect_others() {
    let upstream = Upstream::ok("stored");
    let gateway =
        Gateway::builder().bucket("b", &upstream).set("server.max_concurrent_requests", "20").start().await;
    let mut forms = Vec::new();
    for _ in 0..1000 {
        forms.push(begin(&gateway, HOSTILE).await);
    }
    let refused = "form_rejections_total";
    wait_for("most forms are refused", || async { (gateway.metric(refused).await >= 900.0).then_some(()) })
        .await;
    assert_eq!(gateway.metric("requests_in_flight").await, 0.0);
    for _ in 0..20 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    }
    let answer = post(&gateway).await;
    assert_eq!(answer.complete_status(), 204, "{}", answer.text());
    assert_eq!(gateway.metric(refused).await, 900.0, "half of 200 are read");
    let answer = forms.last_mut().unwrap().response("POST").await;
    assert_eq!((answer.complete_status(), answer.reason()), (503, "too_many_pending_forms"));
    drop(forms);
    wait_for("another form of that client is read", || async {
        let mut form = Client::connect_from(HOSTILE, gateway.address(), None).await;
        form.send(HEAD.replace("5000", &FORM.len().to_string()) + FORM).await;
        (form.response("POST").await.complete_status() == 204).then_some(())
    })
    .await;
}

/// V10, T4: fields above `min_body_rate` still have twice the header timeout, not the request's timeout
#[tokio::test]
async fn fields_have_a_timeout() {
    let upstream = Upstream::ok("stored");
    let gateway = Gateway::builder().bucket("b", &upstream).set("server.header_timeout", "0.4").start().await;
    let mut form = begin(&gateway, HOSTILE).await;
    let began = Instant::now();
    while form.try_send("k".repeat(60)).await.is_ok() && began.elapsed() < Duration::from_secs(2) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let answer = form.response("POST").await;
    assert_eq!((answer.complete_status(), answer.reason()), (408, "form_timeout"));
    assert!(began.elapsed() >= Duration::from_millis(700));
    gateway.wait_until_idle().await;
    assert_eq!(upstream.count(), 0);
}
