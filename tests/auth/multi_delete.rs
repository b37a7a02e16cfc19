//! Multi-object delete: the gateway parses the same keys as the store, or refuses the list. Keys that the policy denies
//! are reported one by one, and the store deletes the others.

use std::time::Duration;

use super::{Signer, guest, s3_error_code, send, signed_bucket, signer, with_guest};
use crate::integrity::{checksums, content_md5};
use crate::support::client::sha256;
use crate::support::gateway::Builder;
use crate::support::{Gateway, Response, Upstream, UpstreamReply, request};

/// A store that deletes the keys of a list, and answers as S3 does.
pub(super) fn deleting_store() -> Upstream {
    Upstream::start(|seen| {
        let list = String::from_utf8(seen.body.clone()).unwrap();
        let deleted = |object: &str| format!("<Deleted>{}</Deleted>", object.trim());
        let all: String = match list.contains("<Quiet>true</Quiet>") {
            true => String::new(),
            false => between(&list, "<Object>", "</Object>").iter().map(|object| deleted(object)).collect(),
        };
        let declaration = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
        let namespace = "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"";
        UpstreamReply::ok(format!("{declaration}<DeleteResult {namespace}>{all}</DeleteResult>"))
            .header("content-type", "application/xml")
    })
}

/// Every text between these two delimiters.
fn between(text: &str, before: &str, after: &str) -> Vec<String> {
    let pieces = text.split(before).skip(1).filter_map(|rest| rest.split_once(after));
    pieces.map(|(inner, _)| inner.to_owned()).collect()
}

/// The keys that an answer reports as deleted, and as denied.
pub(super) fn results(answer: &Response) -> (Vec<String>, Vec<String>) {
    assert_eq!(answer.complete_status(), 200, "{}", answer.text());
    let text = answer.text();
    let root = text.split_once("<DeleteResult").and_then(|(_, rest)| rest.strip_suffix("</DeleteResult>"));
    let inner = root.unwrap_or_else(|| panic!("no DeleteResult: {text}"));
    let keys = |element: &str| -> Vec<String> {
        let elements = between(inner, &format!("<{element}>"), &format!("</{element}>"));
        elements.iter().flat_map(|element| between(element, "<Key>", "</Key>")).collect()
    };
    let errors = between(inner, "<Error>", "</Error>");
    assert!(errors.iter().all(|error| error.contains("<Code>AccessDenied</Code><Message>")), "{text}");
    (keys("Deleted"), keys("Error"))
}

fn list(objects: &[&str]) -> String {
    let objects: String = objects.iter().map(|object| format!("<Object>{object}</Object>")).collect();
    format!("<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{objects}</Delete>")
}

/// The key may delete only below `é/`.
fn builder(upstream: &Upstream) -> Builder {
    with_guest(signed_bucket(upstream), "é/", "delete")
}

async fn gateway(upstream: &Upstream) -> Gateway {
    builder(upstream).start().await
}

async fn delete(gateway: &Gateway, signer: &Signer, document: &[u8], more: &[(&str, &str)]) -> Response {
    let headers = signer.headers("POST", "/b?delete=", &sha256(document), more);
    send(gateway, "POST", "/b?delete=", &headers, Some(document)).await
}

