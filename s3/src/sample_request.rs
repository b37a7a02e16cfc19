//! A request and its headers for tests.

use crate::headers::{Headers, HeadersMut, KnownHeader, is_name, is_value};
use crate::request::RequestHead;

/// Headers in a list. Names are converted to lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HeaderList(Vec<(String, Vec<u8>)>);

impl HeaderList {
    pub(crate) fn new<N: AsRef<str>, V: AsRef<[u8]>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut list = Self::default();
        for (name, value) in pairs {
            list.append(name.as_ref(), value.as_ref());
        }
        list
    }

    pub(crate) fn append(&mut self, name: &str, value: &[u8]) {
        assert!(is_name(name), "{name}");
        self.0.push((name.to_ascii_lowercase(), value.to_vec()));
    }

    /// Replaces all values of a header by this value.
    pub(crate) fn insert(&mut self, name: &str, value: &[u8]) {
        self.0.retain(|(known, _)| known != name);
        self.append(name, value);
    }

    /// Every header as `name: value`.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.iter().map(|(name, value)| format!("{name}: {}", str::from_utf8(value).unwrap())).collect()
    }
}

impl<'a> Headers<'a> for &'a HeaderList {
    fn get_all(self, header: KnownHeader) -> impl Iterator<Item = &'a [u8]> {
        self.get_all_named(header.as_str())
    }

    fn get_all_named(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value)
    }

    fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    fn names(self) -> impl Iterator<Item = &'a str> {
        let is_first = |at: usize, name: &str| self.0[..at].iter().all(|(known, _)| known != name);
        let names = self.iter().map(|(name, _)| name).enumerate();
        names.filter(move |(at, name)| is_first(*at, name)).map(|(_, name)| name)
    }
}

impl HeadersMut for HeaderList {
    fn view(&self) -> impl Headers<'_> {
        self
    }

    fn set(&mut self, header: KnownHeader, value: &str) {
        if is_value(value) {
            self.insert(header.as_str(), value.as_bytes());
        }
    }

    fn set_secret(&mut self, header: KnownHeader, value: &str) {
        self.set(header, value);
    }

    fn remove(&mut self, header: KnownHeader) {
        self.0.retain(|(name, _)| name != header.as_str());
    }
}

/// A request as the gateway receives it.
#[derive(Debug, Clone)]
pub(crate) struct SampleRequest {
    pub(crate) method: String,
    pub(crate) authority: Option<String>,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: HeaderList,
}

impl SampleRequest {
    pub(crate) fn new<N: AsRef<str>, V: AsRef<[u8]>>(
        method: &str,
        target: &str,
        headers: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let (method, target) = (method.to_owned(), target.to_owned());
        Self { method, authority: None, target, headers: HeaderList::new(headers) }
    }
}

impl<'a> RequestHead<'a> for &'a SampleRequest {
    fn method(self) -> &'a str {
        &self.method
    }

    fn path(self) -> &'a str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    fn query(self) -> &'a str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    fn authority(self) -> Option<&'a str> {
        self.authority.as_deref()
    }

    fn headers(self) -> impl Headers<'a> {
        &self.headers
    }
}
