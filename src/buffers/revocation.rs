//! Streams of client keys that a reload withdraws. They are cut when `server.revoke_grace` is over.
//!
//! A body that may last registers with its worker thread: a large one, one of unknown length, a streamed upload. Other requests of a
//! withdrawn key end by themselves, at the latest with their timeouts. A key that gets another secret keeps its ID, so a stream has the
//! number of the keyring that authenticated it: requests of later configurations are not cut.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tidegate_actors::KeyId;

use crate::buffers::cut::WithdrawnCut;
use crate::buffers::send_progress::SendProgress;

/// The number of a keyring. A later one is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyringNumber(pub(crate) u64);

/// The key that a stream was authenticated with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamOwner {
    pub(crate) key: KeyId,
    pub(crate) keyring: KeyringNumber,
}

/// A body of a client with a key.
pub(crate) struct RevocableStream {
    owner: StreamOwner,
    /// Send progress to the client; only for an answer.
    progress: Option<Rc<SendProgress>>,
    cut: Cell<Option<WithdrawnCut>>,
    reader: RefCell<Option<Waker>>,
}

impl RevocableStream {
    /// Ready once the stream is cut. Wakes the task then.
    pub(crate) fn poll_cut(&self, cx: &Context<'_>) -> Poll<WithdrawnCut> {
        if let Some(cut) = self.cut.get() {
            return Poll::Ready(cut);
        }
        let mut reader = self.reader.borrow_mut();
        if !reader.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *reader = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Ends the stream: the connection ends an answer, the reader ends an upload.
    fn cut(&self, cut: WithdrawnCut) {
        self.cut.set(Some(cut));
        if let Some(progress) = &self.progress {
            progress.cut_by(cut.into());
        }
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// The streams of one worker thread.
#[derive(Default)]
pub(crate) struct RevocableStreams(RefCell<Vec<Weak<RevocableStream>>>);

impl RevocableStreams {
    /// Begins a stream. `progress` is set for an answer.
    pub(crate) fn begin(
        &self,
        owner: StreamOwner,
        progress: Option<Rc<SendProgress>>,
    ) -> Rc<RevocableStream> {
        let (cut, reader) = (Cell::new(None), RefCell::default());
        let stream = Rc::new(RevocableStream { owner, progress, cut, reader });
        let mut registered = self.0.borrow_mut();
        if registered.len() == registered.capacity() {
            registered.retain(|stream| stream.strong_count() > 0);
        }
        registered.push(Rc::downgrade(&stream));
        stream
    }

    /// Cuts the streams of keys that the keyring `by` has withdrawn `grace` ago. Returns their number.
    pub(crate) fn cut_withdrawn(&self, keys: &[KeyId], by: KeyringNumber, grace: Duration) -> usize {
        let mut registered = self.0.borrow_mut();
        registered.retain(|stream| stream.strong_count() > 0);
        let streams: Vec<_> = registered.iter().filter_map(Weak::upgrade).collect();
        drop(registered);
        let is_withdrawn = |stream: &&Rc<RevocableStream>| {
            keys.contains(&stream.owner.key) && stream.owner.keyring < by && stream.cut.get().is_none()
        };
        streams.iter().filter(is_withdrawn).map(|stream| stream.cut(WithdrawnCut { grace })).count()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::task::noop_waker;

    use super::*;

    const GRACE: Duration = Duration::from_secs(60);

    fn owner(key: u32, keyring: u64) -> StreamOwner {
        StreamOwner { key: KeyId::new(key), keyring: KeyringNumber(keyring) }
    }

    /// G3: only streams of a withdrawn key are cut, and only those that an earlier keyring authenticated
    #[test]
    fn streams_of_withdrawn_keys_are_cut() {
        let streams = RevocableStreams::default();
        let of = |key, keyring| streams.begin(owner(key, keyring), None);
        let [withdrawn, other, renewed] = [of(1, 1), of(2, 1), of(1, 2)];
        let waker = noop_waker();
        let cx = Context::from_waker(&waker);
        assert!([&withdrawn, &other, &renewed].iter().all(|stream| stream.poll_cut(&cx).is_pending()));
        let cut = || streams.cut_withdrawn(&[KeyId::new(1), KeyId::new(3)], KeyringNumber(2), GRACE);
        assert_eq!([cut(), cut()], [1, 0]);
        assert_eq!(withdrawn.poll_cut(&cx), Poll::Ready(WithdrawnCut { grace: GRACE }));
        assert!(other.poll_cut(&cx).is_pending() && renewed.poll_cut(&cx).is_pending());
    }

    /// G3: streams that have ended are forgotten
    #[test]
    fn ended_streams_use_no_memory() {
        let streams = RevocableStreams::default();
        let open = streams.begin(owner(0, 1), None);
        (0..10_000).for_each(|key| drop(streams.begin(owner(key, 1), None)));
        assert!(streams.0.borrow().capacity() <= 16, "{}", streams.0.borrow().capacity());
        assert_eq!(streams.cut_withdrawn(&[KeyId::new(0)], KeyringNumber(2), GRACE), 1);
        drop(open);
        assert_eq!(streams.cut_withdrawn(&[KeyId::new(0)], KeyringNumber(2), GRACE), 0);
        assert!(streams.0.borrow().is_empty());
    }
}
