//! Converts the `tagging` field of a form to the header `x-amz-tagging` of the upload.
//!
//! The field has a `Tagging` document, the header has the same tags as the pairs of a query. The store checks the number and length of the
//! tags.
//!
//! Sources: Amazon S3 API Reference, "POST Object" (field `tagging`) and "PutObject" (header `x-amz-tagging`).

use crate::percent::percent_encode;
use crate::xml;
use crate::xml_reader::{XmlEvent, XmlReader, unescape};

/// The header's value; empty if the document has no tags.
pub(super) fn header_value(document: &str) -> Result<String, &'static str> {
    let mut elements = XmlReader::new(xml::document_text(document.as_bytes())?);
    let mut pairs = Vec::new();
    let mut tag: (Option<String>, Option<String>) = (None, None);
    while let Some(event) = elements.next()? {
        match event {
            XmlEvent::Open { .. } if !is_known_element(elements.path()) => {
                return Err("it has an element that is not allowed there");
            }
            XmlEvent::Open { .. } => {}
            XmlEvent::Close { name, text, .. } => match name {
                "Key" | "Value" => {
                    let slot = if name == "Key" { &mut tag.0 } else { &mut tag.1 };
                    if slot.replace(unescape(text)?.into_owned()).is_some() {
                        return Err("a tag has two keys or two values");
                    }
                }
                _ if !text.trim().is_empty() => return Err("it has text outside of keys and values"),
                "Tag" => {
                    let (Some(key), Some(value)) = std::mem::take(&mut tag) else {
                        return Err("a tag needs a key and a value");
                    };
                    pairs.push(format!(
                        "{}={}",
                        percent_encode(key.as_bytes(), false),
                        percent_encode(value.as_bytes(), false)
                    ));
                }
                _ => {}
            },
        }
    }
    Ok(pairs.join("&"))
}

/// Whether a tagging document may have an element with this path.
fn is_known_element(path: &[&str]) -> bool {
    match path {
        ["Tagging"] | ["Tagging", "TagSet"] | ["Tagging", "TagSet", "Tag"] => true,
        ["Tagging", "TagSet", "Tag", name] => matches!(*name, "Key" | "Value"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(inner: &str) -> Result<String, &'static str> {
        header_value(&format!("<Tagging><TagSet>{inner}</TagSet></Tagging>"))
    }

    /// A1: tags become the pairs of a query, encoded so that no tag can add another one
    #[test]
    fn a_document_becomes_a_header() {
        let tag = |key: &str, value: &str| format!("<Tag><Key>{key}</Key><Value>{value}</Value></Tag>");
        let two = of(&(tag("0", "0") + "\n" + &tag("a b&amp;c=d", "é/+"))).unwrap();
        assert_eq!(two, "0=0&a%20b%26c%3Dd=%C3%A9%2F%2B");
        assert_eq!(of("<Tag><Value/><Key>k</Key></Tag>").unwrap(), "k=");
        let declared = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
                        <Tagging xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><TagSet/></Tagging>";
        assert_eq!(header_value(declared).unwrap(), "");
    }

    /// A1
    #[test]
    fn malformed_tagging_documents_are_rejected() {
        for inner in [
            "<Tag><Key>k</Key></Tag>",
            "<Tag><Value>v</Value></Tag>",
            "<Tag/>",
            "<Tag><Key>k</Key><Key>k</Key><Value>v</Value></Tag>",
            "<Tag><Key>k</Key><Value>v</Value><Other/></Tag>",
            "<Tag><Key>&x;</Key><Value>v</Value></Tag>",
            "<Key>k</Key>",
            "text",
        ] {
            assert!(of(inner).is_err(), "{inner}");
        }
        for document in
            ["", "a=b", "<Tagging>", "<TagSet></TagSet>", "<Tagging>x</Tagging>", "<!DOCTYPE x><Tagging/>"]
        {
            assert!(header_value(document).is_err(), "{document}");
        }
    }
}
