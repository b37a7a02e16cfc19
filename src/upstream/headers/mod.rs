//! Headers: which are forwarded, and those that the gateway sets.

pub(crate) mod filter;
pub(crate) mod forwarded;
pub(crate) mod names;