/// A5: a list in an encoding other than UTF-8 (by declaration, byte order mark or media type) is refused: the store
/// would parse other keys
#[tokio::test]
async fn a_list_in_another_encoding_is_refused() {
    let upstream = Upstream::ok("x");
    let gateway = gateway(&upstream).await;
    let list = "<Delete><Object><Key>é/a</Key></Object></Delete>";
    let declared = |declaration: &str| format!("<?xml version=\"1.0\"{declaration}?>{list}").into_bytes();
    let wide = |mark: &[u8], bytes: fn(u16) -> [u8; 2]| {
        let units = list.encode_utf16().flat_map(bytes);
        mark.iter().copied().chain(units).collect::<Vec<_>>()
    };
    let plain = |encoding: &str| declared(&format!(" encoding=\"{encoding}\""));
    for document in [
        plain("ISO-8859-1"),
        plain("iso-8859-1"),
        plain("UTF-7"),
        plain("utf-16"),
        plain("windows-1252"),
        declared(" encoding='latin1'"),
        declared(" encoding=\"UTF-8\" encoding=\"ISO-8859-1\""),
        declared(" standalone='yes' encoding='UTF-7'"),
        wide(b"\xfe\xff", u16::to_be_bytes),
        wide(b"\xff\xfe", u16::to_le_bytes),
        wide(b"", u16::to_be_bytes),
        b"\x00\x00\xfe\xff\x00\x00\x00<".to_vec(),
        b"+/v8-<Delete></Delete>".to_vec(),
        b"<Delete><Object><Key>\xe9/a</Key></Object></Delete>".to_vec(),
    ] {
        let answer = delete(&gateway, &guest(), &document, &[]).await;
        assert_eq!(
            (answer.complete_status(), answer.reason()),
            (400, "delete_list"),
            "{:?}",
            document.escape_ascii().to_string()
        );
        assert_eq!(s3_error_code(&answer), "MalformedXML");
    }
    for kind in ["text/xml; charset=ISO-8859-1", "application/xml;Charset=\"utf-7\""] {
        let answer = delete(&gateway, &guest(), list.as_bytes(), &[("content-type", kind)]).await;
        assert_eq!((answer.complete_status(), answer.reason()), (400, "delete_list"), "{kind}");
    }
    assert_eq!(upstream.count(), 0);
    for document in
        [declared(""), plain("utf-8"), plain("UTF-8"), list.into(), format!("\u{feff}{list}").into()]
    {
        let answer =
            delete(&gateway, &guest(), &document, &[("content-type", "text/xml; charset=utf-8")]).await;
        assert_eq!(answer.complete_status(), 200, "{}", answer.text());
        assert_eq!(upstream.last().body, document);
    }
    let other = plain("ISO-8859-1");
    assert_eq!(
        delete(&gateway, &signer(), &other, &[]).await.complete_status(),
        200,
        "without prefixes no key is read"
    );
}

/// E5, A5: denied objects are reported with their versions; the others are forwarded byte for byte with new digests
#[tokio::test]
async fn denied_keys_are_reported_one_by_one() {
    for is_signed in [false, true] {
        let upstream = deleting_store();
        let mut builder = builder(&upstream);
        if is_signed {
            builder =
                builder.set("buckets.b.s3.access_key_id", "A").set("buckets.b.s3.secret_access_key", "s");
        }
        let gateway = builder.start().await;
        let kept =
            ["<Key>é/a&amp;b&#x20;</Key><VersionId>v1</VersionId>", "\n<Key>é/c</Key>", "<Key>é/c</Key>"];
        let denied = ["<Key>x&lt;1</Key><VersionId>v&amp;2</VersionId>", "<Key>é</Key>", "<Key>é</Key>"];
        let document = list(&[denied[0], kept[0], denied[1], kept[1], kept[2], denied[2]]);
        let digests = checksums(document.as_bytes());
        let md5 = content_md5(document.as_bytes());
        let more = [
            ("content-md5", md5.as_str()),
            (digests[3].0, digests[3].1.as_str()),
            ("accept-encoding", "gzip"),
        ];
        let answer = delete(&gateway, &guest(), document.as_bytes(), &more).await;
        let owned = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        let expected = (owned(&["é/a&amp;b&#x20;", "é/c", "é/c"]), owned(&["x&lt;1", "é", "é"]));
        assert_eq!(results(&answer), expected);
        assert!(
            answer.text().contains("<Key>x&lt;1</Key><VersionId>v&amp;2</VersionId><Code>"),
            "{}",
            answer.text()
        );
        let (seen, reduced) = (upstream.last(), list(&kept));
        assert_eq!(seen.body, reduced.as_bytes());
        let digests = checksums(reduced.as_bytes());
        assert_eq!(seen.header("content-md5"), Some(content_md5(reduced.as_bytes()).as_str()));
        assert_eq!(seen.header(digests[3].0), Some(digests[3].1.as_str()));
        assert_eq!(seen.header("x-amz-content-sha256"), Some(sha256(reduced.as_bytes()).as_str()));
        assert_eq!(seen.headers_named("content-length"), [reduced.len().to_string()]);
        assert_eq!((seen.header(digests[0].0), seen.header("accept-encoding")), (None, Some("identity")));
        assert_eq!(seen.header("authorization").is_some(), is_signed);
        let id = answer.header("x-request-id").unwrap();
        let detail = gateway.wait_for_access_line(id).await["detail"].clone();
        assert_eq!(detail, "the policy denies 3 of 6 objects to delete");
        gateway.wait_until_idle().await;
    }
}

