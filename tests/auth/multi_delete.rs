//! Lists of keys to delete: the gateway reads the keys that the store will read, or none.

use super::{Signer, code, send, signed_bucket, signer};
use crate::support::client::sha256;
use crate::support::{Answer, Gateway, Upstream};

/// The key may delete below `é/` alone.
async fn gateway(upstream: &Upstream) -> Gateway {
    signed_bucket(upstream)
        .set("keys.guest.access_key_id", "GUEST")
        .set("keys.guest.secret", "guest-secret")
        .set("keys.guest.policy", "guests")
        .set("policies.guests.buckets", "b")
        .set("policies.guests.prefixes", "é/")
        .set("policies.guests.methods", "delete")
        .start()
        .await
}

async fn delete(gateway: &Gateway, signer: &Signer, document: &[u8], more: &[(&str, &str)]) -> Answer {
    let headers = signer.headers("POST", "/b?delete=", &sha256(document), more);
    send(gateway, "POST", "/b?delete=", &headers, Some(document)).await
}

fn guest() -> Signer {
    Signer::new("GUEST", "guest-secret")
}

/// A5: a list in another encoding than UTF-8, by its declaration, its mark or its media type, names other keys at the store
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
            (answer.whole(), answer.reason()),
            (400, "delete_list"),
            "{:?}",
            document.escape_ascii().to_string()
        );
        assert_eq!(code(&answer), "MalformedXML");
    }
    for kind in ["text/xml; charset=ISO-8859-1", "application/xml;Charset=\"utf-7\""] {
        let answer = delete(&gateway, &guest(), list.as_bytes(), &[("content-type", kind)]).await;
        assert_eq!((answer.whole(), answer.reason()), (400, "delete_list"), "{kind}");
    }
    assert_eq!(upstream.count(), 0);
    for document in
        [declared(""), plain("utf-8"), plain("UTF-8"), list.into(), format!("\u{feff}{list}").into()]
    {
        let answer =
            delete(&gateway, &guest(), &document, &[("content-type", "text/xml; charset=utf-8")]).await;
        assert_eq!(answer.whole(), 200, "{}", answer.text());
        assert_eq!(upstream.last().body, document);
    }
    let other = plain("ISO-8859-1");
    assert_eq!(
        delete(&gateway, &signer(), &other, &[]).await.whole(),
        200,
        "without prefixes no key is read"
    );
}
