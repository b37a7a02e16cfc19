//! The channel between a predecessor and its successor: frames over a Unix socket, with file descriptors (`SCM_RIGHTS`, unix(7)).
//!
//! A frame is a length of 4 bytes and a message in JSON. Descriptors travel with the first byte of a frame. A frame is read to its end
//! and no further, so the next one and its descriptors stay in the socket. Received descriptors are closed by execve(2).

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::io::Interest;
use tokio::net::UnixStream;
use zeroize::Zeroizing;

const LENGTH_BYTES: usize = 4;
/// The most descriptors of one frame.
const DESCRIPTORS_MAX: usize = 4;

/// Why nothing was received.
#[derive(Debug, Error)]
pub(crate) enum ReceiveError {
    /// The other end has closed the channel.
    #[error("the other process has ended")]
    Ended,
    /// The bytes are no frame, or the frame has no such message.
    #[error("it sent what is no message of an upgrade")]
    NoMessage,
    /// A frame has more descriptors than the protocol sends.
    #[error("it sent more than {DESCRIPTORS_MAX} descriptors with one message")]
    TooManyDescriptors,
    /// The socket failed.
    #[error("{0}")]
    Io(io::Error),
}

/// The kind of the error of a frame with too many descriptors. No call of a socket has it.
const TOO_MANY_DESCRIPTORS: ErrorKind = ErrorKind::QuotaExceeded;

impl From<io::Error> for ReceiveError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Self::Ended,
            ErrorKind::InvalidData => Self::NoMessage,
            TOO_MANY_DESCRIPTORS => Self::TooManyDescriptors,
            _ => Self::Io(error),
        }
    }
}

/// A message with its descriptors.
#[derive(Debug)]
pub(crate) struct Received<T> {
    pub(crate) message: T,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// One end of the channel in a runtime.
#[derive(Debug)]
pub(crate) struct Channel {
    stream: UnixStream,
}

impl Channel {
    /// Must be called inside a runtime.
    ///
    /// # Errors The socket cannot be watched.
    pub(crate) fn new(stream: StdUnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream: UnixStream::from_std(stream)? })
    }

    /// Sends a message. A call that is dropped may have sent a part, so the channel must be dropped then too.
    pub(crate) async fn send(
        &self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let mut frame = OutgoingFrame::new(message)?;
        self.stream.async_io(Interest::WRITABLE, || frame.write_to(self.stream.as_fd(), descriptors)).await
    }

    /// Receives a message of at most this length. A call that is dropped may have received a part, so the channel must be dropped then
    /// too.
    pub(crate) async fn receive<T: DeserializeOwned>(
        &self,
        bytes_max: usize,
    ) -> Result<Received<T>, ReceiveError> {
        let mut frame = IncomingFrame::new(bytes_max);
        self.stream.async_io(Interest::READABLE, || frame.read_from(self.stream.as_fd())).await?;
        frame.into_received()
    }
}

/// Sends a message on a socket outside of a runtime.
pub(super) fn send_blocking(socket: &StdUnixStream, message: &impl Serialize) -> io::Result<()> {
    OutgoingFrame::new(message)?.write_to(socket.as_fd(), &[])
}

/// Receives a message on a socket outside of a runtime.
pub(super) fn receive_blocking<T: DeserializeOwned>(
    socket: &StdUnixStream,
    bytes_max: usize,
) -> Result<Received<T>, ReceiveError> {
    let mut frame = IncomingFrame::new(bytes_max);
    frame.read_from(socket.as_fd())?;
    frame.into_received()
}

/// A frame on its way out. It may hold secrets.
struct OutgoingFrame {
    bytes: Zeroizing<Vec<u8>>,
    sent: usize,
}

