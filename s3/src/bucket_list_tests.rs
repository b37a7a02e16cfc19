//! Valid and malformed documents of stores.

use proptest::prelude::*;

use super::*;

fn bucket(name: &str, created: &str) -> ListedBucket {
    ListedBucket { name: name.to_owned(), created: created.to_owned() }
}

fn all(document: &str) -> Result<(Vec<ListedBucket>, Option<String>), &'static str> {
    let mut buckets = Vec::new();
    let next = parse::<&'static str>(document.as_bytes(), &mut |bucket| {
        buckets.push(bucket);
        Ok(())
    })?;
    Ok((buckets, next))
}

/// A5: the names, dates and the token in documents of AWS, Ceph and MinIO
#[test]
fn a_document_of_a_store_is_parsed() {
    let aws = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListAllMyBucketsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
               <Owner><ID>o</ID></Owner><Buckets><Bucket><Name>a</Name><CreationDate>2026-11-29T12:00:00.000Z</CreationDate>\
               <BucketRegion>eu-west-1</BucketRegion></Bucket><Bucket><Name>b</Name></Bucket></Buckets>\
               <ContinuationToken>x&amp;y=</ContinuationToken><Prefix>Name</Prefix></ListAllMyBucketsResult>";
    let expected = vec![bucket("a", "2026-11-29T12:00:00.000Z"), bucket("b", "")];
    assert_eq!(all(aws), Ok((expected, Some("x&y=".to_owned()))));
    let odd = "\n<!-- a > b --><s3:ListAllMyBucketsResult a='>'>\n <s3:Buckets>\n <s3:Bucket ><s3:Name>a&#45;<!-- x -->1\
               </s3:Name ><Extra><Name>no</Name></Extra><Empty/></s3:Bucket> </s3:Buckets></s3:ListAllMyBucketsResult>\n";
    assert_eq!(all(odd), Ok((vec![bucket("a-1", "")], None)));
    let named = "<ListAllMyBucketsResult><Owner><Name>n</Name></Owner><Buckets/></ListAllMyBucketsResult>";
    assert_eq!(all(named), Ok((Vec::new(), None)));
    assert_eq!(all("<ListAllMyBucketsResult/>"), Ok((Vec::new(), None)));
    let dated = |date: &str| {
        format!(
            "<ListAllMyBucketsResult><Buckets><Bucket><CreationDate>{date}</CreationDate></Bucket></Buckets>\
             </ListAllMyBucketsResult>"
        )
    };
    assert_eq!(all(&dated("<x/>")).unwrap().0[0].created, "");
    assert_eq!(all(&dated("&lt;b&gt;")).unwrap().0[0].created, "");
}

/// E2: a document that is not a complete list of buckets is an error, never a shorter list
#[test]
fn other_documents_are_rejected() {
    let whole =
        "<ListAllMyBucketsResult><Buckets><Bucket><Name>a</Name></Bucket></Buckets></ListAllMyBucketsResult>";
    assert!(all(whole).is_ok());
    for end in 0..whole.len() {
        assert!(all(&whole[..end]).is_err(), "{}", &whole[..end]);
    }
    for document in [
        "<html><body>ListAllMyBucketsResult</body></html>",
        "<!DOCTYPE html><html></html>",
        "<Error><Code>AccessDenied</Code></Error>",
        "{\"Buckets\":[]}",
        "<?xml version=\"1.0\" encoding=\"UTF-16\"?><ListAllMyBucketsResult/>",
        "<!DOCTYPE a [<!ENTITY b \"c\">]><ListAllMyBucketsResult/>",
        "<ListAllMyBucketsResult><Buckets></ListAllMyBucketsResult></Buckets>",
        "<ListAllMyBucketsResult/><ListAllMyBucketsResult/>",
        "<ListAllMyBucketsResult></ListAllMyBucketsResult>x",
        "x<ListAllMyBucketsResult/>",
        "<ListAllMyBucketsResult><Buckets><Bucket><Name><![CDATA[a]]></Name></Bucket></Buckets></ListAllMyBucketsResult>",
        "<ListAllMyBucketsResult><Buckets><Bucket><Name>&b;</Name></Bucket></Buckets></ListAllMyBucketsResult>",
    ] {
        assert!(all(document).is_err(), "{document}");
    }
    let deep = format!("<ListAllMyBucketsResult>{}", "<a>".repeat(1_000_000));
    assert!(all(&deep).is_err());
}

/// E6: the parser stops as soon as the visitor returns an error
#[test]
fn an_error_of_the_visitor_ends_the_parsing() {
    let buckets = "<Bucket><Name>a</Name></Bucket>".repeat(10);
    let document = format!("<ListAllMyBucketsResult><Buckets>{buckets}</Buckets></ListAllMyBucketsResult>");
    let mut visited = 0;
    let result = parse(document.as_bytes(), &mut |_| {
        visited += 1;
        if visited == 3 { Err("enough") } else { Ok(()) }
    });
    assert_eq!((result, visited), (Err("enough"), 3));
}

proptest! {
    /// E1: a written document is parsed to the same buckets, also with names that need escapes
    #[test]
    fn a_written_document_is_parsed_to_the_same_buckets(
        names in prop::collection::vec("[a-z<>&\"' ]{1,20}", 0..20),
        prefix in prop::option::of("[a-z<&]{0,9}"),
        next in prop::option::of("[A-Za-z0-9_-]{1,20}"),
    ) {
        let regional = |name: &String| RegionalBucket { bucket: bucket(name, UNKNOWN_DATE), region: "us-east-1" };
        let buckets: Vec<_> = names.iter().map(regional).collect();
        let document = BucketListDocument {
            buckets: &buckets, has_regions: true, prefix: prefix.as_deref(), next: next.as_deref(),
        };
        let expected: Vec<_> = buckets.iter().map(|regional| regional.bucket.clone()).collect();
        prop_assert_eq!(all(&document.to_xml()), Ok((expected, next)));
    }
}
