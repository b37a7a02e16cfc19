//! The body of DeleteObjects: the objects that it lists, and the same document without some of them.
//!
//! The reader is narrow on purpose (`elements.rs`): it takes the elements that S3 documents, in UTF-8 (`xml.rs`), and refuses
//! everything that a store might read in another way. The rest of a shortened document stays byte for byte.
//!
//! Source: Amazon S3 API Reference, "DeleteObjects".

use std::ops::Range;

use crate::s3::xml;
use crate::s3::xml_reader::{XmlEvent, XmlReader, unescape};

/// The longest list that is read, in bytes: 1,000 keys of 1,024 bytes, and as much again for tags and escapes.
pub(crate) const BYTES_MAX: u64 = 2 << 20;

/// One object of a list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DeleteEntry<'a> {
    /// Its key.
    pub(crate) key: String,
    /// Its key as the document spells it, entities included.
    pub(crate) spelled_key: &'a str,
    /// Its version, spelled in the same way.
    pub(crate) spelled_version: Option<&'a str>,
    /// Its element in the document, in bytes.
    span: Range<usize>,
}

/// A list of objects to delete.
#[derive(Debug)]
pub(crate) struct DeleteList<'a> {
    document: &'a [u8],
    /// In the order of the document; one that is listed twice is there twice.
    pub(crate) objects: Vec<DeleteEntry<'a>>,
}

/// An `Object` element that is being read.
#[derive(Default)]
struct PartialEntry<'a> {
    start: usize,
    key: Option<(String, &'a str)>,
    version: Option<&'a str>,
}

