//! The roles of clients of the admin listener.

/// What a client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AdminRole {
    /// Reads the status and the metrics.
    Reader,
    /// Everything.
    Operator,
}
