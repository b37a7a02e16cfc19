//! `tidegate status`: the exit code, the text, the connection by the configuration, and `--watch`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::https::Identity;
use crate::support::gateway::{Builder, ExitReport};
use crate::support::{Gateway, Upstream, UpstreamReply, WAIT_MAX, unreachable, wait_until};

const READER: &str = "reader-0123456789abcdef0123456789ab";

/// Runs `tidegate status` with these arguments.
async fn run(builder: Builder, arguments: &[&str]) -> ExitReport {
    let builder = arguments.iter().fold(builder.argument("status"), |builder, one| builder.argument(one));
    tokio::task::spawn_blocking(move || builder.run()).await.unwrap()
}

fn url(gateway: &Gateway) -> String {
    format!("http://{}", gateway.admin_address())
}

/// X7, G4: the exit code is the verdict, and the text has it, its causes and at most 20 lines
#[tokio::test]
async fn the_exit_code_is_the_verdict() {
    let upstream = Upstream::ok("x");
    let healthy = Gateway::in_front_of(&upstream).await;
    let ok = run(Gateway::builder(), &[&url(&healthy)]).await;
    assert_eq!((ok.code, ok.stderr.as_str()), (Some(0), ""), "{}", ok.stdout);
    assert!(ok.stdout.starts_with("OK: No cause of degradation is present.\n"), "{}", ok.stdout);
    assert!(ok.stdout.contains("bucket b: circuit closed, 0 of "), "{}", ok.stdout);

    let degraded = Gateway::builder().bucket("b", &upstream).set("admin.chaos", "true").start().await;
    let text = run(Gateway::builder(), &[&url(&degraded)]).await;
    assert_eq!(text.code, Some(1), "{}", text.stdout);
    assert!(text.stdout.contains("\n  degraded chaos, process, for "), "{}", text.stdout);

    let buckets = (0..30).fold(Gateway::builder(), |builder, at| {
        let name = format!("bucket{at:02}");
        let mode = format!("buckets.{name}.s3.circuit_breaker.mode");
        builder.bucket(&name, &upstream).set(&mode, "forced_open")
    });
    let critical = buckets.start().await;
    let text = run(Gateway::builder(), &[&url(&critical)]).await;
    assert_eq!(text.code, Some(2), "{}", text.stdout);
    assert!(text.stdout.starts_with("CRITICAL: 30 critical causes."), "{}", text.stdout);
    assert!(text.stdout.contains("… and 23 more causes\n"), "{}", text.stdout);
    assert_eq!(text.stdout.lines().count(), 20, "{}", text.stdout);

    let json = run(Gateway::builder(), &["--json", &url(&critical)]).await;
    assert!(
        json.stdout.starts_with("{\"status\":\"critical\",\"summary\":\""),
        "the order is that of the document"
    );
    let document: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((json.code, document["causes"].as_array().unwrap().len()), (Some(2), 30));
}

/// X7, G4: without a verdict the exit code is 3, and the error has the cause and the remedy
#[tokio::test]
async fn no_verdict_is_exit_code_3() {
    let upstream = Upstream::start(|_| UpstreamReply::ok("{\"status\":\"up\"}"));
    let gateway = Gateway::builder().bucket("b", &upstream).set("admin.read_token", READER).start().await;
    let nobody = unreachable::RefusingAddress::new();
    let wrong = || Gateway::builder().set("admin.read_token", "wrong-0123456789abcdef0123456789ab");
    for (builder, target, part) in [
        (
            Gateway::builder(),
            format!("http://{}", nobody.address),
            format!("no connection to {}", nobody.address),
        ),
        (Gateway::builder(), url(&gateway), "401: token_required: ".to_owned()),
        (Gateway::builder(), url(&gateway), "--config FILE, or set TIDEGATE_ADMIN__TOKEN".to_owned()),
        (wrong(), url(&gateway), "401: token_wrong: ".to_owned()),
        (Gateway::builder(), format!("http://{}", upstream.address()), "sent no status document".to_owned()),
        (Gateway::builder(), format!("https://{}", upstream.address()), "did not answer".to_owned()),
        (Gateway::builder(), "localhost:8090".to_owned(), "is not the URL of an admin listener".to_owned()),
        (wrong(), "http://192.0.2.1:8090".to_owned(), "the token could be read on the way".to_owned()),
    ] {
        let ended = run(builder, &[&target]).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), ""), "{target}: {}", ended.stderr);
        assert!(
            ended.stderr.starts_with("tidegate: ") && ended.stderr.contains(&part),
            "{target}: {}",
            ended.stderr
        );
    }
    let unknown = run(Gateway::builder(), &[]).await;
    assert_eq!(unknown.code, Some(3));
    assert!(unknown.stderr.contains("admin.port is 0"), "{}", unknown.stderr);
}

