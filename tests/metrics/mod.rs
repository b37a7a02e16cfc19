//! The metrics as a Prometheus server scrapes them: names, zeros, formats and keys (O3).

mod formats;
mod keys;
mod timings;
mod zeros;

use std::collections::BTreeMap;

use crate::support::{Gateway, Response, request};

/// A scrape, by the series with their labels.
pub(crate) fn series(scrape: &str) -> BTreeMap<String, f64> {
    let samples = scrape.lines().filter(|line| !line.starts_with('#'));
    let parse = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("no sample: {line}")))
    };
    samples.map(parse).collect()
}

/// The names of all series, without labels.
fn names(scrape: &str) -> Vec<String> {
    series(scrape).into_keys().map(|name| name.split('{').next().unwrap().to_owned()).collect()
}

/// A scrape with these values of `Accept`.
async fn scrape(gateway: &Gateway, accept: &[&str]) -> Response {
    let headers: Vec<_> = accept.iter().map(|&value| ("accept", value)).collect();
    let answer = request(gateway.admin_address(), "GET", "/metrics", &headers, None).await;
    assert_eq!(answer.complete_status(), 200, "{}", answer.text());
    answer
}
