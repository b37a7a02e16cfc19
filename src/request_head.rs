//! The head of a request, and header maps of actix as `tidegate-s3` reads and writes them.
//!
//! The views hold references, so nothing is copied. The names of `KnownHeader` are converted at compile time. The steps of a request look
//! for a dozen headers that most requests do not have. So the lengths of all names are collected once, and a look-up by a name of another
//! length ends without a hash.

use actix_http::Message;
use actix_web::dev::RequestHead;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, Uri, Version};
use tidegate_s3::headers::{Headers, HeadersMut, KnownHeader};
use tidegate_s3::request;

/// The lengths of the names in a header map, as bits. Names of 63 bytes and more share a bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NameLengths(u64);

impl NameLengths {
    /// Nothing is known about the names.
    const ANY: Self = Self(u64::MAX);

    fn of(headers: &HeaderMap) -> Self {
        Self(headers.keys().fold(0, |lengths, name| lengths | Self::bit(name)))
    }

    fn may_have(self, name: &HeaderName) -> bool {
        self.0 & Self::bit(name) != 0
    }

    fn bit(name: &HeaderName) -> u64 {
        1 << name.as_str().len().min(63)
    }
}

/// The head of a client's request.
pub(crate) struct ClientHead {
    /// It goes back to actix-http's pool of heads when it is dropped.
    head: Message<RequestHead>,
    lengths: NameLengths,
}

impl ClientHead {
    pub(crate) fn new(head: Message<RequestHead>) -> Self {
        let lengths = NameLengths::of(&head.headers);
        Self { head, lengths }
    }

    pub(crate) fn view(&self) -> Head<'_> {
        let RequestHead { method, uri, version, headers, .. } = &*self.head;
        Head { method, uri, version: *version, headers, lengths: self.lengths }
    }

    pub(crate) fn into_inner(self) -> Message<RequestHead> {
        self.head
    }
}

/// The parts of a request that validation, authentication and the upstream call read.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) version: Version,
    pub(crate) headers: &'a HeaderMap,
    lengths: NameLengths,
}

impl<'a> Head<'a> {
    pub(crate) fn new(method: &'a Method, uri: &'a Uri, version: Version, headers: &'a HeaderMap) -> Self {
        Self { method, uri, version, headers, lengths: NameLengths::of(headers) }
    }

    /// The first value of a header.
    pub(crate) fn find(self, name: &HeaderName) -> Option<&'a HeaderValue> {
        if self.lengths.may_have(name) { self.headers.get(name) } else { None }
    }

    pub(crate) fn has(self, name: &HeaderName) -> bool {
        self.lengths.may_have(name) && self.headers.contains_key(name)
    }

    pub(crate) fn header_view(self) -> HeaderView<'a> {
        HeaderView { map: self.headers, lengths: self.lengths }
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
        self.header_view()
    }
}

/// A view of a header map.
#[derive(Clone, Copy)]
pub(crate) struct HeaderView<'a> {
    map: &'a HeaderMap,
    lengths: NameLengths,
}

impl<'a> HeaderView<'a> {
    pub(crate) fn of(map: &'a HeaderMap) -> Self {
        Self { map, lengths: NameLengths::ANY }
    }

    /// The values of a header, in their order.
    pub(crate) fn values(self, name: &HeaderName) -> impl Iterator<Item = &'a HeaderValue> + use<'a> {
        let map = self.lengths.may_have(name).then_some(self.map);
        map.map(|map| map.get_all(name)).into_iter().flatten()
    }
}

impl<'a> Headers<'a> for HeaderView<'a> {
    fn get_all(self, header: KnownHeader) -> impl Iterator<Item = &'a [u8]> {
        self.values(header_name(header)).map(HeaderValue::as_bytes)
    }

    fn get_all_named(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.map.get_all(name).map(HeaderValue::as_bytes)
    }

    fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.map.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
    }

    fn names(self) -> impl Iterator<Item = &'a str> {
        self.map.keys().map(HeaderName::as_str)
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
        HeaderView::of(self.0)
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

    /// V1, A1: a header of the head is found whatever else has a name of the same length, and no other
    #[test]
    fn a_head_finds_its_headers() {
        let long = "x-".to_owned() + &"a".repeat(70);
        let long = HeaderName::try_from(long).unwrap();
        let mut headers = HeaderMap::new();
        headers.append(HeaderName::from_static("accept"), HeaderValue::from_static("1"));
        headers.append(COPY_SOURCE, HeaderValue::from_static("2"));
        headers.append(long.clone(), HeaderValue::from_static("3"));
        let (method, uri) = (Method::GET, Uri::from_static("/"));
        let head = Head::new(&method, &uri, Version::HTTP_11, &headers);
        let value = |name: &HeaderName| head.find(name).and_then(|value| value.to_str().ok());
        assert_eq!((value(&COPY_SOURCE), value(&long)), (Some("2"), Some("3")));
        for absent in ["cookie", "x-amz-copy-sourc2", "host", "authorization"] {
            assert_eq!(value(&HeaderName::from_static(absent)), None, "{absent}");
            assert!(!head.has(&HeaderName::from_static(absent)), "{absent}");
        }
        assert!(head.has(&long));
        assert_eq!(head.header_view().get_text(KnownHeader::CopySource), Some("2"));
        assert_eq!(head.header_view().get_text(KnownHeader::Host), None);
    }

    #[test]
    fn headers_are_read_and_changed_in_place() {
        let mut map = HeaderMap::new();
        for (name, value) in [("host", "a"), ("x-amz-date", "1"), ("x-amz-date", "2")] {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let view = HeaderView::of(&map);
        assert_eq!(view.get_all(KnownHeader::AmzDate).collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(view.get_all_named("X-Amz-Date").count(), 2);
        assert!(view.get_all_named("no name").next().is_none());
        assert_eq!((view.names().count(), view.iter().count()), (2, 3));
        let mut editor = HeaderEditor(&mut map);
        editor.set(KnownHeader::AmzDate, "3");
        editor.set(KnownHeader::AmzDate, "a\nb");
        editor.set_secret(KnownHeader::Authorization, "s");
        editor.remove(KnownHeader::Host);
        let view = HeaderView::of(&map);
        assert_eq!(view.get_text(KnownHeader::AmzDate), Some("3"));
        assert!(map.get("authorization").is_some_and(HeaderValue::is_sensitive));
        assert!(!view.contains(KnownHeader::Host));
    }
}
