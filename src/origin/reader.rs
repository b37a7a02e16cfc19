//! Streams the bytes of an object as the body of a response.
//!
//! Reads run on the runtime's blocking threads. A reader keeps its object, so an object that is replaced or deleted during a read is still
//! read to its end.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use s3s::dto::StreamingBlob;
use s3s::{Body, S3Error, S3Result};
use tokio::task::spawn_blocking;

use super::blocking;
use super::data::DataFile;
use super::record::Object;

/// Approximate memory of a download.
const READ_BYTES: u64 = 256 << 10;

/// Reads a range of an object from its data files.
pub(super) struct ObjectReader {
    pieces: VecDeque<FileRange>,
    file: Option<File>,
}

/// The unread range of a data file.
struct FileRange {
    data: Arc<DataFile>,
    rest: Range<u64>,
}

impl ObjectReader {
    pub(super) fn new(object: &Object, range: &Range<u64>) -> Self {
        let mut start = 0;
        let mut pieces = VecDeque::new();
        for segment in &object.segments {
            let within = |at: u64| at.saturating_sub(start).min(segment.bytes);
            let rest = within(range.start)..within(range.end);
            start += segment.bytes;
            if !rest.is_empty() {
                pieces.push_back(FileRange { data: Arc::clone(&segment.data), rest });
            }
        }
        Self { pieces, file: None }
    }

    fn remaining_bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.rest.end - piece.rest.start).sum()
    }

    /// The next bytes, at most `bytes_max`; none at the end.
    fn next_bytes(&mut self, bytes_max: u64) -> io::Result<Option<Bytes>> {
        let Some(piece) = self.pieces.front() else {
            return Ok(None);
        };
        let bytes = bytes_max.min(piece.rest.end - piece.rest.start);
        let mut buffer = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
        self.read_exact(&mut buffer)?;
        Ok(Some(buffer.into()))
    }

    fn read_all(mut self) -> S3Result<Bytes> {
        let mut whole = Vec::with_capacity(usize::try_from(self.remaining_bytes()).unwrap_or_default());
        self.read_to_end(&mut whole).map_err(S3Error::internal_error)?;
        Ok(whole.into())
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(piece) = self.pieces.front_mut() else {
            return Ok(0);
        };
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(piece.data.open()?),
        };
        let rest = usize::try_from(piece.rest.end - piece.rest.start).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(rest);
        let bytes = file.read_at(&mut buffer[..wanted], piece.rest.start)?;
        if bytes == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        piece.rest.start += bytes as u64;
        if piece.rest.is_empty() {
            self.pieces.pop_front();
            self.file = None;
        }
        Ok(bytes)
    }
}

/// A range of an object as a body. A small range is read at once.
pub(super) async fn body(object: &Object, range: &Range<u64>) -> S3Result<StreamingBlob> {
    let reader = ObjectReader::new(object, range);
    match reader.remaining_bytes() {
        0 => Ok(Body::empty().into()),
        1..=READ_BYTES => blocking(move || reader.read_all()).await.map(|whole| Body::from(whole).into()),
        _ => Ok(StreamingBlob::wrap(stream::try_unfold(reader, next_piece))),
    }
}

async fn next_piece(mut reader: ObjectReader) -> io::Result<Option<(Bytes, ObjectReader)>> {
    let read = move || reader.next_bytes(READ_BYTES).map(|bytes| Some((bytes?, reader)));
    spawn_blocking(read).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::origin::record::Segment;
    use crate::origin::test_objects::object_info;
    use crate::scratch::Scratch;

    /// I2: every range of an object with several segments has the right bytes
    #[test]
    fn ranges_span_segments() {
        let scratch = Scratch::new();
        let segments = ["abc", "d", "efgh"].map(|text| {
            let (data, mut file) = DataFile::create(scratch.path()).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            Segment { data: Arc::new(data), bytes: text.len() as u64 }
        });
        let object = Object { info: object_info("x"), segments: segments.into() };
        let whole = b"abcdefgh";
        for start in 0..=whole.len() {
            for end in start..=whole.len() {
                let reader = ObjectReader::new(&object, &(start as u64..end as u64));
                assert_eq!(reader.remaining_bytes(), (end - start) as u64);
                assert_eq!(reader.read_all().unwrap(), whole[start..end]);
            }
        }
    }

    /// T6: a data file that is shorter than its record is an error, never a short body
    #[test]
    fn missing_bytes_are_an_error() {
        let scratch = Scratch::new();
        let (data, _file) = DataFile::create(scratch.path()).unwrap();
        let segments = vec![Segment { data: Arc::new(data), bytes: 3 }];
        let object = Object { info: object_info("x"), segments };
        assert!(ObjectReader::new(&object, &(0..3)).read_all().is_err());
    }
}
