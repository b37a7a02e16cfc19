//! The TLS server name for virtual-hosted upstream requests (`tls.sni`).

use super::tls::Front;
use crate::support::{Gateway, Scratch, Upstream, UpstreamReply, gateway};

/// The gateway has one worker, hence one connection pool. The store's address is resolved from its endpoint's name
/// only.
fn virtual_hosts(front: &Front, directory: &Scratch) -> gateway::Builder {
    front
        .trusted(directory)
        .set("buckets.b.pattern", "*")
        .set("buckets.b.s3.addressing", "virtual")
        .set("server.workers", "1")
}

async fn send_request(gateway: &Gateway, bucket: &str) -> (u16, String) {
    let answer = gateway.get(&format!("/{bucket}/k")).await;
    (answer.complete_status(), answer.reason().to_owned())
}

/// A7: by default the server name is the endpoint's, and its certificate covers every bucket, with dots or without, on
/// one connection
#[tokio::test]
async fn the_endpoints_name_is_the_default() {
    for sni in [None, Some("endpoint")] {
        let (upstream, directory) = (Upstream::ok("x"), Scratch::new());
        let front = Front::named(&["localhost"], &upstream).await;
        let mut builder = virtual_hosts(&front, &directory);
        if let Some(sni) = sni {
            builder = builder.set("buckets.b.s3.tls.sni", sni);
        }
        let gateway = builder.start().await;
        for bucket in ["photos", "my.photos", "a..b"] {
            assert_eq!(send_request(&gateway, bucket).await, (200, String::new()), "{bucket}");
            let host = upstream.last().header("host").unwrap().to_owned();
            assert!(host.starts_with(&format!("{bucket}.localhost:")), "{host}");
        }
        assert_eq!(front.asked_for(), ["localhost"]);
    }
}

/// A7: the server name is the host's, on separate kept connections for each name
#[tokio::test]
async fn the_hosts_name_is_used() {
    let (upstream, directory) = (Upstream::ok("x"), Scratch::new());
    let names = ["localhost", "photos.localhost", "my.photos.localhost"];
    let front = Front::named(&names, &upstream).await;
    let gateway = virtual_hosts(&front, &directory).set("buckets.b.s3.tls.sni", "host").start().await;
    for bucket in ["photos", "my.photos", "photos", "my.photos", "photos"] {
        assert_eq!(send_request(&gateway, bucket).await, (200, String::new()), "{bucket}");
        let host = upstream.last().header("host").unwrap().to_owned();
        assert!(host.starts_with(&format!("{bucket}.localhost:")), "{host}");
    }
    assert_eq!(
        front.asked_for(),
        ["photos.localhost", "my.photos.localhost"],
        "one connection for each name"
    );
}

/// A7, B3: a request for a bucket outside the certificate is not sent, and clients cannot open the circuit with such
/// buckets
#[tokio::test]
async fn a_name_outside_the_certificate_is_refused() {
    for is_strict in [false, true] {
        let (upstream, directory) = (Upstream::ok("x"), Scratch::new());
        let names = ["localhost", "photos.localhost"];
        let front = match is_strict {
            false => Front::named(&names, &upstream).await,
            // The server ends the handshake without a certificate.
            true => Front::strict(&names, &upstream).await,
        };
        let gateway = virtual_hosts(&front, &directory).set("buckets.b.s3.tls.sni", "host").start().await;
        for number in 0..10 {
            let answer = gateway.get(&format!("/my.bucket-{number}/k")).await;
            assert_eq!(
                (answer.complete_status(), answer.reason()),
                (502, "upstream_tls_host"),
                "{}",
                answer.text()
            );
            assert!(answer.text().contains(&format!("my.bucket-{number}.localhost")), "{}", answer.text());
        }
        for no_name in ["a..b", "b-", &"x".repeat(64)] {
            assert_eq!(send_request(&gateway, no_name).await, (400, "target".to_owned()), "{no_name}");
        }
        assert_eq!(upstream.count(), 0);
        assert_eq!(send_request(&gateway, "photos").await, (200, String::new()), "the circuit is closed");
        assert_eq!(gateway.metric("circuit_breaker_failures{bucket=\"b\",class=\"read\"}").await, 0.0);
    }
}

/// P6, A7: names that clients invent do not accumulate connections
#[tokio::test]
async fn invented_names_do_not_accumulate_connections() {
    let (upstream, directory) = (Upstream::ok("x"), Scratch::new());
    let names: Vec<String> = (0..300).map(|number| format!("b{number}.localhost")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let front = Front::named(&names, &upstream).await;
    let gateway = virtual_hosts(&front, &directory).set("buckets.b.s3.tls.sni", "host").start().await;
    for number in 0..300 {
        assert_eq!(send_request(&gateway, &format!("b{number}")).await, (200, String::new()));
        assert!(
            upstream.open_connections() <= 12,
            "{} connections after {number} buckets",
            upstream.open_connections()
        );
    }
}

/// R3, A7: after a 421 on a shared connection the request is sent again on a new one, with the same server name
#[tokio::test]
async fn a_misdirected_request_gets_a_new_tls_connection() {
    for (sni, asked_for) in [("endpoint", "localhost"), ("host", "photos.localhost")] {
        let directory = Scratch::new();
        let upstream = Upstream::start(|seen| {
            if seen.number == 2 { UpstreamReply::status(421) } else { UpstreamReply::ok("x") }
        });
        let front = Front::named(&["localhost", "photos.localhost"], &upstream).await;
        let gateway = virtual_hosts(&front, &directory).set("buckets.b.s3.tls.sni", sni).start().await;
        for _ in 0..2 {
            assert_eq!(send_request(&gateway, "photos").await, (200, String::new()));
        }
        let connections: Vec<usize> = upstream.seen().iter().map(|seen| seen.connection).collect();
        assert_eq!(connections, [1, 1, 2], "{sni}");
        assert_eq!(front.asked_for(), [asked_for, asked_for]);
    }
}
