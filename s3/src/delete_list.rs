//! The body of DeleteObjects: parses the objects of the list, and removes objects from the document (A5, E5).
//!
//! The parser is strict (`xml_reader.rs`): it accepts the reader that S3 documents, in UTF-8 (`xml.rs`), and rejects everything that a
//! store could read differently. The other bytes of a reduced document stay unchanged.
//!
//! Source: Amazon S3 API Reference, "DeleteObjects".

use std::borrow::Cow;
use std::ops::Range;

use crate::xml;
use crate::xml_reader::{XmlEvent, XmlReader, unescape};

/// The longest list in bytes: 1,000 keys of 1,024 bytes, and the same again for tags and escapes.
pub const BYTES_MAX: u64 = 2 << 20;

/// One object of a list.
#[derive(Debug, PartialEq, Eq)]
pub struct DeleteEntry<'a> {
    /// The decoded key.
    pub key: Cow<'a, str>,
    /// The key as it is in the document, with its entities.
    pub(crate) spelled_key: &'a str,
    /// The version as it is in the document.
    pub(crate) spelled_version: Option<&'a str>,
    /// The byte range of the element in the document.
    span: Range<usize>,
}

/// A list of objects to delete.
#[derive(Debug)]
pub struct DeleteList<'a> {
    document: &'a [u8],
    /// The objects in the order of the document. An object that is listed twice occurs twice.
    pub objects: Vec<DeleteEntry<'a>>,
}

/// An incomplete `Object` element.
#[derive(Default)]
struct PartialEntry<'a> {
    start: usize,
    key: Option<(Cow<'a, str>, &'a str)>,
    version: Option<&'a str>,
}

impl<'a> DeleteList<'a> {
    /// Parses a document.
    pub fn parse(document: &'a [u8]) -> Result<Self, &'static str> {
        let text = xml::document_text(document)?;
        let offset = document.len() - text.len();
        let mut reader = XmlReader::new(text);
        let mut objects = Vec::new();
        let mut entry = PartialEntry::default();
        while let Some(event) = reader.next()? {
            match event {
                XmlEvent::Open { start, is_empty, .. } => {
                    if !is_known_element(reader.path()) {
                        return Err("it has an element that is not allowed there");
                    }
                    if is_empty {
                        return Err("it has an empty element");
                    }
                    if matches!(reader.path(), [_, "Object"]) {
                        entry = PartialEntry { start, ..PartialEntry::default() };
                    }
                }
                XmlEvent::Close { name, text, end } => match (reader.path(), name) {
                    (["Delete"], "Object") => {
                        objects.push(entry.finish(text, end, offset)?);
                        entry = PartialEntry::default();
                    }
                    ([_, "Object"], name) => entry.set(name, text)?,
                    ([], _) if !text.trim().is_empty() => return Err("it has text outside of its values"),
                    _ => {}
                },
            }
        }
        Ok(Self { document, objects })
    }

    /// The document without the objects for which `is_removed` is true. It takes the index of an object in the list.
    pub fn without(&self, is_removed: impl Fn(usize) -> bool) -> Vec<u8> {
        let mut kept = Vec::with_capacity(self.document.len());
        let mut from = 0;
        for (_, object) in self.objects.iter().enumerate().filter(|(at, _)| is_removed(*at)) {
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

    fn finish(&mut self, text: &str, end: usize, offset: usize) -> Result<DeleteEntry<'a>, &'static str> {
        let (key, spelled_key) = self.key.take().ok_or("an object has no key")?;
        if !text.trim().is_empty() {
            return Err("it has text outside of its values");
        }
        let span = offset + self.start..offset + end;
        Ok(DeleteEntry { key, spelled_key, spelled_version: self.version.take(), span })
    }
}

/// Whether the document may have an element with this path.
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
    use crate::error_document::escape;

    fn keys(text: &str) -> Result<Vec<String>, &'static str> {
        DeleteList::parse(text.as_bytes())
            .map(|list| list.objects.into_iter().map(|object| object.key.into_owned()).collect())
    }

    /// A5: the keys are those that the store reads
    #[test]
    fn the_keys_of_a_list_are_parsed() {
        let text = "\n<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n \
                    <Object><Key>public/a&amp;b&#x20;c&#33;</Key><VersionId>7</VersionId></Object>\
                    <Object><Key> x</Key></Object><Quiet>true</Quiet></Delete>\n";
        assert_eq!(keys(text).unwrap(), ["public/a&b c!", " x"]);
        for blank in [" ", "\t", "\r", "\n", " \r\n"] {
            let text = format!("<Delete{blank}><Object><Key{blank}>k</Key{blank}></Object{blank}></Delete>");
            assert_eq!(keys(&text).unwrap(), ["k"], "a key that is not parsed is not checked: {text:?}");
        }
        assert_eq!(keys("<Delete></Delete>").unwrap(), [""; 0]);
    }

    /// A5: ambiguous documents are rejected
    #[test]
    fn malformed_and_ambiguous_lists_are_rejected() {
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
        /// E5: a reduced list has the other objects, in the same order and spelling
        #[test]
        fn the_other_bytes_of_a_reduced_list_are_unchanged(
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
            let kept: Vec<_> = listed.iter().filter(|(_, _, is_removed)| !is_removed).cloned().collect();
            let reduced = list.without(|at| listed[at].2);
            prop_assert_eq!(String::from_utf8(reduced).unwrap(), document(&kept));
        }
    }
}
