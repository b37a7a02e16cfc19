//! Tests of the table of operations: the accesses that requests need.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Uri, Version};
use proptest::prelude::*;

use super::table::{ROWS, SUB_RESOURCES};
use super::*;

/// The access that a request needs, its resource, and why it needs `configure`.
fn of_request(
    method: &str,
    target: &str,
    header: Option<(&str, &str)>,
) -> (Access, String, Option<ConfigureCause>) {
    let uri: Uri = target.parse().unwrap();
    let method: Method = method.parse().unwrap();
    let mut headers = HeaderMap::new();
    if let Some((name, value)) = header {
        headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
    }
    let rest = uri.path().strip_prefix("/b").unwrap();
    let head = Head::new(&method, &uri, Version::HTTP_11, &headers);
    let operation = Operation::from_request(head, uri.query().unwrap_or_default(), Kind::S3, rest);
    let resource = match operation.resource {
        Resource::Key(key) => format!("key {}", String::from_utf8_lossy(&key)),
        Resource::Listing(prefixes) => {
            let prefixes = prefixes.iter().map(|prefix| String::from_utf8_lossy(prefix));
            format!("listing {}", prefixes.collect::<Vec<_>>().join(","))
        }
        Resource::Keys => "keys".to_owned(),
        Resource::Bucket => "bucket".to_owned(),
    };
    (operation.access, resource, operation.configure_cause)
}

fn of(method: &str, target: &str) -> (Access, String, Option<ConfigureCause>) {
    of_request(method, target, None)
}

/// A5, V11
#[test]
fn each_operation_has_its_access_and_resource() {
    use Access::{Configure, Delete, List, Read, Write};
    for (method, target, access, on) in [
        ("GET", "/b/k", Read, "key k"),
        ("HEAD", "/b/a%20b/c+d", Read, "key a b/c+d"),
        ("GET", "/b//k", Read, "key /k"),
        ("GET", "/b/k?partNumber=1&versionId=%zz&response-content-type=a;b&x-id=GetObject", Read, "key k"),
        ("GET", "/b/k?X-Amz-Algorithm=a&X-Amz-Signature=b&x-amz-user-agent=c&&", Read, "key k"),
        ("GET", "/b/k?uploadId=u&max-parts=1", Read, "key k"),
        ("GET", "/b/k?acl", Read, "key k"),
        ("PUT", "/b/k", Write, "key k"),
        ("PUT", "/b/k?x-amz-checksum-crc32=AAAAAA%3D%3D&x-id=PutObject", Write, "key k"),
        ("PUT", "/b/k?partNumber=1&uploadId=u", Write, "key k"),
        ("PUT", "/b/k?renameObject", Configure, "bucket"),
        ("PUT", "/b/k?acl", Configure, "key k"),
        ("PUT", "/b/k?append&position=0", Write, "key k"),
        ("POST", "/b/k?uploads", Write, "key k"),
        ("POST", "/b/k?%75ploads=x", Write, "key k"),
        ("POST", "/b/k?select&select-type=2", Read, "key k"),
        ("DELETE", "/b/k", Delete, "key k"),
        ("DELETE", "/b/k?versionId=v", Delete, "key k"),
        ("DELETE", "/b/k?upload%49d=u", Write, "key k"),
        ("GET", "/b", List, "listing "),
        ("GET", "/b/?list-type=2&prefix=a%2Fb&X-Amz-Date=1", List, "listing a/b"),
        ("GET", "/b?prefix=a&pre%66ix=b", List, "listing a,b"),
        ("GET", "/b?prefix=a/%zz", List, "listing "),
        ("GET", "/b?prefix=a;b", List, "listing a;b,a"),
        ("GET", "/b?delimiter=/;prefix=b&prefix=a", List, "listing b,a"),
        ("GET", "/b?prefix=%C3%A9%c0%ae", List, "listing é\u{fffd}\u{fffd}"),
        ("GET", "/b?uploads&prefix=p", List, "listing p"),
        ("GET", "/b?list-type=2&metadata=true&fetch-owner=true", List, "listing "),
        ("GET", "/b?allow-unordered=true&format=json", List, "listing "),
        ("GET", "/b?list-type=2&unsorted=true&prefix=a/&start-after=a/b", List, "listing a/"),
        ("GET", "/b?versions&objs-container=true&metadata=true&prefix=a", List, "listing a"),
        ("GET", "/b?location", List, "bucket"),
        ("HEAD", "/b", List, "bucket"),
        ("PUT", "/b", Configure, "bucket"),
        ("DELETE", "/b", Configure, "bucket"),
        ("POST", "/b?delete", Delete, "keys"),
        ("POST", "/b?%64elete", Delete, "keys"),
        ("POST", "/b", Write, "bucket"),
    ] {
        assert_eq!(of(method, target), (access, on.to_owned(), None), "{method} {target}");
    }
}

