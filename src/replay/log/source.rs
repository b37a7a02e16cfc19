//! Reads the lines of one log: a file, plain or compressed by gzip, or stdin.
//!
//! A file is recognised by its first bytes, not by its name. A line has a maximum length, so a file without line ends needs no memory.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;
use memchr::memchr;
use thiserror::Error;

/// Bytes that are read at a time.
const BUFFER_BYTES: usize = 256 * 1024;
/// The longest line. An access line has at most a head of 64 KiB, each byte of which may be escaped.
pub(crate) const LINE_MAX: usize = 1024 * 1024;
/// Bytes of the beginning of a file in which a NUL byte shows that it is no text.
const TEXT_CHECK_BYTES: usize = 8 * 1024;
/// The first bytes of other compressed formats: name, bytes, and the program that decompresses it.
const COMPRESSED: [(&str, &[u8], &str); 4] = [
    ("zstd", &[0x28, 0xb5, 0x2f, 0xfd], "zstdcat"),
    ("xz", &[0xfd, b'7', b'z', b'X', b'Z'], "xzcat"),
    ("bzip2", b"BZh", "bzcat"),
    ("zip", &[b'P', b'K', 3, 4], "unzip -p"),
];

/// A log that cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The file cannot be opened.
    #[error("cannot open {}: {source}; give the path of a log of tidegate, or - for stdin", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// It is a directory.
    #[error("{} is a directory; give the files in it, such as {}/*.log", path.display(), path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
    },
    /// Too many files.
    #[error(
        "{count} logs were given, at most {max} are read at a time; concatenate some: cat A.log B.log | tidegate … -"
    )]
    TooMany {
        /// The number of logs.
        count: usize,
        /// The maximum.
        max: usize,
    },
    /// Stdin was given more than once.
    #[error("- (stdin) was given more than once")]
    StdinTwice,
}

/// Counts the bytes that are read, before they are decompressed.
struct CountingReader<R> {
    inner: R,
    bytes: Rc<Cell<u64>>,
}

impl<R: Read> Read for CountingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bytes.set(self.bytes.get() + count as u64);
        Ok(count)
    }
}

/// The next line of a log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NextLine<'a> {
    /// A line without its end.
    Line(&'a [u8]),
    /// A line longer than the maximum, which was skipped.
    TooLong,
    /// The end of the log.
    End,
}

/// The lines of one log.
pub(crate) struct LineReader {
    /// The name of the log in messages.
    pub(crate) name: String,
    reader: Box<dyn BufRead>,
    line: Vec<u8>,
    /// Why the log ended before its end.
    pub(crate) problem: Option<String>,
    is_ended: bool,
}

impl LineReader {
    /// Opens a log; `-` is stdin. Adds the bytes that it reads to `bytes`. Returns the size too, if it is known.
    pub(crate) fn open(path: &Path, bytes: &Rc<Cell<u64>>) -> Result<(Self, Option<u64>), OpenError> {
        if path.as_os_str() == "-" {
            return Ok((Self::new("stdin".to_owned(), io::stdin(), bytes), None));
        }
        let open_error = |source| OpenError::File { path: path.to_owned(), source };
        let file = File::open(path).map_err(open_error)?;
        let metadata = file.metadata().map_err(open_error)?;
        if metadata.is_dir() {
            return Err(OpenError::Directory { path: path.to_owned() });
        }
        let size = metadata.is_file().then_some(metadata.len());
        Ok((Self::new(path.display().to_string(), file, bytes), size))
    }

