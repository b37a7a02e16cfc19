//! All tests against the real binary, in one test binary: one file per behaviour.
//!
//! The gateway runs as a child process on ports that the kernel assigns; upstreams are real TCP servers inside the test
//! process, or a real S3 server. Tests do not use the gateway's internals: they assert what a client, an upstream or an
//! operator observes. No test asserts on wall-clock speed; waiting is polling with a long timeout.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails, and reads the clock it runs by"
)]

mod support;

mod adaptive;
mod admin;
mod auth;
mod body_memory;
mod breaker;
mod bucket_list;
mod buffers;
mod client_address;
mod client_waits;
mod clock_skew;
mod config_errors;
mod conformance;
mod cors;
mod credentials;
mod deadline;
mod decisions;
mod descriptors;
mod drain;
mod drain_targets;
mod effective_config;
mod endpoints;
mod error_documents;
mod expect;
mod hedging;
mod hostile_heads;
mod http1;
mod http2;
mod https;
mod injection;
mod integrity;
mod jwt;
mod ladder;
mod levels;
mod lifecycle;
mod limits;
mod local_answers;
mod logging;
mod memory_cuts;
mod metrics;
mod observability;
mod pool;
mod preflight_attempts;
mod preflight_permits;
mod preflights;
mod probes;
mod proxy_protocol;
mod proxying;
mod redirects;
mod region_mismatch;
mod reload;
mod replay;
mod request_validation;
mod requirement_ids;
mod requirement_sentences;
mod requirements;
mod retries;
mod retry_budget;
mod s3_client;
mod sensors;
mod service_manager;
mod sessions;
mod shedding;
mod silent_upstreams;
mod sizes;
mod slow_clients;
mod slow_forms;
mod slow_links;
mod slow_reads;
mod small_pieces;
mod splice;
mod status;
mod status_causes;
mod supervision;
mod tidy;
mod timeouts;
mod upgrade;
mod upstreams;
