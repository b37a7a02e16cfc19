//! A TCP connection that ends a slow exchange.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tidegate_actors::clock;

/// How long a connection may take.
#[derive(Debug, Clone, Copy)]
pub(super) enum TimeLimit {
    /// Everything ends at a time.
    Deadline { at: Instant, whole: Duration },
    /// The longest time without a byte.
    Idle(Duration),
}

impl TimeLimit {
    /// A deadline after this time.
    pub(super) fn deadline(whole: Duration, now: Instant) -> Self {
        Self::Deadline { at: now + whole, whole }
    }

    /// The time that the next read or write may take, which is more than zero.
    pub(super) fn left(self, now: Instant) -> io::Result<Duration> {
        match self {
            Self::Idle(longest) => Ok(longest),
            Self::Deadline { at, .. } => {
                let left = at.saturating_duration_since(now);
                if left.is_zero() { Err(self.error()) } else { Ok(left) }
            }
        }
    }

    fn error(self) -> io::Error {
        let message = match self {
            Self::Deadline { whole, .. } => format!("no complete response within {} s", whole.as_secs_f64()),
            Self::Idle(longest) => format!("no event and no heartbeat for {} s", longest.as_secs_f64()),
        };
        io::Error::new(ErrorKind::TimedOut, message)
    }

    /// The error of an operation: a timeout of the socket is that of the limit.
    fn named<T>(self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => self.error(),
            _ => error,
        })
    }
}

/// A connection with a limit of its time.
#[derive(Debug)]
pub(super) struct TimedStream {
    pub(super) stream: TcpStream,
    pub(super) limit: TimeLimit,
}

impl Read for TimedStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.limit.left(clock::now())?))?;
        self.limit.named(self.stream.read(into))
    }
}

impl Write for TimedStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.limit.left(clock::now())?))?;
        self.limit.named(self.stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// X7: a deadline ends, however often a byte comes; an idle limit begins anew with each byte
    #[test]
    fn only_a_deadline_ends_in_spite_of_bytes() {
        let (start, ms) = (clock::now(), Duration::from_millis);
        let deadline = TimeLimit::deadline(ms(100), start);
        assert_eq!(deadline.left(start + ms(60)).unwrap(), ms(40));
        let ended = deadline.left(start + ms(100)).unwrap_err();
        assert_eq!(ended.to_string(), "no complete response within 0.1 s");
        assert_eq!(TimeLimit::Idle(ms(100)).left(start + ms(500)).unwrap(), ms(100));
    }

    /// X7: an end that sends nothing is an error with the limit
    #[test]
    fn a_silent_end_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for (limit, message) in [
            (
                TimeLimit::deadline(Duration::from_millis(50), clock::now()),
                "no complete response within 0.05 s",
            ),
            (TimeLimit::Idle(Duration::from_millis(50)), "no event and no heartbeat for 0.05 s"),
        ] {
            let mut stream = TimedStream { stream: TcpStream::connect(address).unwrap(), limit };
            let error = stream.read(&mut [0; 8]).unwrap_err();
            assert_eq!((error.kind(), error.to_string()), (ErrorKind::TimedOut, message.to_owned()));
        }
    }
}