/// X7, O2: no text of the other end controls the terminal, and the JSON stays the same
#[tokio::test]
async fn received_json_is_escaped() {
    let hostile = "{\"status\":\"ok\",\"z\":\"\u{9b}2J\u{202e}\u{7f}\",\"a\":1}";
    let upstream = Upstream::start(move |_| UpstreamReply::ok(hostile));
    let ended = run(Gateway::builder(), &["--json", &format!("http://{}", upstream.address())]).await;
    let expected = "{\"status\":\"ok\",\"z\":\"\\u009b2J\\u202e\\u007f\",\"a\":1}\n";
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), expected), "{}", ended.stderr);
}

/// Answers every connection with this head, and then with a byte every 500 ms until the client leaves.
fn dripping(head: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            std::thread::spawn(move || {
                let mut sent = connection.write_all(head.as_bytes());
                while sent.is_ok() {
                    std::thread::sleep(Duration::from_millis(500));
                    sent = connection.write_all(b"a");
                }
            });
        }
    });
    address
}

/// X7: a program that sends a byte now and then does not hold the command; only an event stream may take long
#[tokio::test]
async fn a_dripping_server_is_exit_code_3() {
    let in_head = dripping("HTTP/1.1 200 OK\r\nx-long: ");
    let in_body = dripping("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{");
    let asked = |server: SocketAddr, options: &'static [&'static str]| async move {
        let url = format!("http://{server}");
        let arguments: Vec<&str> = options.iter().copied().chain([url.as_str()]).collect();
        run(Gateway::builder(), &arguments).await
    };
    let all = tokio::join!(asked(in_head, &[]), asked(in_body, &[]), asked(in_head, &["--watch"]));
    for ended in [all.0, all.1, all.2] {
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), ""), "{}", ended.stderr);
        assert!(ended.stderr.contains("no complete response within 10 s"), "{}", ended.stderr);
    }
}

/// X7, C4: address, token and certificate come from the configuration; the token is sent to no other server
#[tokio::test]
async fn the_configuration_has_the_connection() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let configured =
        |identity: &Identity| identity.named_for_admin(Gateway::builder()).set("admin.read_token", READER);
    let gateway = configured(&identity).bucket("b", &upstream).start().await;
    let port = gateway.admin_address().port().to_string();
    let ok = run(configured(&identity).set("admin.port", &port), &[]).await;
    assert_eq!((ok.code, ok.stderr.as_str()), (Some(0), ""));

    let other = Identity::new();
    let refused = run(configured(&other).set("admin.port", &port), &[]).await;
    assert_eq!(refused.code, Some(3), "{}", refused.stdout);
    assert!(refused.stderr.contains("certificate"), "{}", refused.stderr);
    let mutual = configured(&identity).set("admin.tls.client_ca_file", &identity.authority_file());
    let refused = run(mutual.set("admin.port", &port), &[]).await;
    assert_eq!(refused.code, Some(3));
    assert!(refused.stderr.contains("admin.tls.client_ca_file demands a certificate"), "{}", refused.stderr);
}

/// X7: `--watch` shows a change when it happens, one line for each event, and goes on when the gateway is gone
#[tokio::test]
async fn changes_are_followed() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).chaos().start().await;
    let builder = Gateway::builder().argument("status").argument("--watch").argument(&url(&gateway));
    let watcher = builder.spawn();
    let shows = |part: &str| watcher.raw_log().iter().any(|line| line.contains(part));
    wait_until("the snapshot", || shows("DEGRADED: ")).await;
    gateway.crash("pool:b", "decide").await;
    wait_until("the begin", || shows(" actor_restarting began (bucket b: pool:b): ")).await;
    wait_until("the end", || shows(" actor_restarting ended after ")).await;
    assert!(!shows("\u{1b}"), "{:?}", watcher.raw_log());
    drop(gateway);
    wait_until("the loss of the gateway", || shows("; trying again")).await;
}

/// X7: with `--json` each event is a line, samples too
#[tokio::test]
async fn events_are_lines_of_json() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).chaos().start().await;
    let mut watcher = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .env_clear()
        .args(["status", "--watch", "--json", &url(&gateway)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(watcher.stdout.take().unwrap());
    let reading = tokio::task::spawn_blocking(move || {
        let events = stdout.lines().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        events.take(3).collect::<Vec<_>>()
    });
    let events = tokio::time::timeout(WAIT_MAX, reading).await;
    watcher.kill().unwrap();
    watcher.wait().unwrap();
    let events = events.expect("three events").unwrap();
    let kinds: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["snapshot", "sample", "sample"]);
    assert_eq!(events[0]["data"]["status"], "degraded", "{}", events[0]);
    assert!(events[1]["data"]["values"]["in_flight"].is_u64(), "{}", events[1]);
}
