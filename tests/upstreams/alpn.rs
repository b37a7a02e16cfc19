//! HTTP/2 exists only towards TLS clients: it is never negotiated with an upstream, and actix never serves it.
//!
//! awc and actix-http are locked to h2 0.3, the subject of RUSTSEC-2026-0258; `.ci/advisories.toml` makes an exception
//! for them and names these tests.

use super::tls::{Front, TlsClose};
use crate::support::{Client, Gateway, Scratch, Upstream, UpstreamReply, get};

/// V9, A7: an upstream that prefers `h2` is called with HTTP/1.1, one that offers only `h2` is not called
#[tokio::test]
async fn http2_is_never_negotiated_towards_an_upstream() {
    for (offers, protocol, status, requests) in [
        (&["h2", "http/1.1"][..], Some("http/1.1"), 200, 2),
        (&["h2", "h2c", "http/1.1"], Some("http/1.1"), 200, 2),
        (&["h2"], None, 502, 1),
    ] {
        let upstream = Upstream::start(|_| UpstreamReply::ok("x").header("alt-svc", "h2=\":443\""));
        let (front, directory) =
            (Front::offering(offers, &upstream, TlsClose::CloseNotify).await, Scratch::new());
        let (gateway, handshakes) = front.into_gateway(&directory).await;
        // A second request would follow the answer's `Alt-Svc`.
        for _ in 0..requests {
            assert_eq!(get(gateway.address(), "/b/k").await.complete_status(), status, "{offers:?}");
        }
        let handshakes = handshakes.lock().unwrap().clone();
        assert!(handshakes.iter().all(|(_, agreed)| Some(agreed.as_str()) == protocol), "{handshakes:?}");
        assert_eq!(handshakes.is_empty(), protocol.is_none(), "{handshakes:?}");
        assert_eq!(upstream.seen().iter().filter(|seen| seen.header("upgrade").is_some()).count(), 0);
    }
}

/// V9: cleartext HTTP/2 is refused on both listeners; an h2c upgrade is ignored
#[tokio::test]
async fn actix_serves_no_http2() {
    const SETTINGS_FRAME: u8 = 4;
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    for address in [gateway.address(), gateway.admin_address()] {
        let mut client = Client::connect(address).await;
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
        let answered = client.read_some().await.unwrap_or_default();
        assert_ne!(answered.get(3), Some(&SETTINGS_FRAME), "{answered:?}");
        assert!(answered.is_empty() || answered.starts_with(b"HTTP/1.1 400 "), "{answered:?}");
    }
    let upgrade = "GET /b/k HTTP/1.1\r\nhost: gateway.test\r\nconnection: Upgrade, HTTP2-Settings\r\n\
                   upgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n";
    let mut client = Client::connect(gateway.address()).await;
    client.send(upgrade).await;
    assert_eq!(client.head().await.status, 200, "in HTTP/1.1, as if there were no offer");
}
