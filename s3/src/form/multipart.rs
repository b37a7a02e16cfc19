//! Incremental parser of `multipart/form-data` (RFC 7578). The input may be split at any byte.
//!
//! The parser is strict: a form starts with its boundary, lines end with CR LF, and a part has one name. A form that two parsers could read
//! differently is rejected.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;

use crate::form::FormRejection;

/// The maximum number of bytes before the file's data; S3's limit.
const FIELD_BYTES_MAX: u64 = 20 << 10;
const LINE_END: &[u8] = b"\r\n";
const BOUNDARY_CHARS_MAX: usize = 70;

/// The delimiter between two parts: a line end, two dashes and the boundary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delimiter(Vec<u8>);

impl Delimiter {
    /// Reads a `Content-Type`; none if it is not that of a form with a valid boundary.
    pub fn from_content_type(content_type: &str) -> Option<Self> {
        let (kind, parameters) = content_type.split_once(';')?;
        if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
            return None;
        }
        let mut named = parameters.split(';').filter_map(|parameter| {
            let (name, value) = parameter.trim().split_once('=')?;
            name.eq_ignore_ascii_case("boundary").then_some(value)
        });
        let value = named.next().filter(|_| named.next().is_none())?;
        let boundary =
            value.strip_prefix('"').map_or(Some(value), |value| value.strip_suffix('"'))?.as_bytes();
        let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        let is_boundary = (1..=BOUNDARY_CHARS_MAX).contains(&boundary.len()) && boundary.iter().all(is_plain);
        is_boundary.then(|| Self([b"\r\n--", boundary].concat()))
    }

    fn closing(&self) -> Vec<u8> {
        [&self.0, b"--".as_slice(), LINE_END].concat()
    }
}

/// The fields before the file, and the start of the file.
#[derive(Debug)]
pub struct FilePart {
    /// The fields in order, with the names as they were sent.
    pub fields: Vec<(String, String)>,
    /// The client's name of the file; empty if it sends none.
    pub file_name: String,
    /// The offset of the file's data in the form.
    pub offset: u64,
    /// The data of the file that was read already.
    pub first_bytes: Bytes,
}

/// Reads a form up to its file.
pub struct FieldReader {
    delimiter: Delimiter,
    buffer: BytesMut,
    /// The number of bytes of the form before the buffer.
    consumed: u64,
    fields: Vec<(String, String)>,
}

impl FieldReader {
    /// A reader of a form with this delimiter.
    pub fn new(delimiter: Delimiter) -> Self {
        // A line end before the form makes the first delimiter equal to all others.
        Self { delimiter, buffer: BytesMut::from(LINE_END), consumed: 0, fields: Vec::new() }
    }

    /// Adds bytes of the form. Returns the file part when the file's data starts.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<FilePart>, FormRejection> {
        self.buffer.extend_from_slice(bytes);
        while let Some((part, head)) = self.parse_part()? {
            if part.name.eq_ignore_ascii_case("file") {
                self.advance(head);
                if self.consumed > FIELD_BYTES_MAX {
                    return Err(FormRejection::FieldsTooLarge);
                }
                return Ok(Some(FilePart {
                    fields: std::mem::take(&mut self.fields),
                    file_name: part.file_name,
                    offset: self.consumed - LINE_END.len() as u64,
                    first_bytes: self.buffer.split().freeze(),
                }));
            }
            let Some(length) = memmem::find(&self.buffer[head..], &self.delimiter.0) else { break };
            let value = std::str::from_utf8(&self.buffer[head..head + length]);
            let value = value.map_err(|_| FormRejection::Malformed("a field is not UTF-8"))?.to_owned();
            self.fields.push((part.name, value));
            self.advance(head + length);
        }
        if self.consumed + self.buffer.len() as u64 > FIELD_BYTES_MAX {
            return Err(FormRejection::FieldsTooLarge);
        }
        Ok(None)
    }

    fn advance(&mut self, bytes: usize) {
        self.buffer.advance(bytes);
        self.consumed += bytes as u64;
    }

    /// The part at the start of the buffer, and the index of its data.
    fn parse_part(&self) -> Result<Option<(Part, usize)>, FormRejection> {
        let delimiter = &self.delimiter.0;
        let known = self.buffer.len().min(delimiter.len());
        if self.buffer[..known] != delimiter[..known] {
            return Err(FormRejection::Malformed("it does not start with its boundary"));
        }
        let rest = &self.buffer[known..];
        match rest {
            [] | [_] => return Ok(None),
            [b'-', b'-', ..] => return Err(FormRejection::NoFile),
            [b'\r', b'\n', ..] => {}
            _ => return Err(FormRejection::Malformed("a boundary is not followed by a line end")),
        }
        let Some(length) = memmem::find(rest, b"\r\n\r\n") else { return Ok(None) };
        let head = std::str::from_utf8(&rest[2.min(length)..length]);
        let part = head.ok().and_then(Part::parse).ok_or(FormRejection::Malformed("a part has no name"))?;
        Ok(Some((part, known + length + 4)))
    }
}

