//! Errors of single objects in the response to DeleteObjects (E5).
//!
//! The store responds to the reduced list. For each object that the caller's policy denies, an error is appended to the store's
//! `DeleteResult` while the document is streamed. At most a start tag is buffered. `Quiet` suppresses only the deleted objects, so errors
//! are reported in both modes.
//!
//! Source: Amazon S3 API Reference, "DeleteObjects".

use bytes::{Bytes, BytesMut};
use memchr::memmem;

use crate::delete_list::DeleteEntry;
use crate::xml::tag_length;

const ROOT: &[u8] = b"DeleteResult";
const END: &[u8] = b"</DeleteResult";
/// The maximum length of the declaration and the root's start tag.
const START_BYTES_MAX: usize = 2048;

/// The error of an object that the caller's policy denies.
pub fn error_element(object: &DeleteEntry<'_>) -> String {
    let version = object.spelled_version.map(|version| format!("<VersionId>{version}</VersionId>"));
    format!(
        "<Error><Key>{}</Key>{}<Code>AccessDenied</Code><Message>Access Denied</Message></Error>",
        object.spelled_key,
        version.unwrap_or_default()
    )
}

/// The whole response, if the policy denies every object.
pub fn document(errors: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DeleteResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{errors}\
         </DeleteResult>"
    )
}

/// Appends errors to a `DeleteResult`. The input may be split at any byte.
#[derive(Debug)]
pub struct ErrorAppender {
    errors: String,
    state: State,
    buffered: BytesMut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the root's start tag.
    Start,
    /// Before the root's end tag.
    Inside,
    /// The errors are appended, or the document is an error of the whole request.
    Done,
}

/// The response is not a `DeleteResult`, so the errors cannot be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store's response to a multi-delete is not a DeleteResult document")]
pub struct NotDeleteResult;

impl ErrorAppender {
    /// `errors` are the elements to append.
    pub fn new(errors: String) -> Self {
        Self { errors, state: State::Start, buffered: BytesMut::new() }
    }

    /// Adds a piece, and returns the bytes that can be forwarded.
    pub fn push(&mut self, piece: Bytes) -> Result<Bytes, NotDeleteResult> {
        if self.state == State::Done {
            return Ok(piece);
        }
        self.buffered.extend_from_slice(&piece);
        let mut out = BytesMut::new();
        if self.state == State::Start {
            self.scan_start(&mut out)?;
        }
        if self.state == State::Inside {
            self.scan_body(&mut out)?;
        }
        if self.state == State::Done {
            out.extend_from_slice(&self.buffered.split());
        }
        Ok(out.freeze())
    }

    /// Checks at the end of the document that the errors are appended.
    pub fn finish(&self) -> Result<(), NotDeleteResult> {
        if self.state == State::Done { Ok(()) } else { Err(NotDeleteResult) }
    }

    fn scan_start(&mut self, out: &mut BytesMut) -> Result<(), NotDeleteResult> {
        // A store may send white space while it deletes.
        let blank = self.buffered.len() - self.buffered.trim_ascii_start().len();
        out.extend_from_slice(&self.buffered.split_to(blank));
        let Some((name, tag_end)) = find_root(&self.buffered) else {
            return if self.buffered.len() > START_BYTES_MAX { Err(NotDeleteResult) } else { Ok(()) };
        };
        if tag_end > START_BYTES_MAX {
            return Err(NotDeleteResult);
        }
        match &self.buffered[name] {
            b"Error" => self.state = State::Done,
            ROOT if self.buffered[..tag_end].ends_with(b"/>") => {
                let tag = self.buffered.split_to(tag_end);
                out.extend_from_slice(&tag[..tag_end - 2]);
                out.extend_from_slice(format!(">{}</DeleteResult>", self.errors).as_bytes());
                self.state = State::Done;
            }
            ROOT => {
                out.extend_from_slice(&self.buffered.split_to(tag_end));
                self.state = State::Inside;
            }
            _ => return Err(NotDeleteResult),
        }
        Ok(())
    }

    fn scan_body(&mut self, out: &mut BytesMut) -> Result<(), NotDeleteResult> {
        let end = memmem::find(&self.buffered, END);
        // Text has no `<`, so the first `</DeleteResult` is the root's, except in a comment or CDATA section. S3 sends neither.
        if memmem::find(&self.buffered[..end.unwrap_or(self.buffered.len())], b"<!").is_some() {
            return Err(NotDeleteResult);
        }
        if let Some(at) = end {
            out.extend_from_slice(&self.buffered.split_to(at));
            out.extend_from_slice(self.errors.as_bytes());
            self.state = State::Done;
            return Ok(());
        }
        let is_partial_end = |kept: &usize| self.buffered.ends_with(&END[..*kept]);
        let kept = (1..END.len()).rev().find(is_partial_end).unwrap_or(0);
        out.extend_from_slice(&self.buffered.split_to(self.buffered.len() - kept));
        Ok(())
    }
}