    fn new(name: String, input: impl Read + 'static, bytes: &Rc<Cell<u64>>) -> Self {
        let counting = CountingReader { inner: input, bytes: Rc::clone(bytes) };
        let mut raw = BufReader::with_capacity(BUFFER_BYTES, counting);
        // A failure to read is found again with the first line.
        let first = raw.fill_buf().unwrap_or_default();
        let problem = unreadable(first);
        let is_gzip = first.starts_with(&[0x1f, 0x8b]);
        let reader: Box<dyn BufRead> = match is_gzip {
            true => Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(raw))),
            false => Box::new(raw),
        };
        let mut this = Self { name, reader, line: Vec::new(), is_ended: problem.is_some(), problem };
        if is_gzip {
            this.check_unpacked();
        }
        this
    }

    /// Checks that a compressed file contains text.
    fn check_unpacked(&mut self) {
        if let Ok(first) = self.reader.fill_buf()
            && let Some(problem) = unreadable(first)
        {
            self.problem = Some(problem);
            self.is_ended = true;
        }
    }

    /// Reads the next line.
    pub(crate) fn next_line(&mut self) -> NextLine<'_> {
        if self.is_ended {
            return NextLine::End;
        }
        self.line.clear();
        let mut limited = self.reader.by_ref().take(LINE_MAX as u64 + 1);
        match limited.read_until(b'\n', &mut self.line) {
            Ok(0) => {
                self.is_ended = true;
                NextLine::End
            }
            Ok(_) if self.line.last() == Some(&b'\n') => {
                self.line.pop();
                NextLine::Line(&self.line)
            }
            Ok(_) if self.line.len() > LINE_MAX => {
                self.skip_line();
                NextLine::TooLong
            }
            // The last line has no end: it may be whole or cut.
            Ok(_) => NextLine::Line(&self.line),
            Err(error) => {
                self.fail(&error);
                NextLine::End
            }
        }
    }

    /// The line that was read last, if it was no end and not too long.
    pub(crate) fn line(&self) -> &[u8] {
        &self.line
    }

    /// Skips the rest of the line.
    fn skip_line(&mut self) {
        loop {
            let (used, is_over) = match self.reader.fill_buf() {
                Ok([]) => return,
                Ok(buffer) => match memchr(b'\n', buffer) {
                    Some(at) => (at + 1, true),
                    None => (buffer.len(), false),
                },
                Err(error) => return self.fail(&error),
            };
            self.reader.consume(used);
            if is_over {
                return;
            }
        }
    }

    fn fail(&mut self, error: &io::Error) {
        self.is_ended = true;
        self.problem = Some(match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                "the compressed data ends early; the lines up to there are used".to_owned()
            }
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                format!("the compressed data is damaged ({error}); the lines up to there are used")
            }
            _ => format!("cannot be read any further: {error}; the lines up to there are used"),
        });
    }
}

/// Why bytes at the beginning of a file show that it is no log.
fn unreadable(first: &[u8]) -> Option<String> {
    if let Some((name, _, program)) = COMPRESSED.iter().find(|(_, magic, _)| first.starts_with(magic)) {
        return Some(format!("is compressed with {name}; only gzip is read: {program} FILE | tidegate … -"));
    }
    let is_gzip = first.starts_with(&[0x1f, 0x8b]);
    let begin = &first[..first.len().min(TEXT_CHECK_BYTES)];
    (!is_gzip && memchr(0, begin).is_some())
        .then(|| "is a binary file; give a log of tidegate (log.format json or terminal)".to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn read(input: Vec<u8>) -> (Vec<String>, Option<String>) {
        let mut reader = LineReader::new("x".to_owned(), io::Cursor::new(input), &Rc::default());
        let mut lines = Vec::new();
        loop {
            match reader.next_line() {
                NextLine::Line(line) => lines.push(String::from_utf8_lossy(line).into_owned()),
                NextLine::TooLong => lines.push("too long".to_owned()),
                NextLine::End => return (lines, reader.problem),
            }
        }
    }

    /// Plain and compressed files have the same lines, also several compressed parts and a last line without an end.
    #[test]
    fn lines_are_read_from_plain_and_compressed_files() {
        let expected = (vec!["a".to_owned(), String::new(), "b".to_owned()], None);
        assert_eq!(read(b"a\n\nb".to_vec()), expected);
        assert_eq!(read(gzip(b"a\n\nb\n")), expected);
        assert_eq!(read([gzip(b"a\n"), gzip(b"\nb\n")].concat()), expected);
    }

    /// A compressed file that ends early gives its lines and a problem.
    #[test]
    fn a_cut_compressed_file_has_a_problem() {
        let text: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
        let whole = gzip(text.as_bytes());
        let (lines, problem) = read(whole[..whole.len() / 2].to_vec());
        assert!(lines.len() > 100 && lines.len() < 20_000, "{}", lines.len());
        assert!(problem.unwrap().contains("ends early"));
        let mut damaged = whole.clone();
        damaged[whole.len() / 2..].fill(0xff);
        assert!(read(damaged).1.is_some());
    }

    /// A line without an end needs no memory, and the next one is read.
    #[test]
    fn a_line_has_a_maximum() {
        let mut input = vec![b'x'; 3 * LINE_MAX];
        input.extend(b"\nnext\n");
        assert_eq!(read(input), (vec!["too long".to_owned(), "next".to_owned()], None));
    }

    /// Files of other kinds are named.
    #[test]
    fn other_files_are_recognised() {
        for (bytes, word) in [
            (b"\x7fELF\x02\0\0\0".to_vec(), "binary"),
            (b"\x28\xb5\x2f\xfdx".to_vec(), "zstdcat"),
            (b"BZh91AY".to_vec(), "bzip2"),
            (gzip(b"\0\0\0"), "binary"),
        ] {
            let (lines, problem) = read(bytes);
            assert!(
                lines.is_empty() && problem.as_ref().is_some_and(|problem| problem.contains(word)),
                "{problem:?}"
            );
        }
    }
}