/// E5: `Quiet` omits deleted objects, never errors
#[tokio::test]
async fn a_quiet_multi_delete_reports_errors_alone() {
    let upstream = deleting_store();
    let gateway = gateway(&upstream).await;
    for quiet in ["true", "false"] {
        let document = "<Delete><Object><Key>é/a</Key></Object><Object><Key>x</Key></Object><Quiet>true</Quiet></Delete>";
        let document = document.replace("true", quiet);
        let answer = delete(&gateway, &guest(), document.as_bytes(), &[]).await;
        let deleted = if quiet == "true" { vec![] } else { vec!["é/a".to_owned()] };
        assert_eq!(results(&answer), (deleted, vec!["x".to_owned()]));
    }
}

/// E5: a list of only denied objects is answered without a call to the store
#[tokio::test]
async fn a_multi_delete_of_denied_keys_alone_never_reaches_the_store() {
    let upstream = deleting_store();
    let gateway = gateway(&upstream).await;
    let document = list(&["<Key>x</Key>", "<Key>y</Key><VersionId>7</VersionId>"]);
    let answer = delete(&gateway, &guest(), document.as_bytes(), &[]).await;
    assert_eq!(results(&answer), (vec![], vec!["x".to_owned(), "y".to_owned()]));
    assert_eq!((answer.reason(), answer.header("content-type")), ("policy_denied", Some("application/xml")));
    let id = answer.header("x-request-id").unwrap();
    assert_eq!(answer.header("x-amz-request-id"), Some(id));
    assert_eq!(gateway.wait_for_access_line(id).await["reason"], "policy_denied");
    assert_eq!(upstream.count(), 0);
    gateway.wait_until_idle().await;
}

/// I1, E5: the client's digests are verified before the list is filtered
#[tokio::test]
async fn the_clients_own_digests_are_verified_first() {
    let upstream = deleting_store();
    let gateway = gateway(&upstream).await;
    let document = list(&["<Key>é/a</Key>", "<Key>x</Key>"]);
    let reduced = list(&["<Key>é/a</Key>"]);
    let md5 = content_md5(reduced.as_bytes());
    let [(crc, value), ..] = checksums(reduced.as_bytes());
    for (header, reason) in
        [(("content-md5", md5.as_str()), "md5_mismatch"), ((crc, &value), "checksum_mismatch")]
    {
        let answer = delete(&gateway, &guest(), document.as_bytes(), &[header]).await;
        assert_eq!((answer.complete_status(), answer.reason()), (400, reason));
    }
    let headers = guest().headers("POST", "/b?delete=", &sha256(reduced.as_bytes()), &[]);
    let answer = send(&gateway, "POST", "/b?delete=", &headers, Some(document.as_bytes())).await;
    assert_eq!((answer.complete_status(), answer.reason()), (400, "sha256_mismatch"));
    assert_eq!(upstream.count(), 0);
}

/// E2, E5: a store error is forwarded; a 200 without a valid result is not merged, because denied keys would look
/// deleted
#[tokio::test]
async fn an_invalid_store_result_is_not_merged() {
    let error = "<?xml version=\"1.0\"?><Error><Code>InternalError</Code></Error>";
    let result = "<DeleteResult><Deleted><Key>é/a</Key></Deleted></DeleteResult>";
    let hidden = "<DeleteResult><!-- </DeleteResult> --><Deleted><Key>é/a</Key></Deleted></DeleteResult>";
    let whole = [
        (UpstreamReply::s3_error(403, "AccessDenied"), 403, ""),
        (UpstreamReply::s3_error(501, "NotImplemented"), 501, ""),
        (UpstreamReply::ok(error), 200, ""),
        (UpstreamReply::ok(result).header("content-encoding", "gzip"), 502, "decode_failed"),
        (UpstreamReply::status(204), 502, "decode_failed"),
    ];
    let document = list(&["<Key>é/a</Key>", "<Key>x</Key>"]);
    for (reply, status, reason) in whole {
        let upstream = Upstream::start(move |_| reply.clone());
        let gateway = gateway(&upstream).await;
        let answer = delete(&gateway, &guest(), document.as_bytes(), &[]).await;
        assert_eq!((answer.complete_status(), answer.reason()), (status, reason), "{}", answer.text());
        assert!(!answer.text().contains("<Key>x</Key>"), "{}", answer.text());
        let says_repeat = answer.text().contains("may have deleted the allowed objects; repeat the request");
        assert_eq!(says_repeat, status == 502, "{}", answer.text());
        gateway.wait_until_idle().await;
    }
    for reply in [
        UpstreamReply::ok(""),
        UpstreamReply::ok("<html></html>"),
        UpstreamReply::ok(&result[..40]),
        UpstreamReply::ok(hidden),
        UpstreamReply::ok("x".repeat(9000)).chunked(),
    ] {
        let upstream = Upstream::start(move |_| reply.clone());
        let gateway = gateway(&upstream).await;
        let answer = delete(&gateway, &guest(), document.as_bytes(), &[]).await;
        assert!(answer.broken.is_some(), "{answer:?}");
        gateway
            .wait_for_log_line("transfer broken", |line| {
                line["error"].as_str().unwrap().contains("DeleteResult")
            })
            .await;
        gateway.wait_until_idle().await;
    }
    let pieces = UpstreamReply::ok("  ").chunked();
    let pieces = result
        .split_inclusive('/')
        .fold(pieces, |reply, piece| reply.then_body_after(Duration::from_millis(5), piece));
    let upstream = Upstream::start(move |_| pieces.clone());
    let answer = delete(&gateway(&upstream).await, &guest(), document.as_bytes(), &[]).await;
    assert_eq!(results(&answer), (vec!["é/a".to_owned()], vec!["x".to_owned()]), "in pieces");
}

