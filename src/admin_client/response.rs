//! A response of the admin listener: its head, and its body in pieces (RFC 9112).

use std::io::{self, BufRead, BufReader, Read};
use std::time::Duration;

use super::Transport;
use super::timed_stream::TimeLimit;

const HEAD_BYTES_MAX: u64 = 64 << 10;
/// The longest line between chunks.
const LINE_BYTES_MAX: u64 = 1 << 10;
/// The longest piece of a body that is kept in memory.
const PIECE_BYTES_MAX: usize = 16 << 20;

/// How the end of the body is found.
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// A response.
pub(crate) struct Response {
    pub(crate) status: u16,
    framing: Framing,
    from: BufReader<Box<dyn Transport>>,
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl Response {
    /// Reads the head.
    pub(super) fn read(mut from: BufReader<Box<dyn Transport>>) -> io::Result<Self> {
        let mut head = (&mut from).take(HEAD_BYTES_MAX);
        let first = line(&mut head)?;
        let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| malformed("the response is not HTTP/1.1"))?;
        let mut framing = Framing::UntilClose;
        loop {
            let field = line(&mut head)?;
            if field.is_empty() {
                return Ok(Self { status, framing, from });
            }
            let (name, value) = field.split_once(':').ok_or_else(|| malformed("a header has no colon"))?;
            let value = value.trim();
            if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
                framing = Framing::Chunked;
            } else if name.eq_ignore_ascii_case("content-length") {
                let length = value.parse().map_err(|_| malformed("the content-length is not a number"))?;
                framing = Framing::Length(length);
            }
        }
    }

    /// Reads the body without a deadline, until no byte comes for this time.
    pub(crate) fn without_deadline(mut self, idle_max: Duration) -> Self {
        self.from.get_mut().set_limit(TimeLimit::Idle(idle_max));
        self
    }

    /// The next piece of the body; none at its end.
    pub(crate) fn next_piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        let length = match &mut self.framing {
            Framing::Length(left) => std::mem::take(left),
            Framing::Chunked => {
                let size = line(&mut (&mut self.from).take(LINE_BYTES_MAX))?;
                let size = size.split(';').next().unwrap_or_default().trim();
                usize::from_str_radix(size, 16)
                    .map_err(|_| malformed("the size of a chunk is not a number"))?
            }
            Framing::UntilClose => {
                self.framing = Framing::Length(0);
                let mut rest = Vec::new();
                (&mut self.from).take(PIECE_BYTES_MAX as u64).read_to_end(&mut rest)?;
                return Ok(Some(rest));
            }
        };
        if length > PIECE_BYTES_MAX {
            return Err(malformed("the body is too long"));
        }
        if length == 0 {
            return Ok(None);
        }
        let mut piece = vec![0; length];
        self.from.read_exact(&mut piece)?;
        if matches!(self.framing, Framing::Chunked) {
            line(&mut (&mut self.from).take(LINE_BYTES_MAX))?;
        }
        Ok(Some(piece))
    }

    /// The whole body.
    pub(crate) fn body(mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(piece) = self.next_piece()? {
            body.extend(piece);
            if body.len() > PIECE_BYTES_MAX {
                return Err(malformed("the body is too long"));
            }
        }
        Ok(body)
    }
}

/// A line without its end.
fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    match line.strip_suffix('\n') {
        Some(text) => Ok(text.trim_end_matches('\r').to_owned()),
        None => Err(malformed("the response ends within a line, or a line is too long")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use super::*;

    /// A server that sends these bytes and accepts all.
    struct Bytes(Cursor<Vec<u8>>);

    impl Read for Bytes {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0.read(into)
        }
    }

    impl Write for Bytes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Transport for Bytes {
        fn set_limit(&mut self, _: TimeLimit) {}
    }

    fn read(bytes: &str) -> io::Result<(u16, String)> {
        let transport: Box<dyn Transport> = Box::new(Bytes(Cursor::new(bytes.as_bytes().to_vec())));
        let response = Response::read(BufReader::new(transport))?;
        let status = response.status;
        Ok((status, String::from_utf8_lossy(&response.body()?).into_owned()))
    }

    /// X7: the three framings are read
    #[test]
    fn bodies_are_read() {
        for body in [
            "Content-Length: 3\r\n\r\nabcdef",
            "transfer-encoding: chunked\r\n\r\n1\r\na\r\n2;x=y\r\nbc\r\n0\r\n\r\n",
            "connection: close\r\n\r\nabc",
        ] {
            assert_eq!(
                read(&format!("HTTP/1.1 200 OK\r\n{body}")).unwrap(),
                (200, "abc".to_owned()),
                "{body}"
            );
        }
        assert_eq!(read("HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n").unwrap(), (503, String::new()));
    }

    /// X7: another program at the port is an error, never a panic and never endless memory
    #[test]
    fn malformed_responses_are_errors() {
        for bytes in [
            "",
            "SSH-2.0-OpenSSH\r\n",
            "HTTP/1.1 abc\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7fffffff\r\n",
        ] {
            assert!(read(bytes).is_err(), "{bytes}");
        }
        assert!(read(&format!("HTTP/1.1 200 OK\r\n{}", "a: b\r\n".repeat(20_000))).is_err());
    }
}
