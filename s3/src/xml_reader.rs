//! A strict parser of small XML documents from clients: elements and text only.
//!
//! The gateway authorizes such a document before a store parses it too, so both must read the same content. The parser accepts elements
//! with ASCII names, text with the five named entities and numeric references, and one `xmlns` attribute on the root. It rejects comments,
//! CDATA sections, processing instructions, document types and all other attributes. `xml.rs` checks the encoding before.
//!
//! Source: XML 1.0 (Fifth Edition).

use std::borrow::Cow;

use crate::xml;

/// An event of the parser.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum XmlEvent<'a> {
    /// A start tag.
    Open {
        /// The element's name.
        name: &'a str,
        /// Whether it is an empty-element tag (`<a/>`). Its `Close` follows.
        is_empty: bool,
        /// The byte offset of its `<`.
        start: usize,
    },
    /// An end tag.
    Close {
        /// The element's name.
        name: &'a str,
        /// The text before the tag, not unescaped. Blank if the element has children.
        text: &'a str,
        /// The byte offset after its `>`.
        end: usize,
    },
}

/// The events of one document.
#[derive(Debug)]
pub(crate) struct XmlReader<'a> {
    text: &'a str,
    at: usize,
    open: Vec<&'a str>,
    /// The end of an empty-element tag without its `Close` event yet.
    empty: Option<usize>,
    /// Whether the last opened element is still open and has no children.
    is_leaf: bool,
    has_root: bool,
}

/// The white space of XML 1.0 (section 2.3).
const BLANK: [char; 4] = [' ', '\t', '\r', '\n'];

impl<'a> XmlReader<'a> {
    /// `text` is the document after its declaration.
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0, open: Vec::new(), empty: None, is_leaf: false, has_root: false }
    }

    /// The names of the open elements, from the root. After `Open` the new element is the last.
    pub(crate) fn path(&self) -> &[&'a str] {
        &self.open
    }

    /// The next event; none at the document's end.
    pub(crate) fn next(&mut self) -> Result<Option<XmlEvent<'a>>, &'static str> {
        if let Some(end) = self.empty.take() {
            let name = self.open.pop().unwrap_or_default();
            self.is_leaf = false;
            return Ok(Some(XmlEvent::Close { name, text: "", end }));
        }
        let rest = &self.text[self.at..];
        let Some(start) = rest.find('<') else {
            let is_end = is_blank(rest) && self.open.is_empty() && self.has_root;
            return if is_end { Ok(None) } else { Err("it is incomplete, or text follows its root") };
        };
        let (text, tagged) = rest.split_at(start);
        let (tag, _) = tagged[1..].split_once('>').ok_or("a tag does not end")?;
        let start = self.at + start;
        self.at = start + tag.len() + 2;
        match tag.strip_prefix('/') {
            Some(name) => self.close(name.trim_end_matches(BLANK), text).map(Some),
            None if is_blank(text) => self.open(tag, start).map(Some),
            None => Err("it has text outside of its values"),
        }
    }

    fn close(&mut self, name: &str, text: &'a str) -> Result<XmlEvent<'a>, &'static str> {
        let open = self.open.pop().filter(|open| *open == name).ok_or("its tags do not match")?;
        if !std::mem::take(&mut self.is_leaf) && !is_blank(text) {
            return Err("it has text outside of its values");
        }
        Ok(XmlEvent::Close { name: open, text, end: self.at })
    }

    fn open(&mut self, tag: &'a str, start: usize) -> Result<XmlEvent<'a>, &'static str> {
        let tag = tag.trim_end_matches(BLANK);
        let (tag, is_empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, attributes) = tag.split_once(BLANK).unwrap_or((tag, ""));
        let attributes = attributes.trim_matches(BLANK);
        let is_root = self.open.is_empty();
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let is_plain = attributes.is_empty() || (is_root && is_namespace(attributes));
        if !is_name || !is_plain || (is_root && self.has_root) {
            return Err("it has an element or attribute that is not allowed");
        }
        self.has_root = true;
        self.is_leaf = true;
        self.open.push(name);
        self.empty = is_empty.then_some(self.at);
        Ok(XmlEvent::Open { name, is_empty, start })
    }
}

