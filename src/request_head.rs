//! The head of a request, and header maps of actix as `tidegate-s3` reads and writes them.
//!
//! The views hold references, so nothing is copied. The names of `KnownHeader` are converted at compile time.

use actix_web::dev::RequestHead;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, Uri, Version};
use tidegate_s3::headers::{Headers, HeadersMut, KnownHeader};
use tidegate_s3::request;

/// The parts of a request that validation, authentication and the upstream call read.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) version: Version,
    pub(crate) headers: &'a HeaderMap,
}

impl<'a> From<&'a RequestHead> for Head<'a> {
    fn from(head: &'a RequestHead) -> Self {
        Self { method: &head.method, uri: &head.uri, version: head.version, headers: &head.headers }
    }
}

impl<'a> request::RequestHead<'a> for Head<'a> {
    fn method(self) -> &'a str {
        self.method.as_str()
    }

    fn path(self) -> &'a str {
        self.uri.path()
    }

    fn query(self) -> &'a str {
        self.uri.query().unwrap_or_default()
    }

    fn authority(self) -> Option<&'a str> {
        self.uri.authority().map(|authority| authority.as_str())
    }

    fn headers(self) -> impl Headers<'a> {
        HeaderView(self.headers)
    }
}

/// A view of a header map.
#[derive(Clone, Copy)]
pub(crate) struct HeaderView<'a>(pub(crate) &'a HeaderMap);

impl<'a> Headers<'a> for HeaderView<'a> {
    fn get_all(self, header: KnownHeader) -> impl Iterator<Item = &'a [u8]> {
        self.0.get_all(header_name(header)).map(HeaderValue::as_bytes)
    }

    fn get_all_named(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0.get_all(name).map(HeaderValue::as_bytes)
    }

    fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
    }

    fn names(self) -> impl Iterator<Item = &'a str> {
        self.0.keys().map(HeaderName::as_str)
    }
}

/// A header map that `tidegate-s3` changes.
pub(crate) struct HeaderEditor<'a>(pub(crate) &'a mut HeaderMap);

impl HeaderEditor<'_> {
    fn insert(&mut self, header: KnownHeader, value: &str, is_secret: bool) {
        if let Ok(mut value) = HeaderValue::from_str(value) {
            value.set_sensitive(is_secret);
            self.0.insert(header_name(header).clone(), value);
        }
    }
}

impl HeadersMut for HeaderEditor<'_> {
    fn view(&self) -> impl Headers<'_> {
        HeaderView(self.0)
    }

    fn set(&mut self, header: KnownHeader, value: &str) {
        self.insert(header, value, false);
    }

    fn set_secret(&mut self, header: KnownHeader, value: &str) {
        self.insert(header, value, true);
    }

    fn remove(&mut self, header: KnownHeader) {
        self.0.remove(header_name(header));
    }
}

/// The header with the payload hash.
pub(crate) const CONTENT_SHA256: HeaderName = HeaderName::from_static(KnownHeader::ContentSha256.as_str());

/// The header with the source of a copy.
pub(crate) const COPY_SOURCE: HeaderName = HeaderName::from_static(KnownHeader::CopySource.as_str());

/// The name of a known header.
fn header_name(header: KnownHeader) -> &'static HeaderName {
    &HEADER_NAMES[header as usize]
}

/// The names in the order of `KnownHeader::ALL`.
static HEADER_NAMES: [HeaderName; KnownHeader::ALL.len()] = {
    let mut names = [const { HeaderName::from_static("x") }; KnownHeader::ALL.len()];
    let mut at = 0;
    while at < names.len() {
        let name = HeaderName::from_static(KnownHeader::ALL[at].as_str());
        // A const block cannot drop a name.
        std::mem::forget(std::mem::replace(&mut names[at], name));
        at += 1;
    }
    names
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_header_has_its_name() {
        for header in KnownHeader::ALL {
            assert_eq!(header_name(*header).as_str(), header.as_str());
        }
    }

    #[test]
    fn headers_are_read_and_changed_in_place() {
        let mut map = HeaderMap::new();
        for (name, value) in [("host", "a"), ("x-amz-date", "1"), ("x-amz-date", "2")] {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let view = HeaderView(&map);
        assert_eq!(view.get_all(KnownHeader::AmzDate).collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(view.get_all_named("X-Amz-Date").count(), 2);
        assert!(view.get_all_named("no name").next().is_none());
        assert_eq!((view.names().count(), view.iter().count()), (2, 3));
        let mut editor = HeaderEditor(&mut map);
        editor.set(KnownHeader::AmzDate, "3");
        editor.set(KnownHeader::AmzDate, "a\nb");
        editor.set_secret(KnownHeader::Authorization, "s");
        editor.remove(KnownHeader::Host);
        let view = HeaderView(&map);
        assert_eq!(view.get_text(KnownHeader::AmzDate), Some("3"));
        assert!(map.get("authorization").is_some_and(HeaderValue::is_sensitive));
        assert!(!view.contains(KnownHeader::Host));
    }
}
