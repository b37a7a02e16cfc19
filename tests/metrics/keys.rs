//! The keys of the section `metrics`.

use super::{names, series};
use crate::support::{Gateway, Upstream, wait_for};

/// O3: every name has the namespace, except the standard names of the process
#[tokio::test]
async fn the_namespace_is_the_prefix_of_every_name() {
    let upstream = Upstream::ok("x");
    for (namespace, prefix) in
        [(None, "tidegate_"), (Some("acme_gw"), "acme_gw_"), (Some("_9"), "_9_"), (Some(""), "")]
    {
        let builder = Gateway::builder().bucket("b", &upstream);
        let builder = match namespace {
            Some(namespace) => builder.config(&format!("[metrics]\nnamespace = \"{namespace}\"\n")),
            None => builder,
        };
        let gateway = builder.start().await;
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        let scrape = gateway.metrics().await;
        let all = names(&scrape);
        let (process, own): (Vec<_>, Vec<_>) = all.iter().partition(|name| name.starts_with("process_"));
        assert!(own.iter().all(|name| name.starts_with(prefix)), "{own:?}");
        assert!(own.len() > 100 && process.len() == 6, "{process:?}");
        assert!(!scrape.contains("tidegate_") || prefix == "tidegate_");
        let name = format!("{prefix}requests_total{{bucket=\"b\",class=\"2xx\"}}");
        assert!(series(&scrape).contains_key(&name), "{name} in:\n{scrape}");
        let build = format!("{prefix}build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
        assert_eq!(series(&scrape).get(&build), Some(&1.0), "{build} in:\n{scrape}");
    }
}

/// G1, O3: a variable can make the namespace empty
#[tokio::test]
async fn an_empty_variable_gives_bare_names() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).set("metrics.namespace", "").start().await;
    assert!(gateway.metrics().await.contains("\nrequests_in_flight "));
}

/// G1, O3: a prefix that is no metric name stops the start, and the error names the key and the fix
#[test]
fn an_invalid_namespace_is_refused() {
    let upstream = ["http://127.0.0.1:1"].map(|url| url.trim_start_matches("http://").parse().unwrap());
    let long = "n".repeat(65);
    for bad in ["9gate", "tide-gate", "tide gate", "täglich", "tide:gate", "a\"b", &long] {
        let builder = Gateway::builder().bucket_at("b", &upstream).set("metrics.namespace", bad);
        let report = builder.run();
        assert_eq!(report.code, Some(78), "{bad}: {}", report.stderr);
        assert!(report.stderr.contains("metrics.namespace"), "{bad}: {}", report.stderr);
        assert!(
            bad.contains('"') || report.stderr.contains("letters, digits and underscores"),
            "{}",
            report.stderr
        );
    }
}

/// O3: the bounds of all histograms of requests are those of the key, in seconds
#[tokio::test]
async fn the_bounds_of_histograms_are_configured() {
    let upstream = Upstream::ok("x");
    let gateway =
        Gateway::builder().bucket("b", &upstream).set("metrics.buckets", "250us,0.5,1m").start().await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    wait_for("the request is counted", || async {
        let count = gateway.metric("request_duration_seconds_count{bucket=\"b\"}").await;
        (count == 1.0).then_some(())
    })
    .await;
    let scrape = gateway.metrics().await;
    let endpoint = upstream.address().to_string();
    for labels in [
        "tidegate_request_duration_seconds_bucket{bucket=\"b\"".to_owned(),
        "tidegate_first_byte_seconds_bucket{bucket=\"b\"".to_owned(),
        "tidegate_connection_pool_wait_time_seconds_bucket{bucket=\"b\"".to_owned(),
        "tidegate_request_phase_seconds_bucket{bucket=\"b\",phase=\"queue\"".to_owned(),
        format!("tidegate_upstream_duration_seconds_bucket{{bucket=\"b\",endpoint=\"{endpoint}\""),
    ] {
        let bounds: Vec<_> = scrape
            .lines()
            .filter_map(|line| line.strip_prefix(&labels)?.strip_prefix(",le=\"")?.split_once('"'))
            .map(|(bound, _)| bound)
            .collect();
        assert_eq!(bounds, ["0.00025", "0.5", "60", "+Inf"], "{labels}");
        assert_eq!(series(&scrape)[&format!("{labels},le=\"+Inf\"}}")], 1.0, "{labels}");
    }
}

/// G1, O3: bounds that are no histogram stop the start
#[test]
fn invalid_bounds_are_refused() {
    let upstream = ["127.0.0.1:1".parse().unwrap()];
    let many = (1..=33).map(|bound| bound.to_string()).collect::<Vec<_>>().join(",");
    for (bad, word) in [
        ("1,0.5", "0.5 follows 1"),
        ("1,1", "1 follows 1"),
        ("0,1", "out of range"),
        ("-1", "out of range"),
        ("inf", "out of range"),
        ("nan", "out of range"),
        ("soon", "not a duration"),
        ("", "0 bounds"),
        (many.as_str(), "33 bounds"),
    ] {
        let report = Gateway::builder().bucket_at("b", &upstream).set("metrics.buckets", bad).run();
        assert_eq!(report.code, Some(78), "{bad}: {}", report.stderr);
        assert!(report.stderr.contains("metrics.buckets"), "{bad}: {}", report.stderr);
        assert!(report.stderr.contains(word), "{bad}: {}", report.stderr);
    }
}
