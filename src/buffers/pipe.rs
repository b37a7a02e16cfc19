//! Large bodies pass through a pipe of the worker thread, so that they are not copied into the process and out again (splice(2)).
//!
//! Bytes are in the pipe within one poll only: the connection sends them at once, and what its client does not accept is read into
//! memory like any other piece. So each thread needs one pipe, and no slow client can hold it. If a pipe cannot be opened, or the kernel
//! gives it too little room (`/proc/sys/fs/pipe-user-pages-soft`), bodies are copied, and a later body tries again.
//!
//! Design: `docs/design/buffers.md`.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice};
use tidegate_actors::clock;

/// The most bytes that pass at once, and the size of the pipe in slots of a page.
pub(super) const PIPE_BYTES: usize = 256 << 10;
/// A smaller pipe would cost more system calls than it saves in copies. The default of the system is larger.
const PIPE_BYTES_MIN: usize = 64 << 10;
/// The time after which a thread tries again to open a pipe.
const RETRY_AFTER: Duration = Duration::from_secs(1);

thread_local! {
    static KEPT: RefCell<KeptPipe> = const { RefCell::new(KeptPipe { pipe: None, retry_at: None }) };
}

/// The pipe of a thread while it is not in use.
struct KeptPipe {
    pipe: Option<Pipe>,
    /// Set after a pipe could not be used.
    retry_at: Option<Instant>,
}

/// An empty pipe.
#[derive(Debug)]
struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

/// A pipe with bytes of a body.
#[derive(Debug)]
pub(crate) struct PipedBytes {
    /// None once it was returned to the thread.
    pipe: Option<Pipe>,
    bytes: usize,
}

/// Passes bytes in a pipe from the body of a response to the connection that polls it. The body returns an empty piece with them.
#[derive(Default)]
pub(crate) struct PipeHandover {
    is_accepted: Cell<bool>,
    piped: Cell<Option<PipedBytes>>,
}

impl PipeHandover {
    /// Sets whether the connection takes bytes in a pipe from the next poll of its body.
    pub(crate) fn accept(&self, is_accepted: bool) {
        self.is_accepted.set(is_accepted);
    }

    /// Whether the body may return bytes in a pipe.
    pub(crate) fn is_accepted(&self) -> bool {
        self.is_accepted.get()
    }

    /// Passes bytes on, in their order in the body.
    pub(crate) fn put(&self, piped: PipedBytes) {
        self.piped.set(Some(piped));
    }

    /// The bytes of the last poll.
    pub(crate) fn take(&self) -> Option<PipedBytes> {
        self.piped.take()
    }
}

impl Pipe {
    /// Opens a pipe that is large enough.
    fn open() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Without the privilege for it the pipe keeps the default size.
        let _ = fcntl_setpipe_size(&writer, PIPE_BYTES);
        if fcntl_getpipe_size(&writer)? < PIPE_BYTES_MIN {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        Ok(Self { reader, writer })
    }
}

impl PipedBytes {
    /// The pipe of the thread, empty. None if there is none: then the body must be copied.
    pub(crate) fn empty() -> Option<Self> {
        let pipe = KEPT.with_borrow_mut(|kept| {
            if let Some(pipe) = kept.pipe.take() {
                return Some(pipe);
            }
            if kept.retry_at.is_some_and(|retry_at| clock::now() < retry_at) {
                return None;
            }
            let opened = Pipe::open().ok();
            kept.retry_at = opened.is_none().then(|| clock::now() + RETRY_AFTER);
            opened
        });
        Some(Self { pipe: Some(pipe?), bytes: 0 })
    }

    /// The number of bytes in the pipe.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Moves bytes that have arrived at a socket into the empty pipe, at most `max`. 0 at the end of the stream.
    pub(crate) fn receive(&mut self, source: impl AsFd, max: u64) -> io::Result<usize> {
        let Some(pipe) = self.pipe.as_ref().filter(|_| self.bytes == 0) else { return Err(broken()) };
        let max = usize::try_from(max).unwrap_or(usize::MAX).min(PIPE_BYTES);
        let received =
            splice(source, None, &pipe.writer, None, max, SpliceFlags::MOVE | SpliceFlags::NONBLOCK);
        self.bytes = received?;
        Ok(self.bytes)
    }

