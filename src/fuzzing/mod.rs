//! Fuzz targets: functions that take any bytes and assert properties.
//!
//! Each function is one target. `fuzz/` wraps it in a libFuzzer program; `replay` runs the files of `fuzz/corpus/` through it as an
//! ordinary test on the stable toolchain. All assertions are in the targets, so a corpus file fails in the same way in both.
//!
//! The targets call the product's parsers directly. They are compiled only for tests and with the cargo feature `fuzzing`. The properties
//! and the results of long runs are in `docs/design/fuzzing.md`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed assertion is the result"
)]

mod chunks;
mod forms;
mod operations;
mod proxy_header;
#[cfg(test)]
mod replay;
mod sigv4;
mod xml;

pub use crate::auth::jwt::fuzzing::jwt;
pub use crate::listener::http1::fuzzing::http1;
pub use crate::listener::http2::fuzzing::http2;
pub use crate::upstream::exchange::fuzzing::upstream;
pub use chunks::chunks;
pub use forms::forms;
pub use operations::operations;
pub use proxy_header::proxy_header;
pub use sigv4::sigv4;
pub use xml::xml;

/// A target. It panics if the input violates a property.
pub type Target = fn(&[u8]);

/// Every target, with the name of its program and its corpus folder.
pub const TARGETS: [(&str, Target); 10] = [
    ("chunks", chunks),
    ("forms", forms),
    ("http1", http1),
    ("http2", http2),
    ("jwt", jwt),
    ("operations", operations),
    ("proxy_header", proxy_header),
    ("sigv4", sigv4),
    ("upstream", upstream),
    ("xml", xml),
];