struct Part {
    name: String,
    file_name: String,
}

impl Part {
    /// Reads a part's headers. Only `Content-Disposition` is used.
    fn parse(head: &str) -> Option<Self> {
        let mut dispositions = head.split("\r\n").filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-disposition").then_some(value.trim())
        });
        let disposition = dispositions.next().filter(|_| dispositions.next().is_none())?;
        let (kind, mut rest) = disposition.split_once(';')?;
        let (mut name, mut file_name) = (None, None);
        while !rest.trim().is_empty() {
            let (parameter, after) = rest.split_once('=')?;
            let (value, after) = parse_parameter_value(after)?;
            let slot = match parameter.trim().to_ascii_lowercase().as_str() {
                "name" => Some(&mut name),
                "filename" => Some(&mut file_name),
                _ => None,
            };
            if slot.is_some_and(|slot| slot.replace(value).is_some()) {
                return None;
            }
            rest = after;
        }
        let file_name = file_name.unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("form-data").then_some(Self { name: name?, file_name })
    }
}

/// A parameter's value, and the text after its semicolon. Browsers do not escape backslashes, so a backslash is an escape only before a
/// quote.
fn parse_parameter_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.trim_start().strip_prefix('"') else {
        let (value, after) = text.split_once(';').unwrap_or((text, ""));
        return Some((value.trim().to_owned(), after));
    };
    let end = quoted.match_indices('"').map(|(at, _)| at).find(|at| !quoted[..*at].ends_with('\\'))?;
    let after = quoted[end + 1..].trim_start();
    let after = if after.is_empty() { after } else { after.strip_prefix(';')? };
    Some((quoted[..end].replace("\\\"", "\""), after))
}

/// The data of a small file. `rest` is the form from the file's first byte to its end.
pub fn extract_file(mut rest: Bytes, delimiter: &Delimiter) -> Result<Bytes, FormRejection> {
    let end =
        memmem::find(&rest, &delimiter.0).ok_or(FormRejection::Malformed("no boundary follows its file"))?;
    let after = &rest[end + delimiter.0.len()..];
    if !after.starts_with(b"--") && memmem::find(after, &[&delimiter.0, b"--".as_slice()].concat()).is_none()
    {
        return Err(FormRejection::Malformed("it does not end with its boundary"));
    }
    rest.truncate(end);
    Ok(rest)
}

/// Decodes the data of a streamed file, and checks the closing line after it.
#[derive(Debug)]
pub struct FileDecoder {
    delimiter: Delimiter,
    /// The bytes of the file that have not arrived.
    remaining: u64,
    /// The last bytes of data, in which a delimiter may have started.
    carry: Vec<u8>,
    /// The bytes of the closing line that have not arrived.
    closing: Bytes,
}

impl FileDecoder {
    /// `bytes` is the length of the form from the file's first byte.
    pub fn new(delimiter: Delimiter, bytes: u64) -> Result<Self, FormRejection> {
        let closing = Bytes::from(delimiter.closing());
        let short = FormRejection::Malformed("it does not end with its boundary");
        let remaining = bytes.checked_sub(closing.len() as u64).ok_or(short)?;
        Ok(Self { delimiter, remaining, carry: Vec::new(), closing })
    }

    /// The bytes of the file that have not arrived.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Takes bytes of the form from `input`, and returns the data of the file among them.
    pub fn decode(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, &'static str> {
        let piece = input.split_to(usize::try_from(self.remaining).unwrap_or(usize::MAX).min(input.len()));
        self.remaining -= piece.len() as u64;
        if self.has_delimiter(&piece) {
            return Err("a part follows its file, and a file of more than 64 KiB must be the last part");
        }
        if self.remaining == 0 {
            let known = input.len().min(self.closing.len());
            if input.len() > known || input[..] != self.closing[..known] {
                return Err(
                    "after a file of more than 64 KiB only the closing boundary and a line end may follow",
                );
            }
            self.closing.advance(known);
            input.clear();
        }
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }

    fn has_delimiter(&mut self, piece: &[u8]) -> bool {
        let overlap = self.delimiter.0.len() - 1;
        let mut border = std::mem::take(&mut self.carry);
        border.extend_from_slice(&piece[..piece.len().min(overlap)]);
        let found = memmem::find(&border, &self.delimiter.0).is_some()
            || memmem::find(piece, &self.delimiter.0).is_some();
        self.carry = if piece.len() >= overlap { piece[piece.len() - overlap..].to_vec() } else { border };
        self.carry.drain(..self.carry.len().saturating_sub(overlap));
        found
    }

    /// Checks at the end of the form that it is complete.
    pub fn finish(self) -> Result<(), &'static str> {
        if self.remaining == 0 && self.closing.is_empty() {
            Ok(())
        } else {
            Err("it ends before its closing line")
        }
    }
}

#[cfg(test)]
#[path = "multipart_tests.rs"]
mod tests;
