//! What a request does, as far as a policy tells requests apart, read from its head alone.
//!
//! Where the gateway does not know a parameter, it takes the request for the mightier operation: a bucket's GET is a
//! listing only if nothing but a listing's parameters stand in it, and everything else on a bucket is configuration. Names
//! are compared as they decode, for that is how the store will read them. Reading by POST (S3 Select) is reading,
//! giving up a multipart upload is part of writing.
//!
//! Deliberately absent: a model of S3's operations beyond that, and headers that set an object's own access list.

use std::borrow::Cow;

use actix_web::http::Method;
use tidegate_actors::OperationClass;
use tidegate_config::{Access, Kind};

use crate::http::edge::decode;
use crate::s3::sigv4::query::{name_of, pairs, presigns, text_of};

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation<'a> {
    pub(crate) access: Access,
    pub(crate) on: On<'a>,
}

/// What an operation is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum On<'a> {
    /// One object.
    Key(Cow<'a, [u8]>),
    /// The keys that begin with each of these; with none, all keys.
    Listing(Vec<Vec<u8>>),
    /// Keys that the body lists.
    Keys,
    /// The bucket itself.
    Bucket,
}

/// The parameters of a listing, whichever of the three it is.
const LISTING: [&str; 16] = [
    "list-type",
    "prefix",
    "delimiter",
    "marker",
    "max-keys",
    "encoding-type",
    "continuation-token",
    "start-after",
    "fetch-owner",
    "versions",
    "key-marker",
    "version-id-marker",
    "uploads",
    "upload-id-marker",
    "max-uploads",
    "x-id",
];

/// What clients ask of a bucket before they begin.
const BEFORE: [&str; 2] = ["location", "versioning"];

impl<'a> Operation<'a> {
    /// Reads an operation; `query` is without what proves an identity here, `rest` the path behind the bucket's name, with
    /// its slash.
    pub(crate) fn of(method: &Method, query: &str, kind: Kind, rest: &'a str) -> Self {
        let key = rest.strip_prefix('/').unwrap_or(rest);
        let key = match key.contains('%') {
            true => Cow::Owned(decode(key.as_bytes())),
            false => Cow::Borrowed(key.as_bytes()),
        };
        if kind == Kind::Http {
            return Self { access: plain(method), on: On::Key(key) };
        }
        if key.is_empty() { Self::on_bucket(method, query) } else { Self::on_key(method, query, key) }
    }

    /// What it is to the circuit breaker: whatever is no mere reading or listing is work of a store's other half.
    pub(crate) fn class(&self) -> OperationClass {
        match self.access {
            Access::Read => OperationClass::Read,
            Access::List => OperationClass::List,
            Access::Write | Access::Delete | Access::Configure => OperationClass::Write,
        }
    }

    /// The read of a copy's source.
    pub(crate) fn read(key: &'a [u8]) -> Self {
        Self { access: Access::Read, on: On::Key(key.into()) }
    }

    fn on_key(method: &Method, query: &str, key: Cow<'a, [u8]>) -> Self {
        let access = match *method {
            Method::POST if has(query, "select") => Access::Read,
            Method::DELETE if has(query, "uploadId") => Access::Write,
            // Its source is another key, named by a header.
            Method::PUT if has(query, "renameObject") => Access::Configure,
            _ => plain(method),
        };
        Self { access, on: On::Key(key) }
    }

    fn on_bucket(method: &Method, query: &str) -> Self {
        let only = |known: &[&str]| {
            let pairs = pairs(query).filter(|pair| !pair.is_empty() && !presigns(pair));
            pairs.map(name_of).all(|name| known.contains(&&*name) || name == "x-id")
        };
        match *method {
            Method::HEAD => Self { access: Access::List, on: On::Bucket },
            Method::GET if only(&LISTING) => Self { access: Access::List, on: On::Listing(prefixes(query)) },
            Method::GET if only(&BEFORE) => Self { access: Access::List, on: On::Bucket },
            Method::POST if has(query, "delete") => Self { access: Access::Delete, on: On::Keys },
            Method::POST => Self { access: Access::Write, on: On::Bucket },
            _ => Self { access: Access::Configure, on: On::Bucket },
        }
    }
}

/// What a method does where nothing else is known.
fn plain(method: &Method) -> Access {
    match *method {
        Method::GET | Method::HEAD => Access::Read,
        Method::DELETE => Access::Delete,
        _ => Access::Write,
    }
}

fn has(query: &str, name: &str) -> bool {
    pairs(query).any(|pair| name_of(pair) == name)
}

fn prefixes(query: &str) -> Vec<Vec<u8>> {
    let named = pairs(query).filter(|pair| name_of(pair) == "prefix");
    named
        .map(|pair| text_of(pair.split_once('=').map_or("", |(_, value)| value)).into_owned().into_bytes())
        .collect()
}

#[cfg(test)]
mod tests {
    use actix_web::http::Uri;

    use super::*;

    fn of(method: &str, target: &str) -> (Access, String) {
        let uri: Uri = target.parse().unwrap();
        let rest = uri.path().strip_prefix("/b").unwrap();
        let query = uri.query().unwrap_or_default();
        let Operation { access, on } = Operation::of(&method.parse().unwrap(), query, Kind::S3, rest);
        let on = match on {
            On::Key(key) => format!("key {}", String::from_utf8_lossy(&key)),
            On::Listing(prefixes) => {
                let prefixes = prefixes.iter().map(|prefix| String::from_utf8_lossy(prefix));
                format!("listing {}", prefixes.collect::<Vec<_>>().join(","))
            }
            On::Keys => "keys".to_owned(),
            On::Bucket => "bucket".to_owned(),
        };
        (access, on)
    }

    /// A5
    #[test]
    fn requests_are_told_apart_by_what_they_do() {
        use Access::{Configure, Delete, List, Read, Write};
        for (method, target, access, on) in [
            ("GET", "/b/k", Read, "key k"),
            ("HEAD", "/b/a%20b/c+d", Read, "key a b/c+d"),
            ("GET", "/b//k", Read, "key /k"),
            ("PUT", "/b/k", Write, "key k"),
            ("PUT", "/b/k?partNumber=1&uploadId=u", Write, "key k"),
            ("PUT", "/b/k?renameObject", Configure, "key k"),
            ("POST", "/b/k?uploads", Write, "key k"),
            ("POST", "/b/k?select&select-type=2", Read, "key k"),
            ("DELETE", "/b/k", Delete, "key k"),
            ("DELETE", "/b/k?upload%49d=u", Write, "key k"),
            ("GET", "/b", List, "listing "),
            ("GET", "/b/?list-type=2&prefix=a%2Fb&X-Amz-Date=1", List, "listing a/b"),
            ("GET", "/b?prefix=a&pre%66ix=b", List, "listing a,b"),
            ("GET", "/b?uploads&prefix=p", List, "listing p"),
            ("GET", "/b?location", List, "bucket"),
            ("GET", "/b?policy", Configure, "bucket"),
            ("GET", "/b?acl&prefix=public/", Configure, "bucket"),
            ("HEAD", "/b", List, "bucket"),
            ("PUT", "/b", Configure, "bucket"),
            ("PUT", "/b?policy", Configure, "bucket"),
            ("DELETE", "/b", Configure, "bucket"),
            ("POST", "/b?delete", Delete, "keys"),
            ("POST", "/b?%64elete", Delete, "keys"),
            ("POST", "/b", Write, "bucket"),
        ] {
            assert_eq!(of(method, target), (access, on.to_owned()), "{method} {target}");
        }
    }
}
