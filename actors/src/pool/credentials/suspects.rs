//! Marks of suspect credentials, which the gateway's own check must verify.
//!
//! The actor sets marks; one task per bucket takes them (`src/upstream/health/credential_check.rs`) and limits how often it
//! checks. Marks outlive a crash of the actor. A mark set twice is taken once.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::pool::credentials::credential::CredentialId;

/// The marks of one bucket's credentials.
#[derive(Debug)]
pub(crate) struct SuspectCredentials {
    marks: Box<[AtomicBool]>,
    marked: Notify,
}

impl SuspectCredentials {
    pub(crate) fn new(credentials: usize) -> Self {
        Self { marks: (0..credentials).map(|_| AtomicBool::new(false)).collect(), marked: Notify::new() }
    }

    /// Only the actor calls this.
    pub(crate) fn mark(&self, credential: usize) {
        self.marks[credential].store(true, Ordering::Release);
        self.marked.notify_one();
    }

    /// Takes all marks.
    pub(crate) fn drain_marks(&self) -> Vec<CredentialId> {
        let is_marked = |at: &usize| self.marks[*at].swap(false, Ordering::AcqRel);
        (0..self.marks.len()).filter(is_marked).map(CredentialId).collect()
    }

    /// Waits until a mark is set; it may have been taken since.
    pub(crate) async fn wait_for_mark(&self) {
        self.marked.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C3: a mark is taken once, however often it was set
    #[tokio::test(start_paused = true)]
    async fn a_mark_is_drained_once() {
        let suspects = SuspectCredentials::new(3);
        suspects.mark(2);
        suspects.mark(2);
        suspects.wait_for_mark().await;
        assert_eq!(suspects.drain_marks(), [CredentialId(2)]);
        assert!(suspects.drain_marks().is_empty());
    }
}