/// V11: an operation or parameter outside the table needs `configure`, and the cause names it
#[test]
fn requests_outside_the_table_need_configure() {
    for (method, target, parameter, on) in [
        ("GET", "/b?policy", "policy", "bucket"),
        ("PUT", "/b?policy", "policy", "bucket"),
        ("GET", "/b?acl&prefix=public/", "acl", "bucket"),
        ("GET", "/b?prefix=a&events=s3:*", "events", "bucket"),
        ("GET", "/b?list-type=2&metadata=true&events=s3:*", "events", "bucket"),
        ("GET", "/b?Metadata=true", "Metadata", "bucket"),
        ("GET", "/b/k?metadata=true", "metadata", "key k"),
        ("HEAD", "/b?unsorted=true", "unsorted", "bucket"),
        ("GET", "/b?Prefix=a", "Prefix", "bucket"),
        ("GET", "/b?=a", "", "bucket"),
        ("GET", "/b/k?v=3", "v", "key k"),
        ("GET", "/b/k?response-content-type%3Da", "response-content-type=a", "key k"),
        ("GET", "/b/k?uploads", "uploads", "key k"),
        ("HEAD", "/b/k?uploadId=u", "uploadId", "key k"),
        ("PUT", "/b/k?partNumber=1", "partNumber", "key k"),
        ("PUT", "/b/k?uploadId=&partNumber=1", "uploadId", "key k"),
        ("DELETE", "/b/k?uploadId=", "uploadId", "key k"),
        ("DELETE", "/b/k?uploadId", "uploadId", "key k"),
        ("DELETE", "/b/k?uploadId=%zz", "uploadId", "key k"),
        ("DELETE", "/b/k?uploadId=a%4", "uploadId", "key k"),
        ("DELETE", "/b/k?uploadId=a%+4", "uploadId", "key k"),
        ("DELETE", "/b/k?UploadId=a", "UploadId", "key k"),
        ("DELETE", "/b/k?uploadId%3Da", "uploadId=a", "key k"),
        ("DELETE", "/b/k?uploads", "uploads", "key k"),
        ("DELETE", "/b/k?versionId=a;uploadId=b", "uploadId", "key k"),
        ("POST", "/b/k?select;uploads", "uploads", "bucket"),
        ("POST", "/b/k?select&select-type=2;uploads", "uploads", "bucket"),
        ("POST", "/b/k?+uploads", " uploads", "bucket"),
        ("POST", "/b/k?uploads%00", "uploads\0", "bucket"),
        ("POST", "/b/k??uploads", "?uploads", "bucket"),
        ("POST", "/b?foo", "foo", "bucket"),
        ("PUT", "/b/k?x-amz-acl%3Dpublic-read", "x-amz-acl=public-read", "key k"),
    ] {
        let (access, resource, cause) = of(method, target);
        assert_eq!((access, &*resource), (Access::Configure, on), "{method} {target}");
        let is_named = matches!(&cause, Some(ConfigureCause::Parameter { name, .. }) if name == parameter);
        assert!(is_named, "{method} {target}: {cause:?}");
    }
    for (method, target, on) in
        [("POST", "/b/k", "bucket"), ("PATCH", "/b/k", "key k"), ("OPTIONS", "/b", "bucket")]
    {
        let expected = (Access::Configure, on.to_owned(), Some(ConfigureCause::Method));
        assert_eq!(of(method, target), expected, "{method} {target}");
    }
}

