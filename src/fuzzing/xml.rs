//! Fuzz target `xml`: documents that the gateway parses, rewrites and writes.

use bytes::Bytes;
use quick_xml::Reader;
use quick_xml::events::Event;
use tidegate_s3::bucket_elements::ResponseDocument;
use tidegate_s3::bucket_list::{self, BucketListDocument, ListedBucket, RegionalBucket};
use tidegate_s3::bucket_renamer::{BucketNames, BucketRenamer};
use tidegate_s3::delete_list::DeleteList;
use tidegate_s3::delete_result::ErrorAppender;
use tidegate_s3::error_document::{ErrorDocument, escape};
use tidegate_s3::late_error::LateErrorScan;

use crate::auth::delete_keys;
use crate::fuzz_input::{Input, split};

/// The elements that are appended to the result of a multi-delete.
const ERRORS: &str = "<Error><Key>k</Key></Error>";
/// The longest tag or name that is rewritten.
const BUFFERED_BYTES_MAX: usize = 8 << 10;

/// Properties: a list of keys to delete is rejected or parsed to the same keys as by another XML parser; a rewritten document does not
/// depend on the slices of the input and differs in names only; and another parser reads the same texts in a document that the gateway
/// writes.
pub fn xml(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (mode, cuts) = (input.byte(), input.byte());
    match mode % 4 {
        0 => {
            let bytes = input.rest();
            any_delete(bytes);
            any_bucket_list(bytes);
        }
        1 => delete_round_trip(input),
        2 => check_rename(cuts, input.rest()),
        _ => check_written(input),
    }
}

fn any_delete(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(keys) = delete_keys(bytes) else { return };
    assert_eq!(read_texts(text, "Key").as_ref(), Ok(&keys), "two parsers differ");
    let reduced = DeleteList::parse(bytes).unwrap().without(|at| at % 2 == 0);
    let kept: Vec<String> = keys.into_iter().skip(1).step_by(2).collect();
    assert_eq!(delete_keys(&reduced), Ok(kept), "a reduced list has other keys");
}

/// The parsed texts of a list of buckets are not longer than the document.
fn any_bucket_list(bytes: &[u8]) {
    let mut names_bytes = 0;
    let read = bucket_list::parse(bytes, &mut |ListedBucket { name, created }| {
        names_bytes += name.len() + created.len();
        Ok::<_, &str>(())
    });
    let token_bytes = read.ok().flatten().map_or(0, |token| token.len());
    assert!(names_bytes + token_bytes <= bytes.len());
}

/// The texts of all elements with this name, by the other parser; an error if it rejects the document.
fn read_texts(text: &str, name: &str) -> Result<Vec<String>, String> {
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    let (mut texts, mut open): (Vec<String>, Option<String>) = (Vec::new(), None);
    loop {
        let wrong = |error: &dyn std::fmt::Display| error.to_string();
        match reader.read_event().map_err(|error| wrong(&error))? {
            Event::Eof => return Ok(texts),
            Event::Start(tag) if tag.name().as_ref() == name.as_bytes() => open = Some(String::new()),
            Event::Text(piece) => {
                let piece = piece.xml10_content().map_err(|error| wrong(&error))?;
                open.iter_mut().for_each(|text| text.push_str(&piece));
            }
            Event::GeneralRef(entity) => {
                let entity = entity.decode().map_err(|error| wrong(&error))?;
                let text = quick_xml::escape::unescape(&format!("&{entity};"))
                    .map_err(|error| wrong(&error))?
                    .into_owned();
                open.iter_mut().for_each(|open| open.push_str(&text));
            }
            Event::End(tag) if tag.name().as_ref() == name.as_bytes() => texts.extend(open.take()),
            _ => {}
        }
    }
}

fn is_xml(text: &str) -> bool {
    // XML 1.0, 2.2. Without the carriage return, which XML parsers read as a line feed.
    text.chars()
        .all(|c| matches!(c, '\t' | '\n' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..))
}

fn delete_round_trip(mut input: Input<'_>) {
    let mut keys = Vec::new();
    while !input.is_empty() {
        keys.push(String::from_utf8_lossy(input.bytes()).into_owned());
    }
    keys.retain(|key| is_xml(key) && !key.contains(char::is_control));
    let objects: String =
        keys.iter().map(|key| format!("<Object><Key>{}</Key></Object>\r\n", escape(key))).collect();
    let text =
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Delete>{objects}<Quiet>true</Quiet></Delete>");
    assert_eq!(delete_keys(text.as_bytes()), Ok(keys));
}

