//! The connections of awc: a request head and body are written, and a response head is read.

pub(crate) mod body_writer;
pub(crate) mod call_context;
pub(crate) mod connection;
pub(crate) mod connector;
pub(crate) mod head_scan;
pub(crate) mod internal_request;
pub(crate) mod outbound_head;
pub(crate) mod sent_request;