/// V11: a write with a header that gives others access needs `configure`
#[test]
fn privileged_headers_need_configure() {
    let header = |method, header| of_request(method, "/b/k", Some(header));
    let public = ("x-amz-acl", "public-read");
    let needs = |name: &str| Some(ConfigureCause::Header(name.to_owned()));
    assert_eq!(header("PUT", public), (Access::Configure, "key k".to_owned(), needs("x-amz-acl")));
    let bypass = ("x-amz-bypass-governance-retention", "true");
    assert_eq!(header("DELETE", bypass), (Access::Configure, "key k".to_owned(), needs(bypass.0)));
    assert_eq!(of_request("POST", "/b?delete", Some(bypass)).2, needs(bypass.0));
    assert_eq!(of("PUT", "/b/k?X-Amz-Acl=public-read").2, needs("X-Amz-Acl"));
    assert_eq!(header("PUT", ("x-amz-acl", "private")), (Access::Write, "key k".to_owned(), None));
}

/// V11: every method with every sub-resource, and with every pair of them in either order
#[test]
fn two_sub_resources_conflict() {
    for method in ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH"] {
        for path in ["/b", "/b/k"] {
            for first in SUB_RESOURCES {
                let subject = if path == "/b" { ResourceKind::Bucket } else { ResourceKind::Object };
                let row = ROWS.iter().find(|row| {
                    (row.method, row.subject, row.sub_resource) == (method, subject, Some(first))
                });
                let alone = of(method, &format!("{path}?{first}=x"));
                let expected = row.map_or(Access::Configure, |row| row.access);
                assert_eq!(
                    (alone.0, alone.2.is_none()),
                    (expected, row.is_some()),
                    "{method} {path}?{first}"
                );
                for second in SUB_RESOURCES {
                    let query = format!("{path}?{first}=x&prefix=&{second}");
                    let (access, _, cause) = of(method, &query);
                    let Some(ConfigureCause::ConflictingParameters(names, accesses)) = cause else {
                        panic!("{method} {query}: {cause:?}")
                    };
                    assert_eq!((access, names), (Access::Configure, [first, second]), "{method} {query}");
                    assert!(row.is_none() || accesses.contains(&expected), "{method} {query}");
                }
            }
        }
    }
}

/// Each operation is in the table once, and no sub-resource is listed as a parameter.
#[test]
fn the_table_is_consistent() {
    for (at, row) in ROWS.iter().enumerate() {
        assert!(row.sub_resource.is_none_or(|name| SUB_RESOURCES.contains(&name)), "{}", row.name);
        assert!(row.parameters.iter().all(|name| !SUB_RESOURCES.contains(name)), "{}", row.name);
        let key = |row: &Row| (row.method, row.subject, row.sub_resource);
        assert!(
            ROWS[..at].iter().all(|other| key(other) != key(row) && other.name != row.name),
            "{}",
            row.name
        );
    }
}

/// Percent-encoded spellings of a name.
fn spelling(name: &'static str) -> impl Strategy<Value = String> {
    prop::collection::vec(any::<bool>(), name.len()).prop_map(move |escaped| {
        let spelled = name.bytes().zip(escaped);
        spelled
            .map(|(byte, escape)| if escape { format!("%{byte:02X}") } else { char::from(byte).to_string() })
            .collect()
    })
}

proptest! {
    /// V11: a percent-encoded query needs the same access as the plain one, and a request outside the table needs `configure`
    #[test]
    fn no_spelling_lowers_the_access_of_an_operation(
        method in prop::sample::select(vec!["GET", "HEAD", "PUT", "POST", "DELETE"]),
        name in prop::sample::select(SUB_RESOURCES.to_vec()).prop_flat_map(|name| (Just(name), spelling(name))),
        other in "[a-z]{3,8}",
    ) {
        let (plain, spelled) = name;
        for path in ["/b", "/b/k"] {
            let expected = of(method, &format!("{path}?{plain}=x"));
            prop_assert_eq!(&of(method, &format!("{path}?{spelled}=x")), &expected);
            prop_assert_eq!(&of(method, &format!("{path}?&&{spelled}=x&")), &expected);
            let more = of(method, &format!("{path}?{spelled}=x&q{other}=1"));
            prop_assert_eq!(more.0, Access::Configure);
        }
    }
}