/// E5, A5: a list with a checksum in its presigned query cannot be filtered, and the error states this
#[tokio::test]
async fn a_list_with_a_checksum_in_its_query_is_not_filtered() {
    let upstream = deleting_store();
    let gateway = gateway(&upstream).await;
    let url = guest().presigned("POST", "/b?delete=&x-amz-checksum-crc32=AAAAAA%3D%3D", "60");
    let post = async |objects: &[&str]| {
        request(gateway.address(), "POST", &url, &[], Some(list(objects).as_bytes())).await
    };
    let answer = post(&["<Key>é/a</Key>", "<Key>x</Key>"]).await;
    assert_eq!((answer.complete_status(), answer.reason()), (403, "policy_denied"));
    assert!(answer.text().contains("send the checksum as a header"), "{}", answer.text());
    assert_eq!(upstream.count(), 0);
    assert_eq!(results(&post(&["<Key>é/a</Key>"]).await), (vec!["é/a".to_owned()], vec![]));
    assert_eq!(results(&post(&["<Key>x</Key>"]).await), (vec![], vec!["x".to_owned()]));
    assert_eq!(upstream.count(), 1);
}

/// E5: S3's bound of 1000 objects applies to the client's list before filtering
#[tokio::test]
async fn a_list_of_more_than_a_thousand_is_refused() {
    let upstream = deleting_store();
    let gateway = gateway(&upstream).await;
    let mut objects = vec!["<Key>é/a</Key>"; 999];
    objects.push("<Key>x</Key>");
    let answer = delete(&gateway, &guest(), list(&objects).as_bytes(), &[]).await;
    let (deleted, denied) = results(&answer);
    assert_eq!((deleted.len(), denied.len()), (999, 1));
    objects.push("<Key>é/a</Key>");
    let answer = delete(&gateway, &guest(), list(&objects).as_bytes(), &[]).await;
    assert_eq!((answer.complete_status(), answer.reason()), (400, "delete_list"));
    assert_eq!(upstream.count(), 1);
}

/// E5, A5: 1000 keys of S3's maximum length fit, also with versions; the refusal of a longer list names the bound
#[tokio::test]
async fn a_list_of_a_thousand_long_keys_is_checked() {
    let upstream = deleting_store();
    let gateway = gateway(&upstream).await;
    let long = |at: usize| format!("<Key>é/{at:01021}</Key><VersionId>{at:032}</VersionId>");
    let keys: Vec<String> = (0..1000).map(long).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let document = list(&keys);
    assert!(document.len() > 1 << 20);
    let (deleted, denied) = results(&delete(&gateway, &guest(), document.as_bytes(), &[]).await);
    assert_eq!((deleted.len(), denied.len()), (1000, 0));
    assert_eq!(upstream.last().body, document.as_bytes());
    let padded = |bytes: usize| format!("{document}{}", " ".repeat(bytes - document.len()));
    assert_eq!(delete(&gateway, &guest(), padded(2 << 20).as_bytes(), &[]).await.complete_status(), 200);
    let answer = delete(&gateway, &guest(), padded((2 << 20) + 1).as_bytes(), &[]).await;
    assert_eq!((answer.complete_status(), answer.reason()), (400, "delete_list"));
    assert!(answer.text().contains("at most 2097152 bytes"), "{}", answer.text());
    assert_eq!(upstream.count(), 2);
}