/// The range of the root's name, and the end of its start tag. None if the tag is incomplete.
fn find_root(document: &[u8]) -> Option<(std::ops::Range<usize>, usize)> {
    let mut from = 0;
    loop {
        let start = from + memchr::memchr(b'<', &document[from..])?;
        let end = start + tag_length(&document[start..])?;
        if !matches!(document.get(start + 1), Some(b'?' | b'!')) {
            let is_name = |byte: &u8| byte.is_ascii_alphanumeric();
            let name = document[start + 1..end].iter().take_while(|byte| is_name(byte)).count();
            return Some((start + 1..start + 1 + name, end));
        }
        from = end;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ERRORS: &str = "<Error><Key>x</Key></Error>";

    fn append(document: &str, slice: usize) -> Result<String, NotDeleteResult> {
        let mut appender = ErrorAppender::new(ERRORS.to_owned());
        let mut out = Vec::new();
        for piece in document.as_bytes().chunks(slice) {
            out.extend_from_slice(&appender.push(Bytes::copy_from_slice(piece))?);
        }
        appender.finish()?;
        Ok(String::from_utf8(out).unwrap())
    }

    /// E5: the errors follow the store's elements, for every slicing and spelling of the document
    #[test]
    fn errors_are_appended_to_a_result() {
        let declared = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
        for (before, inner, after) in [
            ("<DeleteResult>", "<Deleted><Key>a</Key></Deleted>", "</DeleteResult>"),
            ("<DeleteResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">", "", "</DeleteResult >\n"),
            (
                "  <!-- x --><DeleteResult\n>",
                "<Deleted><Key>&lt;/DeleteResult&gt;</Key></Deleted>\n",
                "</DeleteResult>",
            ),
            ("<!-- > <Error> /> --><?p > <Error?><DeleteResult a='/>' b=\">\">", "", "</DeleteResult>"),
        ] {
            for slice in 1..60 {
                let merged = append(&format!("{declared}{before}{inner}{after}"), slice);
                assert_eq!(merged.unwrap(), format!("{declared}{before}{inner}{ERRORS}{after}"), "{slice}");
                let late = append(&format!("{}{before}{inner}{after}", " ".repeat(5000)), 100 * slice);
                assert!(late.unwrap().contains(ERRORS), "any amount of white space is allowed");
                let empty = append(&format!("{declared}<DeleteResult xmlns='x' />\n"), slice);
                assert_eq!(
                    empty.unwrap(),
                    format!("{declared}<DeleteResult xmlns='x' >{ERRORS}</DeleteResult>\n")
                );
            }
        }
    }

    /// E2, E5: an error of the whole request is forwarded, and other documents are rejected
    #[test]
    fn other_documents_are_rejected() {
        let error = "<?xml version=\"1.0\"?><Error><Code>InternalError</Code></Error>";
        let long = format!("<!--{}--><DeleteResult></DeleteResult>", "x".repeat(5000));
        for slice in [1, 7, 10_000] {
            assert_eq!(append(error, slice).unwrap(), error);
            for document in [
                "",
                "x",
                "<html></html>",
                "<DeleteResult>",
                "<DeleteResult><Deleted>",
                "<DeleteResults/>",
                "<DeleteResult><!-- </DeleteResult> --><Deleted/></DeleteResult>",
                "<DeleteResult><Key><![CDATA[</DeleteResult>]]></Key></DeleteResult>",
                &long,
            ] {
                assert_eq!(append(document, slice), Err(NotDeleteResult), "{document}");
            }
        }
    }

    /// E5
    #[test]
    fn an_error_has_the_clients_spelling_of_the_object() {
        let text = b"<Delete><Object><VersionId>3&amp;</VersionId><Key>a&#38;b</Key></Object></Delete>";
        let list = crate::delete_list::DeleteList::parse(text).unwrap();
        assert_eq!(
            document(&error_element(&list.objects[0])),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DeleteResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Error><Key>a&#38;b</Key><VersionId>3&amp;</VersionId><Code>AccessDenied</Code><Message>Access Denied</Message>\
             </Error></DeleteResult>"
        );
    }

    proptest! {
        /// E5: the output for any document does not depend on the slices
        #[test]
        fn slices_do_not_change_the_output(text in "[<>/ DeltRsuEro?!x]{0,80}", slice in 1_usize..20) {
            prop_assert_eq!(append(&text, slice), append(&text, text.len().max(1)));
        }
    }
}