fn is_blank(text: &str) -> bool {
    text.trim_matches(BLANK).is_empty()
}

/// Whether the attributes are one namespace. Its value must have no `<`: this parser ends a tag at the first `>`, others after the closing
/// quote.
fn is_namespace(attributes: &str) -> bool {
    let Some(quoted) = attributes.strip_prefix("xmlns=") else { return false };
    let inside = |quote: char| quoted.strip_prefix(quote)?.strip_suffix(quote);
    let value = inside('"').or_else(|| inside('\''));
    value.is_some_and(|value| !value.contains(['"', '\'', '&', '<']))
}

/// Replaces the entities of a text. Texts that parsers read differently are errors.
pub(crate) fn unescape(text: &str) -> Result<Cow<'_, str>, &'static str> {
    if text.contains('\r') {
        // XML parsers replace a carriage return by a line feed (section 2.11), so a store would read another text.
        return Err("a text has a carriage return");
    }
    if text.contains("]]>") {
        return Err("a text has the end of a CDATA section");
    }
    xml::unescape(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(text: &str) -> Result<Vec<String>, &'static str> {
        let mut elements = XmlReader::new(text);
        let mut events = Vec::new();
        while let Some(event) = elements.next()? {
            let path = elements.path().join("/");
            events.push(match event {
                XmlEvent::Open { name, is_empty, start } => {
                    assert_eq!(&text[start..=start], "<");
                    format!("{path} opens {name}{}", if is_empty { " empty" } else { "" })
                }
                XmlEvent::Close { name, text: content, end } => {
                    assert_eq!(&text[end - 1..end], ">");
                    format!("{path} closes {name} [{content}]")
                }
            });
        }
        Ok(events)
    }

    /// A5
    #[test]
    fn elements_and_their_text_are_parsed() {
        let read = events("\n<A xmlns='x'> <B >t&amp; </B\n><C/><D a='1'/></A>\r\n");
        assert_eq!(read, Err("it has an element or attribute that is not allowed"), "an attribute");
        let read = events("\n<A xmlns='x'> <B >t&amp; </B\n><C /></A>\r\n").unwrap();
        let expected = [
            "A opens A",
            "A/B opens B",
            "A closes B [t&amp; ]",
            "A/C opens C empty",
            "A closes C []",
            " closes A []",
        ];
        assert_eq!(read, expected);
    }

    /// A5: ambiguous documents are rejected
    #[test]
    fn other_markup_is_rejected() {
        for text in [
            "",
            "x",
            "<A>",
            "<A",
            "<A></B>",
            "<A></A>x",
            "<A></A><A></A>",
            "<A>x<B></B></A>",
            "<A><B></B>x</A>",
            "<A><!-- --></A>",
            "<A><![CDATA[x]]></A>",
            "<!DOCTYPE a><A></A>",
            "<A><?p x?></A>",
            "<a:A></a:A>",
            "<A></ A>",
            "< A></A>",
            "<></>",
            "<A b='1'></A>",
            "<A><B xmlns='x'></B></A>",
            "<A xmlns=\"a></A>",
            "<A xmlns=\"a<b\"></A>",
        ] {
            assert!(events(text).is_err(), "{text}");
        }
        for text in ["a&b;", "a&", "&#xd800;", "&#+33;", "&#0;", "&#xffff;", "\u{1}", "a\rb", "a]]>b"] {
            assert!(unescape(text).is_err(), "{text:?}");
        }
        assert_eq!(unescape("a&amp;b&#x20;c&#33;&#13;").unwrap(), "a&b c!\r");
        assert!(matches!(unescape("é without entities"), Ok(Cow::Borrowed("é without entities"))));
    }
}
