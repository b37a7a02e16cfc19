//! Documents before and after, in every way they can be cut into pieces.

use super::*;

fn renamer() -> Renamer {
    Renamer::new(Names {
        theirs: "real".to_owned(),
        ours: "alias".to_owned(),
        location: "http://gw/alias/a&b".to_owned(),
        below: "/s3".to_owned(),
    })
}

fn in_pieces(text: &str, size: usize) -> String {
    let mut renamer = renamer();
    let mut out = Vec::new();
    for piece in text.as_bytes().chunks(size) {
        out.extend_from_slice(&renamer.push(Bytes::copy_from_slice(piece)));
    }
    out.extend_from_slice(&renamer.finish());
    String::from_utf8(out).unwrap()
}

/// The same whatever the pieces.
fn renamed(text: &str) -> String {
    let whole = in_pieces(text, text.len().max(1));
    for size in 1..text.len().min(80) {
        assert_eq!(in_pieces(text, size), whole, "in pieces of {size}");
    }
    whole
}

/// G1, V5: a listing shows the client's name, and keys that look like the store's stay
#[test]
fn a_listing_names_the_clients_bucket() {
    let list = |name: &str| {
        format!(
            "<?xml version=\"1.0\"?>\n<!-- <Name>real</Name> --><s3:ListBucketResult xmlns:s3='http://a/>'><Contents>\
             <Key>real</Key><Name>real</Name></Contents><s3:Name>{name}</s3:Name><Prefix/><Name>real2</Name>\
             <Prefix>real</Prefix></s3:ListBucketResult>\n"
        )
    };
    assert_eq!(renamed(&list("real")), list("alias"));
}

/// G1: the steps of an upload
#[test]
fn the_documents_of_an_upload_name_it_too() {
    let start =
        "<InitiateMultipartUploadResult><Bucket>real</Bucket><Key>k</Key></InitiateMultipartUploadResult>";
    assert_eq!(renamed(start), start.replace("real", "alias"));
    let end = "\n  <CompleteMultipartUploadResult><Location>http://10.0.0.5/real/a&amp;b</Location><Bucket>real</Bucket>\
               <Key>a&amp;b</Key></CompleteMultipartUploadResult>";
    let expected =
        end.replace("http://10.0.0.5/real/a&amp;b", "http://gw/alias/a&amp;b").replace("real<", "alias<");
    assert_eq!(renamed(end), expected);
}

/// G1, E2: errors, and a path only where the store's name is its whole first segment
#[test]
fn errors_name_it() {
    let error = |bucket: &str, resource: &str| {
        format!(
            "<Error><Code>X</Code><BucketName>{bucket}</BucketName><Resource>{resource}</Resource></Error>"
        )
    };
    assert_eq!(renamed(&error("real", "/real/k")), error("alias", "/alias/k"));
    assert_eq!(renamed(&error("real", "/real")), error("alias", "/alias"));
    assert_eq!(renamed(&error("real", "/s3/real/k")), error("alias", "/alias/k"));
    assert_eq!(renamed(&error("other", "/really/k")), error("other", "/really/k"));
}

/// V5
#[test]
fn what_is_none_of_these_documents_passes_as_it_is() {
    for text in [
        "<VersioningConfiguration><Name>real</Name></VersioningConfiguration>",
        "<ListBucketResult><Name>real",
        "<ListBucketResult><Name>re<![CDATA[al</Name>]]></Name></ListBucketResult>",
        "real < no xml > </Name> <Name>real</Name>",
        "{\"Name\":\"real\"}",
        "<",
        "",
    ] {
        assert_eq!(renamed(text), text);
    }
}

/// Memory is bounded: a name that is too long to be one is not waited for
#[test]
fn what_is_held_back_is_bounded() {
    let mut renamer = renamer();
    let mut passed = renamer.push(Bytes::from_static(b"<ListBucketResult><Name>")).len();
    for _ in 0..100 {
        passed += renamer.push(Bytes::from(vec![b'x'; 1024])).len();
        assert!(renamer.held.len() <= HELD_BYTES_MAX + 1024);
    }
    assert_eq!(passed, 24 + 100 * 1024);
}

/// V5: a tag or name of any length is read the same wherever the network cuts, also at the bound
#[test]
fn what_is_too_long_passes_wherever_it_is_cut() {
    for bytes in (HELD_BYTES_MAX - 30)..(HELD_BYTES_MAX + 5) {
        let long = "x".repeat(bytes);
        for text in [
            format!("<ListBucketResult a='{long}'><Name>real</Name></ListBucketResult>"),
            format!("<ListBucketResult><Name>{long}</Name><Name>real</Name></ListBucketResult>"),
        ] {
            let whole = in_pieces(&text, text.len());
            for size in [1, 1000, 8191] {
                assert!(in_pieces(&text, size) == whole, "{bytes} bytes in pieces of {size}");
            }
        }
    }
}