fn rename(text: &[u8], store_name: &str, client_name: &str, cuts: u8) -> Vec<u8> {
    let (store_name, client_name) = (store_name.to_owned(), client_name.to_owned());
    let location = "http://gateway/b/k".to_owned();
    let names =
        BucketNames { store_name, client_name, location, key_path: None, endpoint_path: String::new() };
    let mut renamer = BucketRenamer::new(names, &ResponseDocument::ALL);
    let has_location = memchr::memmem::find(text, b"Location").is_some();
    let (mut out, mut consumed) = (Vec::new(), 0);
    for piece in split(text, cuts) {
        out.extend_from_slice(&renamer.push(Bytes::copy_from_slice(piece)));
        consumed += piece.len();
        // A name only grows here, so missing bytes are buffered.
        let is_bounded = has_location || consumed <= out.len() + BUFFERED_BYTES_MAX + piece.len();
        assert!(
            is_bounded && out.len() <= bytes_max(consumed),
            "{} bytes of output for {consumed} of input",
            out.len()
        );
    }
    out.extend_from_slice(&renamer.finish());
    out
}

/// A document with errors appended; none if that is not possible.
fn append(text: &[u8], cuts: u8) -> Option<Vec<u8>> {
    let mut appender = ErrorAppender::new(ERRORS.to_owned());
    let mut out = Vec::new();
    for piece in split(text, cuts) {
        out.extend_from_slice(&appender.push(Bytes::copy_from_slice(piece)).ok()?);
    }
    appender.finish().ok()?;
    Some(out)
}

/// The maximum length of a rewritten document: every rewritten element has a tag and grows by a name.
fn bytes_max(bytes: usize) -> usize {
    bytes + bytes / "<Name>".len() * "http://gateway/b/k".len()
}

fn check_rename(cuts: u8, text: &[u8]) {
    let whole = rename(text, "real", "alias", 0);
    for cuts in [1, cuts] {
        assert!(rename(text, "real", "alias", cuts) == whole, "cut by {cuts}");
    }
    assert!(whole.len() <= bytes_max(text.len()) + BUFFERED_BYTES_MAX);
    let has = |name: &str| memchr::memmem::find(text, name.as_bytes()).is_some();
    if !has("real") && !has("Location") {
        assert!(whole == text, "a document without the name was changed");
    }
    if !has("Location") {
        assert!(rename(text, "real", "real", cuts) == text, "the same name changes a document");
    }
    let appended = append(text, 0);
    for cuts in [1, cuts] {
        assert!(append(text, cuts) == appended, "cut by {cuts}");
    }
    if let Some(appended) = appended {
        let is_error = appended == text;
        assert!(
            is_error || memchr::memmem::find(&appended, ERRORS.as_bytes()).is_some(),
            "no errors in a result"
        );
    }
    let mut scans = [LateErrorScan::default(), LateErrorScan::default()];
    scans[0].scan(text);
    split(text, cuts).iter().for_each(|piece| scans[1].scan(piece));
    assert_eq!(scans[0].is_error(), scans[1].is_error(), "cut by {cuts}");
}

fn check_written(mut input: Input<'_>) {
    let texts: [String; 4] = std::array::from_fn(|_| String::from_utf8_lossy(input.bytes()).into_owned());
    let [code, message, resource, name] = &texts;
    let details = [("Detail", name.clone())];
    let region = Some(code.as_str());
    let error = ErrorDocument { code, message, resource, request_id: "1", details: &details, region };
    let document = error.to_xml();
    for (element, text) in [("Code", code), ("Message", message), ("Resource", resource)] {
        assert_eq!(read_texts(&document, element), Ok(vec![as_readable(text)]), "{element}");
    }
    for (element, text) in [("Detail", name), ("Region", code)] {
        let lines: Vec<String> = text.split('\n').map(as_readable).collect();
        assert_eq!(read_texts(&document, element), Ok(vec![lines.join("\n")]), "{element}");
    }
    assert!(is_xml(&document), "{document:?} is not XML");
    let buckets = [code, message].map(|name| RegionalBucket {
        bucket: ListedBucket { name: name.clone(), created: String::new() },
        region: "us-east-1",
    });
    let list =
        BucketListDocument { buckets: &buckets, prefix: Some(resource), ..Default::default() }.to_xml();
    assert_eq!(read_texts(&list, "Name"), Ok(vec![as_readable(code), as_readable(message)]));
    assert_eq!(read_texts(&list, "Prefix"), Ok(vec![as_readable(resource)]));
    let mut names = Vec::new();
    let read = bucket_list::parse(list.as_bytes(), &mut |bucket| {
        names.push(bucket.name);
        Ok::<_, &str>(())
    });
    assert_eq!((read, names), (Ok(None), vec![as_readable(code), as_readable(message)]));
    assert!(is_xml(&list));
}

/// A text as it is read from a written document.
fn as_readable(text: &str) -> String {
    let is_kept = |c: char| !c.is_control() && is_xml(c.encode_utf8(&mut [0; 4]));
    text.chars().map(|c| if is_kept(c) { c } else { '\u{fffd}' }).collect()
}
