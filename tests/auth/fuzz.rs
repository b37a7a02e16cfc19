//! Ten thousand nearly valid headers and ten thousand nearly valid URLs: no crash, no 5xx, nothing accepted.
//!
//! Each is a valid one with a few changes from a fixed seed; they are sent on a few persistent connections.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::signer::HOST;
use super::{signed_bucket, signer};
use crate::support::{Client, Gateway, Upstream};

const COUNT: usize = 10_000;
const TARGET: &str = "/b/k?a=1&b=%20x";

/// Changes that keep the request head parseable: no line ends are inserted.
pub(super) fn mangle(text: &str, random: &mut SmallRng) -> String {
    const BYTES: &[u8] = b"0aZ/=;,:&%+-_.~ \"'\\<>@{}|^`X";
    const WORDS: [&str; 12] = [
        "AWS4-HMAC-SHA256",
        "Credential=",
        "Signature=",
        "SignedHeaders=",
        "aws4_request",
        "%00",
        "%2F",
        "host;",
        "X-Amz-Signature=",
        "X-Amz-Expires=",
        "99999999999999999999",
        "..",
    ];
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..=bytes.len());
        match random.random_range(0..6) {
            0 if at < bytes.len() => bytes[at] = BYTES[random.random_range(0..BYTES.len())],
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.insert(at, BYTES[random.random_range(0..BYTES.len())]),
            3 => drop(bytes.splice(at..at, WORDS[random.random_range(0..WORDS.len())].bytes())),
            4 => bytes.truncate(at),
            _ => {
                let end = random.random_range(at..=bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.extend(part);
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

pub(super) async fn answers(gateway: &Gateway, heads: impl Iterator<Item = (String, String)>) -> Vec<u16> {
    let mut client = Client::connect(gateway.address()).await;
    let mut statuses = Vec::new();
    for (target, headers) in heads {
        let head = format!("GET {target} HTTP/1.1\r\nhost: {HOST}\r\n{headers}\r\n").into_bytes();
        client.send(head.clone()).await;
        let answer = match client.try_response("GET").await {
            Some(answer) => answer,
            None => {
                client = Client::connect(gateway.address()).await;
                client.send(head).await;
                client.response("GET").await
            }
        };
        assert!(answer.status < 500 || answer.status == 501, "{} {target}\n{headers}", answer.status);
        statuses.push(answer.status);
    }
    statuses
}

/// A1, V8
#[tokio::test]
async fn ten_thousand_mangled_authorization_headers_are_refused() {
    let upstream = Upstream::ok("x");
    let gateway = signed_bucket(&upstream).start().await;
    let mut random = SmallRng::seed_from_u64(1);
    let right = signer().headers("GET", TARGET, "UNSIGNED-PAYLOAD", &[]);
    let heads = (0..COUNT).filter_map(|_| {
        let changed = random.random_range(0..right.len());
        let mut same = true;
        let lines = right.iter().enumerate().map(|(at, (name, value))| {
            let mangled = if at == changed { mangle(value, &mut random) } else { value.clone() };
            same &= split_at_commas(&mangled) == split_at_commas(value);
            format!("{name}: {mangled}\r\n")
        });
        let lines: String = lines.collect();
        (!same).then(|| (TARGET.to_owned(), lines))
    });
    let statuses = answers(&gateway, heads).await;
    assert!(statuses.len() > COUNT * 9 / 10, "{}", statuses.len());
    assert!(statuses.iter().all(|status| matches!(status, 400 | 403 | 431 | 501)), "{statuses:?}");
    assert_eq!(upstream.count(), 0);
    assert!(gateway.log_lines().iter().all(|line| line["msg"] != "panic"));
}

/// Blanks around commas and at the ends of an `Authorization` header have no meaning.
fn split_at_commas(text: &str) -> String {
    text.split(',').map(str::trim).collect::<Vec<_>>().join(",")
}

/// A1, V8
#[tokio::test]
async fn ten_thousand_mangled_presigned_urls_are_refused() {
    let upstream = Upstream::ok("x");
    let gateway = signed_bucket(&upstream).start().await;
    let mut random = SmallRng::seed_from_u64(2);
    let right = signer().presigned("GET", TARGET, "3600");
    let (path, query) = right.split_once('?').unwrap();
    let heads = (0..COUNT).filter_map(|_| {
        let mangled = mangle(query, &mut random);
        let target = format!("{path}?{mangled}");
        (decoded_pairs(&mangled) != decoded_pairs(query) && !target.contains(' '))
            .then(|| (target, String::new()))
    });
    let statuses = answers(&gateway, heads).await;
    assert!(statuses.len() > COUNT * 7 / 10, "{}", statuses.len());
    assert!(statuses.iter().all(|status| matches!(status, 400 | 403 | 414 | 501)), "{statuses:?}");
    assert_eq!(upstream.count(), 0);
}

/// The decoded pairs of a query, sorted; a plus sign is a blank. Equivalent queries have equal pairs.
pub(super) fn decoded_pairs(query: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let decode = |text: &str| percent_encoding::percent_decode_str(&text.replace('+', " ")).collect();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<_> = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect();
    pairs.sort();
    pairs
}