impl<'a> DeleteList<'a> {
    /// Reads a document.
    pub(crate) fn parse(document: &'a [u8]) -> Result<Self, &'static str> {
        let text = xml::document_text(document)?;
        let before = document.len() - text.len();
        let mut elements = XmlReader::new(text);
        let mut objects = Vec::new();
        let mut draft = PartialEntry::default();
        while let Some(event) = elements.next()? {
            match event {
                XmlEvent::Open { start, is_empty, .. } => {
                    if is_empty || !is_known_element(elements.path()) {
                        return Err("it has an element that does not belong there");
                    }
                    if matches!(elements.path(), [_, "Object"]) {
                        draft = PartialEntry { start, ..PartialEntry::default() };
                    }
                }
                XmlEvent::Close { name, text, end } => match (elements.path(), name) {
                    (["Delete"], "Object") => {
                        objects.push(draft.finish(text, end, before)?);
                        draft = PartialEntry::default();
                    }
                    ([_, "Object"], name) => draft.set(name, text)?,
                    ([], _) if !text.trim().is_empty() => return Err("there is text where none belongs"),
                    _ => {}
                },
            }
        }
        Ok(Self { document, objects })
    }

    /// The document without the objects that `is_cut` names by their places in the list.
    pub(crate) fn without(&self, is_cut: impl Fn(usize) -> bool) -> Vec<u8> {
        let mut kept = Vec::with_capacity(self.document.len());
        let mut from = 0;
        for (_, object) in self.objects.iter().enumerate().filter(|(at, _)| is_cut(*at)) {
            kept.extend_from_slice(&self.document[from..object.span.start]);
            from = object.span.end;
        }
        kept.extend_from_slice(&self.document[from..]);
        kept
    }
}

impl<'a> PartialEntry<'a> {
    fn set(&mut self, name: &str, text: &'a str) -> Result<(), &'static str> {
        let value = unescape(text)?;
        let is_repeated = match name {
            "Key" => self.key.replace((value, text)).is_some(),
            "VersionId" => self.version.replace(text).is_some(),
            _ => false,
        };
        if is_repeated { Err("an object has two keys or two versions") } else { Ok(()) }
    }

    fn finish(&mut self, text: &str, end: usize, before: usize) -> Result<DeleteEntry<'a>, &'static str> {
        let (key, spelled_key) = self.key.take().ok_or("an object has no key")?;
        if !text.trim().is_empty() {
            return Err("there is text where none belongs");
        }
        let span = before + self.start..before + end;
        Ok(DeleteEntry { key, spelled_key, spelled_version: self.version.take(), span })
    }
}

/// Whether the element at the end of this path is one of S3's.
fn is_known_element(path: &[&str]) -> bool {
    match path {
        ["Delete"] => true,
        ["Delete", name] => matches!(*name, "Object" | "Quiet"),
        ["Delete", "Object", name] => {
            matches!(*name, "Key" | "VersionId" | "ETag" | "LastModifiedTime" | "Size")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::s3::error_document::escape;

    fn keys(text: &str) -> Result<Vec<String>, &'static str> {
        DeleteList::parse(text.as_bytes())
            .map(|list| list.objects.into_iter().map(|object| object.key).collect())
    }

    /// A5: the keys are those that the store will read
    #[test]
    fn the_keys_of_a_list_are_read() {
        let text = "\n<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n \
                    <Object><Key>public/a&amp;b&#x20;c&#33;</Key><VersionId>7</VersionId></Object>\
                    <Object><Key> x</Key></Object><Quiet>true</Quiet></Delete>\n";
        assert_eq!(keys(text).unwrap(), ["public/a&b c!", " x"]);
        for blank in [" ", "\t", "\r", "\n", " \r\n"] {
            let text = format!("<Delete{blank}><Object><Key{blank}>k</Key{blank}></Object{blank}></Delete>");
            assert_eq!(keys(&text).unwrap(), ["k"], "a key that is not seen is not checked: {text:?}");
        }
        assert_eq!(keys("<Delete></Delete>").unwrap(), [""; 0]);
    }

    /// A5: what two readers could read in two ways is refused
    #[test]
    fn what_is_not_plainly_a_list_is_refused() {
        for inner in [
            "<Object><Key>a<!-- b --></Key></Object>",
            "<Object><Key><![CDATA[a]]></Key></Object>",
            "<Object><Key>a<Key>b</Key></Key></Object>",
            "<Object><Key x='1'>a</Key></Object>",
            "<Object><Key/></Object>",
            "<Object><Key>a</Key><Key>b</Key></Object>",
            "<Object><Key>a</Key><VersionId>1</VersionId><VersionId>2</VersionId></Object>",
            "<Object><Key>a</Key><VersionId>&x;</VersionId></Object>",
            "<Object><VersionId>1</VersionId></Object>",
            "<Object></Object>",
            "<Object/>",
            "<Object><Key>a&b;</Key></Object>",
            "<Object><Key>a&#xd800;</Key></Object>",
            "<?xml version='1.0'?><Object><Key>a</Key></Object>",
            "<Object>a</Object>",
            "<Object>a<Key>a</Key></Object>",
            "<Object><Key>a</Object></Key>",
            "<Other/>",
            "<s:Object><Key>a</Key></s:Object>",
            "<Object><Key>a&#xffff;</Key></Object>",
            "<Object><Key>a\u{1}b</Key></Object>",
            "<Object><Key>a\rb</Key></Object>",
            "<Object><Key>a\r\nb</Key></Object>",
        ] {
            assert!(keys(&format!("<Delete>{inner}</Delete>")).is_err(), "{inner}");
        }
        for text in [
            "<!DOCTYPE a><Delete></Delete>",
            "<Delete>",
            "x",
            "<Delete></Delete>x",
            "<Delete",
            "<Delete>a</Delete>",
        ] {
            assert!(keys(text).is_err(), "{text}");
        }
        for tag in ["xmlns=\"a", "xmlns='a\"", "xmlns=a", "xmlns=\"a\" b=\"", "xmlns=\"a<b\"", "xmlns=\""] {
            let text = format!("<Delete {tag}><Object><Key>a</Key></Object></Delete>");
            assert!(keys(&text).is_err(), "{text}");
        }
    }

    proptest! {
        /// E5: a shortened list holds the other objects, in their order and spelled as they were
        #[test]
        fn what_stays_of_a_list_stays_byte_for_byte(
            listed in proptest::collection::vec(("[a-c&<>é ]{1,6}", any::<bool>(), any::<bool>()), 0..12),
            has_mark in any::<bool>(),
        ) {
            let element = |(key, has_version, _): &(String, bool, bool)| {
                let version = if *has_version { "<VersionId>v&amp;1</VersionId>" } else { "" };
                format!("<Object>\n<Key>{}</Key>{version}</Object>", escape(key))
            };
            let document = |objects: &[(String, bool, bool)]| {
                let mark = if has_mark { "\u{feff}" } else { "" };
                let all: String = objects.iter().map(element).collect();
                format!("{mark}<?xml version=\"1.0\"?><Delete>{all}<Quiet>true</Quiet></Delete>\n")
            };
            let text = document(&listed);
            let list = DeleteList::parse(text.as_bytes()).unwrap();
            prop_assert_eq!(list.objects.len(), listed.len());
            let kept: Vec<_> = listed.iter().filter(|(_, _, is_cut)| !is_cut).cloned().collect();
            let shortened = list.without(|at| listed[at].2);
            prop_assert_eq!(String::from_utf8(shortened).unwrap(), document(&kept));
        }
    }
}
