//! How urgent a request is to its bucket's queue: what a key says, else what the bucket says of such operations.

use crate::form::Choice;
use crate::section::section;
use crate::walk::key;

/// A class of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// served before all others
    High,
    /// served before low ones
    Normal,
    /// served when nobody else waits, or has been passed ten times
    Low,
}

impl Priority {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];
}

pub(crate) const PRIORITIES: Choice<Priority> =
    Choice(&[("high", Priority::High), ("normal", Priority::Normal), ("low", Priority::Low)]);

section! {
    /// How urgent the operations of a bucket are, unless the client's key says so itself.
    #[derive(Copy)]
    pub struct PriorityConfig {
        /// reading objects: the class of the queue they wait in
        ///
        /// A place that falls free goes to the highest class, in the order of coming; one that waits is passed at most eleven times. Where
        /// the queue is full, a newcomer displaces the last of the lowest class below its own.
        pub read: Priority = key("read", PRIORITIES, Priority::Normal);
        /// everything that changes something
        pub write: Priority = key("write", PRIORITIES, Priority::Normal);
        /// listing
        pub list: Priority = key("list", PRIORITIES, Priority::Normal);
    }
}
