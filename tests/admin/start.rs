//! Configurations of the admin listener that do not start, and those on an open address that do.

use super::{OPERATOR, READER, bearer, builder, code};
use crate::support::client::message;
use crate::support::{Client, Scratch, Upstream};

/// O5, G1: an address that other machines reach needs a token or mutual TLS, at a start and in `check`; the error names
/// the keys
#[test]
fn an_open_address_needs_authentication() {
    for address in ["0.0.0.0", "::", "192.0.2.1", "::ffff:192.0.2.1", "::ffff:0.0.0.0"] {
        for argument in [None, Some("check")] {
            let upstream = Upstream::ok("x");
            let start = builder(&upstream).set("admin.address", address);
            let ended = argument.into_iter().fold(start, |start, argument| start.argument(argument)).run();
            assert_eq!(ended.code, Some(78), "{address}: {ended:?}");
            for word in [
                "admin.address: ",
                "admin.token",
                "admin.token_file",
                "admin.tls.client_ca_file",
                "127.0.0.1",
            ] {
                assert!(ended.stderr.contains(word), "{address}: {word} in {}", ended.stderr);
            }
        }
    }
}

/// O5: on an open address the token is required, and probes answer without it
#[tokio::test]
async fn a_token_opens_the_address() {
    for (address, key, token) in
        [("0.0.0.0", "admin.token", OPERATOR), ("::ffff:0.0.0.0", "admin.read_token", READER)]
    {
        let upstream = Upstream::ok("x");
        let gateway = builder(&upstream).set("admin.address", address).set(key, token).start().await;
        let target = std::net::SocketAddr::from(([127, 0, 0, 1], gateway.admin_address().port()));
        let get = |path: &'static str, headers: Vec<(&'static str, String)>| async move {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let mut client = Client::connect(target).await;
            client.send(message("GET", path, &headers, None)).await;
            client.response("GET").await
        };
        let missing = get("/status", vec![]).await;
        assert_eq!(
            (missing.complete_status(), code(&missing).as_str()),
            (401, "token_required"),
            "{address}"
        );
        assert_eq!(
            get("/metrics", vec![("authorization", bearer(token))]).await.complete_status(),
            200,
            "{address}"
        );
        for probe in ["/livez", "/readyz", "/-/livez", "/-/readyz"] {
            assert_eq!(get(probe, vec![]).await.complete_status(), 200, "{address} {probe}");
        }
        let line =
            gateway.wait_for_log_line("configuration warning", |line| line["key"] == "admin.address").await;
        assert!(line["detail"].as_str().unwrap().contains("cleartext"), "{line}");
    }
}

/// O5, C4, G1: weak, equal and doubled tokens are start-up errors that do not show the token
#[test]
fn unusable_tokens_stop_the_start() {
    let directory = Scratch::new();
    let file = directory.path().join("token");
    std::fs::write(&file, format!("{OPERATOR}\n")).unwrap();
    let set_mode = |mode| {
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    set_mode(0o600);
    let path = file.to_str().unwrap();
    let short = &OPERATOR[..31];
    for (settings, words) in [
        (vec![("admin.token", short)], ["admin.token: ", "shorter than 32"]),
        (vec![("admin.read_token", short)], ["admin.read_token: ", "shorter than 32"]),
        (vec![("admin.token", "ü-0123456789abcdef0123456789abcdef")], ["admin.token: ", "printable ASCII"]),
        (vec![("admin.token", "a b-0123456789abcdef0123456789abcdef")], ["admin.token: ", "whitespace"]),
        (
            vec![("admin.token", OPERATOR), ("admin.read_token", OPERATOR)],
            ["admin.read_token: ", "same value"],
        ),
        (
            vec![("admin.token_file", path), ("admin.read_token", OPERATOR)],
            ["admin.read_token: ", "same value"],
        ),
        (vec![("admin.token", READER), ("admin.token_file", path)], ["admin.token_file: ", "set together"]),
        (vec![("admin.token_file", "/nowhere/token")], ["admin.token_file: ", "cannot be read"]),
    ] {
        let upstream = Upstream::ok("x");
        let start = settings.iter().fold(builder(&upstream), |start, (key, value)| start.set(key, value));
        let ended = start.run();
        assert_eq!(ended.code, Some(78), "{settings:?}: {ended:?}");
        assert!(words.iter().all(|word| ended.stderr.contains(word)), "{words:?} in {}", ended.stderr);
        assert!(!format!("{ended:?}").contains(short), "{settings:?}: {ended:?}");
    }
    set_mode(0o644);
    let upstream = Upstream::ok("x");
    let ended = builder(&upstream).set("admin.token_file", path).run();
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("can be read by other users"), "{}", ended.stderr);
}

/// O5: the token of a file is accepted
#[tokio::test]
async fn a_token_may_be_in_a_file() {
    let directory = Scratch::new();
    let file = directory.path().join("token");
    std::fs::write(&file, format!("{READER}\n")).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream).set("admin.read_token_file", file.to_str().unwrap()).start().await;
    let status = super::send_own(&gateway, "GET", "/status", &[("authorization", &bearer(READER))]).await;
    assert_eq!(status.complete_status(), 200);
    assert_eq!(super::send_own(&gateway, "GET", "/status", &[]).await.complete_status(), 401);
}

/// G1: a token does not allow chaos on an open address
#[test]
fn chaos_stays_refused_on_an_open_address() {
    let upstream = Upstream::ok("x");
    let ended = builder(&upstream).chaos().set("admin.address", "0.0.0.0").set("admin.token", OPERATOR).run();
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("admin.chaos: needs a loopback address"), "{}", ended.stderr);
}
