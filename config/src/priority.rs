//! Priority classes of the wait queue. The class of the client's key applies, else the bucket's class of the operation.

use crate::schema::key;
use crate::section::section;
use crate::value_type::Choice;

/// A priority class of the wait queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// served before all others
    High,
    /// served before low ones
    Normal,
    /// served when no other request waits, or after ten others were served first
    Low,
}

impl Priority {
    /// All classes, the most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// The word in the configuration, in metrics and in the status document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

pub(crate) const PRIORITIES: Choice<Priority> =
    Choice(&[("high", Priority::High), ("normal", Priority::Normal), ("low", Priority::Low)]);

section! {
    /// Priority class of each operation of a bucket; the class of the client's key has precedence.
    #[derive(Copy)]
    pub struct PriorityConfig {
        /// priority class of reads of objects in the wait queue
        ///
        /// A free slot goes to the highest class, within a class to the oldest request. A waiting request is passed at most eleven
        /// times. If the queue is full, a new request displaces the newest one of the lowest class below its own. The `priority` of
        /// a client's key replaces the class of the operation.
        pub read: Priority = key("read", PRIORITIES, Priority::Normal);
        /// priority class of all requests that change something
        pub write: Priority = key("write", PRIORITIES, Priority::Normal);
        /// priority class of listings
        pub list: Priority = key("list", PRIORITIES, Priority::Normal);
    }
}
