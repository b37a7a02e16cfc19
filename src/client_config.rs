//! The configuration of a command that asks a running gateway: where its admin listener is, and the token.

use std::path::PathBuf;

use tidegate_config::{Config, Problems, SourceSet};

/// Loads it from this file and the variables. A command that has the URL of the gateway needs no file: the variables can have the token.
///
/// # Errors
/// The file cannot be read, or a key of `admin` is invalid. Other keys do not matter.
pub(crate) fn load(file: Option<PathBuf>, url: Option<&str>) -> Result<Config, Problems> {
    let sources = SourceSet::new(file, tidegate_config::environment(), false);
    match (sources.load_for_client(), url) {
        (Err(_), Some(_)) => sources.load_for_client_without_file(),
        (loaded, _) => loaded,
    }
}