impl OutgoingFrame {
    fn new(message: &impl Serialize) -> io::Result<Self> {
        let mut bytes = Zeroizing::new(vec![0; LENGTH_BYTES]);
        serde_json::to_writer(&mut *bytes, message)?;
        let length = u32::try_from(bytes.len() - LENGTH_BYTES)
            .map_err(|_| io::Error::other("the message is too long"))?;
        bytes[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        Ok(Self { bytes, sent: 0 })
    }

    /// Writes the rest of the frame.
    fn write_to(&mut self, socket: BorrowedFd<'_>, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        while self.sent < self.bytes.len() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if self.sent == 0
                && !descriptors.is_empty()
                && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors))
            {
                return Err(io::Error::other("too many descriptors"));
            }
            let rest = [IoSlice::new(&self.bytes[self.sent..])];
            match sendmsg(socket, &rest, &mut ancillary, SendFlags::NOSIGNAL) {
                Ok(sent) => self.sent += sent,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// A frame on its way in. It may hold secrets.
struct IncomingFrame {
    bytes: Zeroizing<Vec<u8>>,
    received: usize,
    has_length: bool,
    bytes_max: usize,
    descriptors: Vec<OwnedFd>,
}

impl IncomingFrame {
    fn new(bytes_max: usize) -> Self {
        let bytes = Zeroizing::new(vec![0; LENGTH_BYTES]);
        Self { bytes, received: 0, has_length: false, bytes_max, descriptors: Vec::new() }
    }

    /// Reads the rest of the frame.
    fn read_from(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        loop {
            while self.received < self.bytes.len() {
                self.read_some(socket)?;
            }
            if self.has_length {
                return Ok(());
            }
            let mut length = [0; LENGTH_BYTES];
            length.copy_from_slice(&self.bytes);
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            if length > self.bytes_max {
                return Err(ErrorKind::InvalidData.into());
            }
            (self.bytes, self.received, self.has_length) = (Zeroizing::new(vec![0; length]), 0, true);
        }
    }

    fn read_some(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = {
            let mut rest = [IoSliceMut::new(&mut self.bytes[self.received..])];
            recvmsg(socket, &mut rest, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        // The kernel closes those that have no space.
        let is_cut = received.as_ref().is_ok_and(|received| received.flags.contains(ReturnFlags::CTRUNC));
        if is_cut || self.descriptors.len() > DESCRIPTORS_MAX {
            self.descriptors.clear();
            return Err(TOO_MANY_DESCRIPTORS.into());
        }
        match received {
            Ok(received) if received.bytes == 0 => Err(ErrorKind::UnexpectedEof.into()),
            Ok(received) => {
                self.received += received.bytes;
                Ok(())
            }
            Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn into_received<T: DeserializeOwned>(self) -> Result<Received<T>, ReceiveError> {
        let message = serde_json::from_slice(&self.bytes).map_err(|_| ReceiveError::NoMessage)?;
        Ok(Received { message, descriptors: self.descriptors })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsRawFd as _;

    use super::*;

    /// G8: a message of any length arrives whole with its descriptors, and the next one is another; descriptors are closed by an exec
    #[tokio::test]
    async fn messages_and_descriptors_arrive() {
        let (one, other) = StdUnixStream::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        let (one, other) = (Channel::new(one).unwrap(), Channel::new(other).unwrap());
        let long = "x".repeat(3 << 20);
        let sent = async {
            one.send(&long, &[writer.as_fd()]).await.unwrap();
            one.send(&"short", &[]).await.unwrap();
        };
        let received = async {
            let first = other.receive::<String>(4 << 20).await.unwrap();
            (first, other.receive::<String>(4 << 20).await.unwrap())
        };
        let ((), (mut first, second)) = tokio::join!(sent, received);
        assert_eq!((first.message.len(), second.message.as_str()), (long.len(), "short"));
        assert_eq!((first.descriptors.len(), second.descriptors.len()), (1, 0));
        let passed = first.descriptors.pop().unwrap();
        assert_ne!(passed.as_raw_fd(), writer.as_raw_fd());
        assert!(rustix::io::fcntl_getfd(&passed).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        drop(writer);
        io::PipeWriter::from(passed).write_all(b"through").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        drop(one);
        assert!(matches!(other.receive::<String>(10).await, Err(ReceiveError::Ended)));
    }

    /// G8: bytes of another program are no message, whatever length they seem to have
    #[test]
    fn other_bytes_are_no_message() {
        for bytes in [b"hello world, this is no frame".as_slice(), b"\0\0\0\x02{]", b"\xff\xff\xff\xff"] {
            let (mut one, other) = StdUnixStream::pair().unwrap();
            one.write_all(bytes).unwrap();
            let received = receive_blocking::<String>(&other, 4096);
            assert!(matches!(received, Err(ReceiveError::NoMessage)), "{received:?}");
        }
        let (mut one, other) = StdUnixStream::pair().unwrap();
        one.write_all(b"\0\0\0\x09\"cut").unwrap();
        drop(one);
        assert!(matches!(receive_blocking::<String>(&other, 4096), Err(ReceiveError::Ended)));
    }

    /// Sends bytes with so many duplicates of a descriptor.
    fn send_with(socket: &StdUnixStream, bytes: &[u8], descriptor: BorrowedFd<'_>, count: usize) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let all = vec![descriptor; count];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&all)));
        let sent = sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL).unwrap();
        assert_eq!(sent, bytes.len());
    }

    /// G8, S5: a frame with more descriptors than a message has is refused, however they come, and none of them stays open
    #[test]
    fn too_many_descriptors_are_refused() {
        const FRAME: &[u8] = b"\0\0\0\x04\"ab\"";
        for counts in [vec![5], vec![64], vec![4, 1], vec![3, 2], vec![4, 4, 4]] {
            let (one, other) = StdUnixStream::pair().unwrap();
            let (mut reader, writer) = io::pipe().unwrap();
            for (at, count) in counts.iter().enumerate() {
                let end = if at + 1 == counts.len() { FRAME.len() } else { at + 1 };
                send_with(&one, &FRAME[at..end], writer.as_fd(), *count);
            }
            let received = receive_blocking::<String>(&other, 4096);
            assert!(matches!(received, Err(ReceiveError::TooManyDescriptors)), "{counts:?}: {received:?}");
            drop((one, other, writer));
            assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap(), 0, "all writers are closed");
        }
        let (one, other) = StdUnixStream::pair().unwrap();
        let (_reader, writer) = io::pipe().unwrap();
        send_with(&one, FRAME, writer.as_fd(), DESCRIPTORS_MAX);
        assert_eq!(receive_blocking::<String>(&other, 4096).unwrap().descriptors.len(), DESCRIPTORS_MAX);
    }
}
