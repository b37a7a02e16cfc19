//! Rewritten documents, in slices of every size.

use proptest::prelude::*;

use super::*;

fn names() -> BucketNames {
    BucketNames {
        store_name: "real".to_owned(),
        client_name: "alias".to_owned(),
        location: "http://gw/alias/a&b".to_owned(),
        key_path: None,
        endpoint_path: "/s3".to_owned(),
    }
}

fn renamer() -> BucketRenamer {
    BucketRenamer::new(names(), &ResponseDocument::ALL)
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

/// The rewritten document, which must not depend on the pieces.
fn renamed(text: &str) -> String {
    let whole = in_pieces(text, text.len().max(1));
    for size in 1..text.len().min(80) {
        assert_eq!(in_pieces(text, size), whole, "in pieces of {size}");
    }
    whole
}

/// G1, V5: a listing has the client's name, and keys equal to the store's name stay
#[test]
fn a_listing_has_the_clients_name() {
    let list = |name: &str| {
        format!(
            "<?xml version=\"1.0\"?>\n<!-- <Name>real</Name> --><s3:ListBucketResult xmlns:s3='http://a/>'><Contents>\
             <Key>real</Key><Name>real</Name></Contents><s3:Name>{name}</s3:Name><Prefix/><Name>real2</Name>\
             <Prefix>real</Prefix></s3:ListBucketResult>\n"
        )
    };
    assert_eq!(renamed(&list("real")), list("alias"));
}

/// G1: the documents of a multipart upload
#[test]
fn the_documents_of_an_upload_have_the_clients_name() {
    let start =
        "<InitiateMultipartUploadResult><Bucket>real</Bucket><Key>k</Key></InitiateMultipartUploadResult>";
    assert_eq!(renamed(start), start.replace("real", "alias"));
    let end = "\n  <CompleteMultipartUploadResult><Location>http://10.0.0.5/real/a&amp;b</Location><Bucket>real</Bucket>\
               <Key>a&amp;b</Key></CompleteMultipartUploadResult>";
    let expected =
        end.replace("http://10.0.0.5/real/a&amp;b", "http://gw/alias/a&amp;b").replace("real<", "alias<");
    assert_eq!(renamed(end), expected);
}

/// G1, E2: errors have the client's name; in a path only if the store's name is the whole first segment
#[test]
fn errors_have_the_clients_name() {
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

/// V5: a path that the store received without the bucket is a key, even if the key starts with the bucket's name
#[test]
fn a_key_that_starts_with_the_buckets_name_stays() {
    for (key, resource, expected) in [
        ("/real/k", "/real/k", None),
        ("/real", "/real", None),
        ("/real/a b&c", "/real/a b&amp;c", None),
        ("/real/a b&c", "/real/a%20b%26c", None),
        ("/real/k", "/s3/real/k", None),
        ("/real/k", "/s3/real/real/k", Some("/alias/real/k")),
        ("/real/k", "/real/real/k", Some("/alias/real/k")),
        ("/real/k", "/real", Some("/alias")),
        ("/", "/real", Some("/alias")),
        ("/k", "/k", None),
    ] {
        let names = BucketNames { key_path: Some(key.as_bytes().to_vec()), ..names() };
        assert_eq!(names.rename_path(resource).as_deref(), expected, "{resource} of {key}");
    }
}

/// V5: only a document that the operation responds with is rewritten
#[test]
fn a_document_of_another_operation_is_unchanged() {
    let listing = "<ListBucketResult><Name>real</Name></ListBucketResult>";
    let mut renamer = BucketRenamer::new(names(), &[ResponseDocument::ListParts, ResponseDocument::Error]);
    assert_eq!(renamer.push(Bytes::from_static(listing.as_bytes())), listing.as_bytes());
}

/// One element of a document, with its children or its text.
#[derive(Debug, Clone)]
struct Element {
    name: &'static str,
    text: &'static str,
    children: Vec<Self>,
}

impl Element {
    /// Writes the element, with the bucket's name replaced if the element is a child of the root and in the S3 schema.
    fn write(&self, root: &str, depth: usize, renames: bool, out: &mut String) {
        const NAMES: [(&str, &str); 9] = [
            ("ListBucketResult", "Name"),
            ("ListVersionsResult", "Name"),
            ("ListMultipartUploadsResult", "Bucket"),
            ("ListPartsResult", "Bucket"),
            ("InitiateMultipartUploadResult", "Bucket"),
            ("CompleteMultipartUploadResult", "Bucket"),
            ("Error", "BucketName"),
            ("Error", "Bucket"),
            ("Error", "Resource"),
        ];
        let is_bucket = renames && depth == 1 && NAMES.contains(&(root, self.name));
        let is_path = self.name == "Resource";
        let text = match (is_bucket, is_path, self.text) {
            (true, false, "real") => "alias",
            (true, true, "/real/k") => "/alias/k",
            (true, true, "/real") => "/alias",
            (_, _, text) => text,
        };
        let is_url =
            renames && depth == 1 && (root, self.name) == ("CompleteMultipartUploadResult", "Location");
        let text = if is_url && !text.is_empty() { "http://gw/alias/a&amp;b" } else { text };
        out.push_str(&format!("<{}>{text}", self.name));
        self.children.iter().for_each(|child| child.write(root, depth + 1, renames, out));
        out.push_str(&format!("</{}>", self.name));
    }
}

fn element() -> impl Strategy<Value = Element> {
    const ELEMENTS: [&str; 16] = [
        "Name",
        "Bucket",
        "BucketName",
        "Resource",
        "Location",
        "Key",
        "Prefix",
        "Delimiter",
        "Marker",
        "NextMarker",
        "UploadId",
        "CommonPrefixes",
        "Contents",
        "Message",
        "StartAfter",
        "Error",
    ];
    const TEXTS: [&str; 9] =
        ["real", "alias", "/real/k", "/real", "real/k", "real2", "http://store/real/k", "", "/reality/k"];
    let text = prop::sample::select(&TEXTS[..]);
    let leaf = (prop::sample::select(&ELEMENTS[..]), text).prop_map(|(name, text)| Element {
        name,
        text,
        children: Vec::new(),
    });
    leaf.prop_recursive(3, 24, 4, |inner| {
        (prop::sample::select(&ELEMENTS[..]), prop::collection::vec(inner, 1..5))
            .prop_map(|(name, children)| Element { name, text: "", children })
    })
}

proptest! {
    /// V5: only the elements of the schema change, even if every text is the bucket's name or similar to it
    #[test]
    fn only_elements_of_the_schema_change(
        root in prop::sample::select(&[
            "ListBucketResult", "ListVersionsResult", "ListMultipartUploadsResult", "ListPartsResult",
            "InitiateMultipartUploadResult", "CompleteMultipartUploadResult", "Error", "DeleteResult",
            "ListAllMyBucketsResult", "Tagging", "LocationConstraint",
        ][..]),
        children in prop::collection::vec(element(), 0..12),
        piece in 1_usize..200,
    ) {
        let document = |renames| {
            let mut out = format!("<?xml version=\"1.0\"?>\n<{root} xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
            children.iter().for_each(|child| child.write(root, 1, renames, &mut out));
            out + &format!("</{root}>")
        };
        prop_assert_eq!(in_pieces(&document(false), piece), document(true));
    }
}

/// V5
#[test]
fn other_documents_are_unchanged() {
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

/// Memory is bounded: a name that is too long is forwarded
#[test]
fn the_buffer_is_bounded() {
    let mut renamer = renamer();
    let mut forwarded = renamer.push(Bytes::from_static(b"<ListBucketResult><Name>")).len();
    for _ in 0..100 {
        forwarded += renamer.push(Bytes::from(vec![b'x'; 1024])).len();
        assert!(renamer.buffered.len() <= BUFFERED_BYTES_MAX + 1024);
    }
    assert_eq!(forwarded, 24 + 100 * 1024);
}

/// V5: the result for a tag or name of any length does not depend on the slices, also at the limit
#[test]
fn slices_do_not_change_the_result_at_the_limit() {
    for bytes in (BUFFERED_BYTES_MAX - 30)..(BUFFERED_BYTES_MAX + 5) {
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