    /// Moves bytes from the pipe to a socket, as many as it accepts.
    pub(crate) fn send(&mut self, sink: impl AsFd) -> io::Result<usize> {
        let Some(pipe) = &self.pipe else { return Err(broken()) };
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let sent = splice(&pipe.reader, None, sink, None, self.bytes, flags)?;
        self.bytes = self.bytes.saturating_sub(sent);
        Ok(sent)
    }

    /// Reads the bytes into memory.
    pub(crate) fn into_memory(mut self) -> io::Result<Bytes> {
        let mut memory = Vec::with_capacity(self.bytes);
        while self.bytes > 0 {
            let Some(pipe) = &self.pipe else { return Err(broken()) };
            match rustix::io::read(&pipe.reader, spare_capacity(&mut memory)) {
                Ok(0) => return Err(broken()),
                Ok(read) => self.bytes = self.bytes.saturating_sub(read),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(memory.into())
    }
}

/// A pipe with bytes is closed with them. An empty one is used again.
impl Drop for PipedBytes {
    fn drop(&mut self) {
        if let Some(pipe) = self.pipe.take().filter(|_| self.bytes == 0) {
            // The thread may be ending.
            let _ = KEPT.try_with(|kept| {
                if let Ok(mut kept) = kept.try_borrow_mut() {
                    kept.pipe.get_or_insert(pipe);
                }
            });
        }
    }
}

/// Whether the kernel cannot move bytes between these descriptors. No byte was moved.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    let unsupported = [Errno::INVAL, Errno::NOSYS, Errno::PERM, Errno::OPNOTSUPP];
    error.raw_os_error().is_some_and(|code| unsupported.iter().any(|errno| errno.raw_os_error() == code))
}

fn broken() -> io::Error {
    io::Error::other("the pipe of a body is not in the expected state")
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Bytes in the kept pipe as the kernel counts them; none without a kept pipe.
    fn bytes_in_kept() -> Option<u64> {
        KEPT.with_borrow(|kept| {
            kept.pipe.as_ref().map(|pipe| rustix::io::ioctl_fionread(&pipe.reader).unwrap())
        })
    }

    /// X9: a pipe is empty whenever it is kept, so that `WouldBlock` means an empty socket; one with bytes is closed
    #[test]
    fn a_kept_pipe_is_empty() {
        let (mut upstream, source) = UnixStream::pair().unwrap();
        let (sink, mut client) = UnixStream::pair().unwrap();
        for socket in [&source, &sink] {
            socket.set_nonblocking(true).unwrap();
        }
        let body: Vec<u8> = (0..100_000_u32).map(|at| at.to_le_bytes()[1]).collect();
        for sent in [0, 1, 50_000] {
            upstream.write_all(&body).unwrap();
            let mut received = Vec::new();
            while received.len() < body.len() {
                let mut piped = PipedBytes::empty().unwrap();
                let bytes = piped.receive(&source, 70_000).unwrap();
                let from = received.len();
                if sent > 0 {
                    let accepted = piped.send(&sink).unwrap();
                    received.resize(from + accepted, 0);
                    client.read_exact(&mut received[from..]).unwrap();
                }
                received.extend(piped.into_memory().unwrap());
                assert_eq!(received.len(), from + bytes);
                assert_eq!(bytes_in_kept(), Some(0));
            }
            assert_eq!(received, body);
            let mut piped = PipedBytes::empty().unwrap();
            assert_eq!(piped.receive(&source, 1).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            drop(piped);
            assert_eq!(bytes_in_kept(), Some(0));
        }
        upstream.write_all(b"left").unwrap();
        let mut piped = PipedBytes::empty().unwrap();
        assert_eq!(piped.receive(&source, 100).unwrap(), 4);
        assert!(piped.receive(&source, 100).is_err(), "only an empty pipe receives");
        drop(piped);
        assert_eq!(bytes_in_kept(), None, "its bytes belong to no other answer");
    }
}
