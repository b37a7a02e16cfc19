//! The document of ListBuckets: parses the stores' documents and writes the gateway's.
//!
//! The parser selects elements by their path and ignores unknown elements, because stores add their own. It rejects ambiguous documents:
//! with a document type or a CDATA section, with another encoding (`xml.rs`), or incomplete.
//!
//! Source: S3 API reference, ListBuckets.

use crate::error_document::escape;
use crate::xml::{self, local_name, tag_length};

const ROOT: &[u8] = b"ListAllMyBucketsResult";
/// The maximum nesting; the schema has fewer levels.
const DEPTH_MAX: usize = 8;
/// The creation date of a bucket without a known date.
const UNKNOWN_DATE: &str = "1970-01-01T00:00:00.000Z";
const DATE_BYTES_MAX: usize = 40;

/// A bucket in a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListedBucket {
    /// The name.
    pub name: String,
    /// The creation date in the store's format; empty if it is unknown.
    pub created: String,
}

/// A bucket of the gateway's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionalBucket<'a> {
    /// The bucket.
    pub bucket: ListedBucket,
    /// The region that responses about the bucket advertise.
    pub region: &'a str,
}

/// Passes each bucket of a document to `visit`, and returns the token of the next page, if there is one. An error of `visit` ends the
/// parsing.
pub fn parse<E: From<&'static str>>(
    document: &[u8],
    visit: &mut dyn FnMut(ListedBucket) -> Result<(), E>,
) -> Result<Option<String>, E> {
    let mut rest = xml::document_text(document)?;
    let mut parser =
        Parser { open: Vec::new(), text: String::new(), bucket: ListedBucket::default(), next: None };
    loop {
        let at = rest.find('<').ok_or("it is incomplete")?;
        let (text, tagged) = rest.split_at(at);
        let (tag, after) = tagged.split_at(tag_length(tagged.as_bytes()).ok_or("a tag does not end")?);
        parser.text(text)?;
        parser.tag(tag, visit)?;
        rest = after;
        if parser.open.is_empty() && is_element(tag) {
            return if rest.trim().is_empty() {
                Ok(parser.next)
            } else {
                Err("text follows its root".into())
            };
        }
    }
}

/// Whether a tag belongs to an element, not to a comment or processing instruction.
fn is_element(tag: &str) -> bool {
    !tag.starts_with("<!") && !tag.starts_with("<?")
}

/// The open elements, and the current bucket.
struct Parser<'a> {
    open: Vec<&'a str>,
    text: String,
    bucket: ListedBucket,
    next: Option<String>,
}

impl<'a> Parser<'a> {
    fn text(&mut self, text: &str) -> Result<(), &'static str> {
        if self.open.is_empty() && !text.trim().is_empty() {
            return Err("text precedes its root");
        }
        self.text.push_str(text);
        Ok(())
    }

    fn tag<E: From<&'static str>>(
        &mut self,
        tag: &'a str,
        visit: &mut dyn FnMut(ListedBucket) -> Result<(), E>,
    ) -> Result<(), E> {
        if tag.starts_with("<!--") || tag.starts_with("<?") {
            return Ok(());
        }
        if tag.starts_with("<!") {
            return Err("it has a document type or a CDATA section".into());
        }
        if let Some(name) = tag.strip_prefix("</") {
            return self.close(name.trim_end_matches('>').trim_end(), visit);
        }
        let name = name_of(tag);
        if self.open.is_empty() && local_name(name.as_bytes()) != ROOT {
            return Err("its root is not ListAllMyBucketsResult".into());
        }
        if self.open.len() == DEPTH_MAX {
            return Err("its elements are nested too deeply".into());
        }
        self.text.clear();
        if !tag.ends_with("/>") {
            self.open.push(name);
        }
        Ok(())
    }

    fn close<E: From<&'static str>>(
        &mut self,
        name: &str,
        visit: &mut dyn FnMut(ListedBucket) -> Result<(), E>,
    ) -> Result<(), E> {
        let path: Vec<&[u8]> = self.open.iter().skip(1).map(|name| local_name(name.as_bytes())).collect();
        match path[..] {
            [b"Buckets", b"Bucket", b"Name"] => self.bucket.name = xml::unescape(&self.text)?.into_owned(),
            [b"Buckets", b"Bucket", b"CreationDate"] => self.bucket.created = date(&self.text),
            [b"Buckets", b"Bucket"] => visit(std::mem::take(&mut self.bucket))?,
            [b"ContinuationToken"] if !self.text.is_empty() => {
                self.next = Some(xml::unescape(&self.text)?.into_owned())
            }
            _ => {}
        }
        self.text.clear();
        if self.open.pop() == Some(name) { Ok(()) } else { Err("its tags do not match".into()) }
    }
}

/// The name in a start tag, with its namespace prefix.
fn name_of(tag: &str) -> &str {
    let inner = tag.trim_start_matches('<').trim_end_matches('>');
    let end = inner.find(|c: char| c.is_ascii_whitespace() || c == '/').unwrap_or(inner.len());
    &inner[..end]
}

/// The date as it was written; empty if it is not a plausible date.
fn date(text: &str) -> String {
    let is_date = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'T' | b'Z' | b':' | b'.' | b'-' | b'+');
    let text = text.trim();
    if text.len() <= DATE_BYTES_MAX && text.bytes().all(is_date) { text.to_owned() } else { String::new() }
}

/// The response to ListBuckets.
#[derive(Debug, Default)]
pub struct BucketListDocument<'a> {
    /// The buckets, in order.
    pub buckets: &'a [RegionalBucket<'a>],
    /// Whether each bucket is listed with its region.
    pub has_regions: bool,
    /// The prefix of the request.
    pub prefix: Option<&'a str>,
    /// The token of the next page.
    pub next: Option<&'a str>,
}

impl BucketListDocument<'_> {
    /// The document.
    pub fn to_xml(&self) -> String {
        let mut xml = String::with_capacity(512 + 160 * self.buckets.len());
        xml.push_str(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <ListAllMyBucketsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Owner><ID>tidegate</ID><DisplayName>tidegate</DisplayName></Owner><Buckets>",
        );
        for RegionalBucket { bucket: ListedBucket { name, created }, region } in self.buckets {
            xml.push_str("<Bucket>");
            element(&mut xml, "Name", Some(name));
            element(&mut xml, "CreationDate", Some(if created.is_empty() { UNKNOWN_DATE } else { created }));
            element(&mut xml, "BucketRegion", self.has_regions.then_some(region));
            xml.push_str("</Bucket>");
        }
        xml.push_str("</Buckets>");
        element(&mut xml, "ContinuationToken", self.next);
        element(&mut xml, "Prefix", self.prefix);
        xml.push_str("</ListAllMyBucketsResult>");
        xml
    }
}

fn element(xml: &mut String, name: &str, text: Option<&str>) {
    if let Some(text) = text {
        for part in ["<", name, ">", &escape(text), "</", name, ">"] {
            xml.push_str(part);
        }
    }
}

#[cfg(test)]
#[path = "bucket_list_tests.rs"]
mod tests;
