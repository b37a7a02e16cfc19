//! Tests of the crate as a whole: sources in, configuration or problems out.

mod bad_bucket;
mod bad_input;
mod credential_pool;
mod files;
mod good_input;
mod hints;
mod reference;
mod secrets;
mod temporary_keys;
mod warnings;

use crate::{Config, Problems, Sources, load};

/// A bucket that lacks nothing, for tests about something else.
const DEMO: &str = "[buckets.demo.s3]\nendpoints = [\"http://store:9000\"]\n";

fn from_toml(text: &str) -> Result<Config, Problems> {
    load(Sources::default().text("t.toml", text))
}

fn from_variables(variables: &[(&str, &str)]) -> Result<Config, Problems> {
    load(Sources::default().environment(variables.iter().copied()))
}

fn lines(result: Result<Config, Problems>) -> Vec<String> {
    result.unwrap_err().iter().map(ToString::to_string).collect()
}
