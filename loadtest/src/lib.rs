//! Bounded load tests for tidegate whose scenarios are data.
//!
//! The runner starts the gateway's binary with a generated configuration, puts misbehaving upstreams behind it, offers
//! load on a fixed schedule and holds what came out against the ranges of the scenario. It speaks HTTP and reads
//! `/proc`; it links none of the gateway's crates, so that it measures what a user runs.
//!
//! Five threads: one offers load, one serves as upstreams, one takes readings, one has the hostile clients, one reads the
//! log of a gateway in a container. Only the first is on the path of a latency. Everything is bounded: connections,
//! requests under way, readings, the run itself. Deliberately absent: load from several machines, HTTP/2 other than
//! floods of it, and any tuning of the host.

mod bench_config;
mod certificate;
mod cli;
mod client;
mod clock;
mod compare;
mod container;
mod destination;
mod expectation;
mod framing;
mod gateway;
mod guards;
mod head;
mod hostile;
mod load;
mod pacer;
mod pattern;
mod process;
mod progress;
mod receive_buffer;
mod recorder;
mod report;
mod run;
mod sampler;
mod scenario;
mod schedule;
mod size;
mod statistics;
mod status;
mod step;
mod storm;
mod upstream;
mod usage;

pub use cli::main;

#[cfg(test)]
mod end_to_end;
