//! What travels through the gateway, and how: targets, headers, bodies, and what happens when an end breaks off.

mod aborts;
mod bodies;
mod forwarded;
mod headers;
mod names;
mod targets;
