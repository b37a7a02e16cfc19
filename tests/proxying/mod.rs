//! Forwarding through the gateway: targets, headers, bodies, and aborts on either side.

mod aborts;
mod bodies;
mod forwarded;
mod headers;
mod names;
mod targets;
