//! Scans the frames of one direction of an HTTP/2 connection (RFC 9113, 4.1) without storing or changing a byte.
//!
//! `h2` has no hook for frames that it ignores or answers itself, nor for the moment when the socket accepts data.
//! The scanner reads the same bytes, in pieces of any size, and reports each frame to a [`FrameSink`]. It stores nine
//! bytes and validates nothing; `h2` refuses malformed frames.

/// The client's connection preface (RFC 9113, 3.4).
pub(super) const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;

/// END_HEADERS of HEADERS and CONTINUATION.
pub(super) const END_HEADERS: u8 = 0x4;
/// PADDED of DATA and HEADERS.
pub(super) const PADDED: u8 = 0x8;
/// PRIORITY of HEADERS.
pub(super) const HAS_PRIORITY: u8 = 0x20;

/// A frame's type (RFC 9113, 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameKind {
    Data,
    Headers,
    Priority,
    Reset,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    Unknown,
}

impl From<u8> for FrameKind {
    fn from(byte: u8) -> Self {
        match byte {
            0 => Self::Data,
            1 => Self::Headers,
            2 => Self::Priority,
            3 => Self::Reset,
            4 => Self::Settings,
            5 => Self::PushPromise,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::WindowUpdate,
            9 => Self::Continuation,
            _ => Self::Unknown,
        }
    }
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: FrameKind,
    pub(super) flags: u8,
    pub(super) stream: u32,
    /// Bytes of its payload.
    pub(super) length: u32,
}

impl Frame {
    fn parse(head: [u8; HEAD_BYTES]) -> Self {
        let [l2, l1, l0, kind, flags, s3, s2, s1, s0] = head;
        Self {
            kind: FrameKind::from(kind),
            flags,
            stream: u32::from_be_bytes([s3 & 0x7f, s2, s1, s0]),
            length: u32::from_be_bytes([0, l2, l1, l0]),
        }
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Receives the frames that the scanner finds.
pub(super) trait FrameSink {
    /// Called when a frame's head is complete.
    fn begin(&mut self, frame: &Frame);
    /// Called with a part of the payload, from byte `at` on.
    fn payload(&mut self, frame: &Frame, at: u32, bytes: &[u8]);
    /// Called when the frame is complete.
    fn end(&mut self, frame: &Frame);
}

/// The position in the stream of frames.
#[derive(Debug)]
pub(super) struct FrameScanner {
    preface_left: usize,
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    frame: Frame,
    payload_left: u32,
}

impl FrameScanner {
    /// Skips `preface` bytes before the first frame.
    pub(super) fn new(preface: usize) -> Self {
        let head = [0; HEAD_BYTES];
        Self { preface_left: preface, head, head_bytes: 0, frame: Frame::parse(head), payload_left: 0 }
    }

    /// Reads the next bytes.
    pub(super) fn scan(&mut self, mut bytes: &[u8], sink: &mut impl FrameSink) {
        if self.preface_left > 0 {
            let count = self.preface_left.min(bytes.len());
            self.preface_left -= count;
            bytes = &bytes[count..];
        }
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let count = bytes.len().min(self.payload_left as usize);
                let at = self.frame.length - self.payload_left;
                sink.payload(&self.frame, at, &bytes[..count]);
                self.payload_left -= u32::try_from(count).unwrap_or(self.payload_left);
                bytes = &bytes[count..];
            } else {
                let count = bytes.len().min(HEAD_BYTES - self.head_bytes);
                self.head[self.head_bytes..self.head_bytes + count].copy_from_slice(&bytes[..count]);
                self.head_bytes += count;
                bytes = &bytes[count..];
                if self.head_bytes < HEAD_BYTES {
                    return;
                }
                self.head_bytes = 0;
                self.frame = Frame::parse(self.head);
                self.payload_left = self.frame.length;
                sink.begin(&self.frame);
            }
            if self.payload_left == 0 {
                sink.end(&self.frame);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Recorded {
        frames: Vec<Frame>,
        payloads: Vec<Vec<u8>>,
        ended: usize,
    }

    impl FrameSink for Recorded {
        fn begin(&mut self, frame: &Frame) {
            assert_eq!(self.ended, self.frames.len(), "the previous frame has ended");
            self.frames.push(*frame);
            self.payloads.push(Vec::new());
        }

        fn payload(&mut self, frame: &Frame, at: u32, bytes: &[u8]) {
            let payload = self.payloads.last_mut().unwrap();
            assert_eq!((self.frames.last(), payload.len()), (Some(frame), at as usize));
            payload.extend_from_slice(bytes);
        }

        fn end(&mut self, frame: &Frame) {
            assert_eq!(self.payloads.last().map(Vec::len), Some(frame.length as usize));
            self.ended += 1;
        }
    }

    proptest! {
        /// V9: every frame is reported once and completely, however the bytes are split into reads
        #[test]
        fn frames_are_followed_across_reads(
            frames in prop::collection::vec(
                (any::<u8>(), any::<u8>(), 0..=u32::MAX >> 1, prop::collection::vec(any::<u8>(), 0..40)), 0..20),
            cuts in prop::collection::vec(1_usize..50, 0..200),
        ) {
            let mut bytes = vec![0xff; PREFACE_BYTES];
            for (kind, flags, stream, payload) in &frames {
                bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
                bytes.extend_from_slice(&[*kind, *flags]);
                bytes.extend_from_slice(&stream.to_be_bytes());
                bytes.extend_from_slice(payload);
            }
            let (mut scanner, mut recorded) = (FrameScanner::new(PREFACE_BYTES), Recorded::default());
            let (mut rest, mut cuts) = (&bytes[..], cuts.into_iter());
            while !rest.is_empty() {
                let (now, later) = rest.split_at(cuts.next().unwrap_or(rest.len()).min(rest.len()));
                scanner.scan(now, &mut recorded);
                rest = later;
            }
            prop_assert_eq!(recorded.ended, frames.len());
            for ((frame, payload), sent) in recorded.frames.iter().zip(&recorded.payloads).zip(&frames) {
                let seen = (frame.kind, frame.flags, frame.stream, payload);
                prop_assert_eq!(seen, (FrameKind::from(sent.0), sent.1, sent.2, &sent.3));
            }
        }
    }
}
