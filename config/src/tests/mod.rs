//! Tests of the crate as a whole: sources in, configuration or problems out.

mod admin;
mod bad_bucket;
mod bad_input;
mod credential_pool;
mod effective;
mod files;
mod good_input;
mod hints;
mod large;
mod reference;
mod reload;
mod secrets;
mod temporary_keys;
mod warning_actions;
mod warning_pairs;
mod warnings;

use crate::{Config, Problems, Sources, load};

/// A valid bucket, for tests of other sections.
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

/// The TOML blocks of the pages in `docs/` and of README.md.
fn toml_examples() -> Vec<String> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let pages = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages: std::collections::BTreeSet<_> =
        pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect();
    let texts = pages.into_iter().chain([root.join("README.md")]).map(std::fs::read_to_string);
    let blocks = |text: String| -> Vec<String> {
        let starts = text.split("```toml\n").skip(1);
        starts.filter_map(|rest| rest.split("```").next()).map(str::to_owned).collect()
    };
    texts.flat_map(|text| blocks(text.unwrap())).collect()
}
