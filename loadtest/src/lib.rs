//! Bounded load tests for tidegate with scenarios as data.
//!
//! The runner starts the gateway's binary with a generated configuration and faulty upstreams, offers load on a fixed schedule, and checks
//! the statistics against the ranges of the scenario. It uses HTTP and `/proc` and links no crate of the gateway, so that it measures the
//! program that users run.
//!
//! There are six threads: load, upstreams, readings, hostile clients, watchers of the status, and the log reader of a gateway in a
//! container. Only the first affects a measured latency. Connections, requests in flight, readings and the run itself are bounded. There is
//! no load from several machines, no HTTP/2 in scenarios except floods, and no tuning of the host.

mod admin_call;
mod bench_config;
mod certificate;
mod cli;
mod client;
mod clock;
mod compare;
mod configuration;
mod container;
mod decision_check;
mod descriptor_limit;
mod destination;
mod events;
mod expectation;
mod framing;
mod gateway;
mod guards;
mod head;
mod hostile;
mod http2_load;
mod instructions;
mod load;
mod load_checks;
mod pacer;
mod pattern;
mod port;
mod process;
mod progress;
mod receive_buffer;
mod recorder;
mod reload;
mod report;
mod request_source;
mod run;
mod sampler;
mod scenario;
mod schedule;
mod signature;
mod size;
mod statistics;
mod status;
mod step;
mod storm;
mod upgrade;
mod upstream;
mod usage;
mod watchers;

pub use cli::main;

#[cfg(test)]
mod end_to_end;
