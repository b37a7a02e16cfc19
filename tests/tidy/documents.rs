//! Consistency of the documents with the code.
//!
//! Tables of the documents are between marks, `<!-- metrics:begin -->` and `<!-- metrics:end -->`; the text around them
//! is free. The configuration table is generated from the code. The metrics table is written by hand and compared with
//! a real scrape, because the advice on a metric is not in the code.

use std::collections::BTreeSet;

use serde_json::Value;

use super::sources::{CRATES, all, read};
use crate::support::{Gateway, Upstream};

/// The text between the marks `name:begin` and `name:end` of a page.
pub(super) fn marked(page: &str, name: &str) -> String {
    let text = read(page);
    let (begin, end) = (format!("<!-- {name}:begin -->"), format!("<!-- {name}:end -->"));
    let text = text.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end)).map(|(text, _)| text);
    text.unwrap_or_else(|| panic!("{page} has no section between {begin} and {end}")).trim().to_owned()
}

/// G6: the documented keys and defaults equal those of the code
#[test]
fn the_page_of_the_configuration_is_generated_from_the_code() {
    let (documented, generated) = (read("docs/configuration.md"), tidegate_config::reference_page());
    let stray =
        documented.lines().zip(generated.lines()).find(|(documented, generated)| documented != generated);
    assert!(
        documented == generated,
        "docs/configuration.md is out of date, first at {stray:?}\n\
         -> cargo run -p tidegate-config --example reference > docs/configuration.md"
    );
    let toml = read("config/default.toml");
    assert!(
        toml == tidegate_config::reference_file(),
        "config/default.toml is out of date\n\
         -> cargo run -p tidegate-config --example reference file > config/default.toml"
    );
}

/// G1, G6: the documented units and words equal those of the code
#[test]
fn the_documented_units_and_words_are_those_of_the_code() {
    assert_eq!(
        marked("docs/configuration-guide.md", "spellings"),
        tidegate_config::reference_spellings().trim(),
        "put the output of `cargo run -p tidegate-config --example reference spellings` between the marks"
    );
}

/// The names in the first column: `` | `name{label}` | … ``.
fn first_column(table: &str) -> BTreeSet<String> {
    let name = |row: &str| {
        let cell = row.strip_prefix('|')?.trim_start().strip_prefix('`')?.split('`').next()?;
        Some(cell.split('{').next().unwrap_or(cell).to_owned())
    };
    table.lines().filter_map(name).collect()
}

/// O3: the documented metrics equal those of a scrape
#[tokio::test]
async fn the_documented_metrics_are_those_of_a_scrape() {
    let upstream = Upstream::ok("");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.hedging.enabled", "true")
        .set("buckets.b.s3.concurrency.adaptive.enabled", "true")
        .set("rate_limit.global.requests_per_second", "1000")
        .set("rate_limit.global.mode", "shadow")
        .http_bucket("api", &upstream)
        .set("buckets.api.http.credentials.k.value", "s")
        .set("buckets.api.http.credential_check_path", "/me")
        .set("buckets.api.http.concurrency.shedding.mode", "shadow")
        .start()
        .await;
    let text = gateway.metrics().await;
    let names =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned));
    let scraped: BTreeSet<String> = names.collect();
    let documented = first_column(&marked("docs/metrics.md", "metrics"));
    let missing: Vec<_> = scraped.difference(&documented).collect();
    let stray: Vec<_> = documented.difference(&scraped).collect();
    assert!(
        missing.is_empty() && stray.is_empty(),
        "docs/metrics.md lacks {missing:?} and names {stray:?}, which no scrape shows\n\
         -> one row per metric, its name first, in backquotes"
    );
}

/// The names of all fields in a part of the status document. `buckets` and `actors` are maps by name.
fn field_names(of: &Value, is_map: bool, names: &mut BTreeSet<String>) {
    match of {
        Value::Object(fields) => {
            for (name, value) in fields {
                if !is_map {
                    names.insert(name.clone());
                }
                field_names(value, !is_map && ["actors", "buckets"].contains(&name.as_str()), names);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| field_names(item, false, names)),
        _ => {}
    }
}

/// X7: every field of the status document is documented
#[tokio::test]
async fn the_fields_of_the_status_are_documented() {
    let upstream = Upstream::ok("");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.concurrency.adaptive.enabled", "true")
        .http_bucket("api", &upstream)
        .set("buckets.api.http.credentials.k.value", "s")
        .set("admin.chaos", "true")
        .start()
        .await;
    let mut names = BTreeSet::new();
    field_names(&gateway.status().await, false, &mut names);
    let page = read("docs/status.md");
    let known: BTreeSet<&str> = page.split('`').skip(1).step_by(2).flat_map(|code| code.split('.')).collect();
    let missing: Vec<_> = names.iter().filter(|name| !known.contains(name.as_str())).collect();
    assert!(names.len() > 50, "only {} fields are found: {names:?}", names.len());
    assert!(
        missing.is_empty(),
        "docs/status.md lacks {missing:?}\n-> the name in backquotes, with its meaning"
    );
}

/// The code map of ARCHITECTURE.md has every folder.
#[test]
fn the_architectures_code_map_names_every_folder() {
    let architecture = read("ARCHITECTURE.md");
    let mut folders: BTreeSet<String> = CRATES.iter().map(|name| format!("{name}/")).collect();
    for source in all() {
        for inside in ["actors/src/", "src/"] {
            let folder = source.path.strip_prefix(inside).and_then(|rest| rest.split_once('/'));
            folders.extend(folder.map(|(folder, _)| format!("{folder}/")));
        }
    }
    // The list of layers has the folders of src/ without a slash.
    let is_named = |folder: &str| {
        architecture.contains(folder) || architecture.contains(&format!("`{}`", folder.trim_end_matches('/')))
    };
    let missing: Vec<_> = folders.iter().filter(|folder| !is_named(folder)).collect();
    assert!(
        missing.is_empty(),
        "ARCHITECTURE.md names no {missing:?}\n-> add each to the code map or to the layers, with what it is for"
    );
}
