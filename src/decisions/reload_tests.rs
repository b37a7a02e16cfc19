//! Decisions across reloads: each shows the names of the configuration that it was made with.

use std::fmt::Write;

use slog::{Discard, o};
use tidegate_actors::{ActorChange, BucketId};
use tidegate_config::Sources;

use super::*;
use crate::decisions::decision::{DecisionKind, DecisionScope, Figures, KeyName};
use crate::decisions::query::{ClientFilter, DecisionQuery};

/// A configuration with these buckets, each with its endpoints, and this access key ID of the key `k`.
fn config(buckets: &[(&str, &[&str])], access_key_id: &str) -> Config {
    let mut text = format!(
        "[policies.p]\nbuckets = [\"*\"]\nmethods = [\"read\"]\n[keys.k]\naccess_key_id = \"{access_key_id}\"\n\
         secret = \"a-secret-of-40-characters-01234567890123\"\npolicy = \"p\"\n"
    );
    for (name, endpoints) in buckets {
        let urls: Vec<String> = endpoints.iter().map(|endpoint| format!("\"http://{endpoint}\"")).collect();
        let urls = urls.join(", ");
        writeln!(
            text,
            "[buckets.{name}]\nauth = [\"sigv4\"]\ns3.endpoints = [{urls}]\ns3.retry.max_attempts = 2"
        )
        .unwrap();
    }
    tidegate_config::load(Sources::default().text("test.toml", text)).unwrap()
}

fn facts(bucket: BucketId, ids: &Ids, endpoint: u16) -> DecisionFacts {
    let figures = Figures::of(DecisionScope::Endpoint).set_by(&[KeyName::Upstream("retry.max_attempts")]);
    DecisionFacts {
        bucket: Some(bucket),
        endpoint: Some(endpoint),
        key: ids.client_keys().next().map(|(_, id)| id),
        ..DecisionFacts::new(DecisionKind::Retry, "upstream_status", figures)
    }
}

fn query() -> DecisionQuery {
    let none = (None, None, None, None, None);
    let (request_id, reason, buckets, client, since) = none;
    DecisionQuery { request_id, reason, buckets, client, since, limit: 1000 }
}

/// Bucket, endpoint, client key and configuration key of each entry, the oldest first.
fn shown(decisions: &Decisions, query: &DecisionQuery) -> Vec<[String; 4]> {
    let names = decisions.names();
    let text = |text: Option<&str>| text.unwrap_or("-").to_owned();
    let one = |entry: &decision::RingEntry| {
        let EntryFacts::Decision(facts) = &entry.facts else { return None };
        let key = names.threshold_key(facts).map(|key| key.key);
        let bucket = facts.bucket.and_then(|bucket| names.bucket(bucket));
        Some([text(bucket), text(names.endpoint(facts)), text(names.client_key(facts)), text(key.as_deref())])
    };
    decisions.find(query).entries.iter().rev().filter_map(one).collect()
}

fn row(bucket: &str, endpoint: &str, client_key: &str) -> [String; 4] {
    let key = match bucket {
        "-" => "-".to_owned(),
        bucket => format!("buckets.{bucket}.s3.retry.max_attempts"),
    };
    [bucket.to_owned(), endpoint.to_owned(), client_key.to_owned(), key]
}

fn new(config: &Config, ids: &Ids) -> Arc<Decisions> {
    Decisions::new(config, ids, 1, &Logger::root(Discard, o!()))
}

fn record(recorder: &Recorder, facts: DecisionFacts) {
    assert!(recorder.record(facts, &EntryTexts::default()));
}

/// G3, O4: added, removed and reordered buckets, endpoints and keys change no name of an earlier decision, nor of one that a request
/// of the replaced configuration makes later
#[test]
fn a_decision_shows_the_names_of_its_configuration() {
    let old = config(&[("b", &["h1:1", "h2:2"]), ("d", &["h4:4"])], "OLD");
    let next = config(&[("a", &["h9:9"]), ("d", &["h5:5", "h4:4"])], "NEW");
    let ids = Ids::new(&old);
    let decisions = new(&old, &ids);
    let recorder = decisions.recorder();
    let [b, d] = ["b", "d"].map(|name| ids.bucket(name).unwrap());
    record(&recorder, facts(b, &ids, 1));
    record(&recorder, facts(d, &ids, 0));

    let next_ids = ids.reloaded(&next);
    let names = decisions.prepare_names(&next, &next_ids);
    decisions.replace_names(Arc::clone(&names));
    let next_recorder = recorder.reconfigured(&names);
    record(&next_recorder, facts(d, &next_ids, 0));
    record(&next_recorder, facts(next_ids.bucket("a").unwrap(), &next_ids, 0));
    record(&recorder, facts(d, &ids, 0));
    let expected = [
        row("b", "h2:2", "OLD"),
        row("d", "h4:4", "OLD"),
        row("d", "h5:5", "NEW"),
        row("a", "h9:9", "NEW"),
        row("d", "h4:4", "OLD"),
    ];
    assert_eq!(shown(&decisions, &query()), expected);

    let of_b = DecisionQuery { buckets: Some(decisions.names().find_buckets("b")), ..query() };
    assert_eq!(shown(&decisions, &of_b), expected[..1], "a removed bucket is still found by its name");
    let of_old = DecisionQuery { client: Some(ClientFilter::Name("OLD".to_owned())), ..query() };
    assert_eq!(shown(&decisions, &of_old).len(), 3);
    assert!(decisions.names().find_buckets("nowhere").is_empty());

    // It comes back as another bucket.
    let third_ids = next_ids.reloaded(&old);
    let names = decisions.prepare_names(&old, &third_ids);
    decisions.replace_names(Arc::clone(&names));
    record(&recorder.reconfigured(&names), facts(third_ids.bucket("b").unwrap(), &third_ids, 0));
    assert_eq!(decisions.names().find_buckets("b").len(), 2);
    let of_b = DecisionQuery { buckets: Some(decisions.names().find_buckets("b")), ..query() };
    assert_eq!(shown(&decisions, &of_b), [row("b", "h2:2", "OLD"), row("b", "h1:1", "OLD")]);
}

/// G3, O4: names that nothing refers to are dropped at the next reload, and the others are bounded
#[test]
fn names_of_replaced_configurations_are_bounded() {
    let config = config(&[("b", &["h1:1"]), ("d", &["h4:4"])], "ID");
    let ids = Ids::new(&config);
    let decisions = new(&config, &ids);
    let first = decisions.recorder();
    let reload = || {
        let names = decisions.prepare_names(&config, &ids);
        decisions.replace_names(Arc::clone(&names));
        first.reconfigured(&names)
    };
    let kept = || decisions.names().all().count();
    let b = ids.bucket("b").unwrap();
    (0..100).for_each(|_| drop(reload()));
    assert_eq!(kept(), 2, "the current one, and that of the recorder");
    (0..100).for_each(|_| record(&reload(), facts(b, &ids, 0)));
    assert_eq!(kept(), 1 + 64);
    drop(reload());
    let rows = shown(&decisions, &query());
    let whole = rows.iter().rev().take_while(|shown| **shown == row("b", "h1:1", "ID")).count();
    assert_eq!(whole, 64);
    let [bucket, endpoint, client_key, key] = &rows[0];
    assert_eq!([bucket, endpoint, client_key, key], ["b", "-", "-", "-"], "beyond the bound");
}

/// G3, O4: the counts of buckets that are gone are not lost, and reloads do not grow the table
#[test]
fn counts_of_gone_buckets_are_merged() {
    let with = |name: &str| config(&[(name, &["h1:1"])], "ID");
    let mut current = with("b0");
    let mut ids = Ids::new(&current);
    let decisions = new(&current, &ids);
    let mut recorder = decisions.recorder();
    for number in 0..200 {
        let bucket = ids.bucket(&format!("b{number}")).unwrap();
        record(&recorder, facts(bucket, &ids, 0));
        current = with(&format!("b{}", number + 1));
        ids = ids.reloaded(&current);
        let names = decisions.prepare_names(&current, &ids);
        recorder = recorder.reconfigured(&names);
        decisions.replace_names(names);
    }
    let counts = decisions.find(&query()).counts;
    assert_eq!(counts.iter().map(|count| count.count).sum::<u64>(), 200);
    assert!(counts.len() <= 66, "{}", counts.len());
    assert!(counts.iter().any(|count| count.bucket.is_none() && count.count > 100));
}

/// G3, O4: the positions that a replaced pool reports are those of its own endpoints, and a pool that stays has the current names
#[test]
fn a_pool_reports_its_own_endpoints() {
    let old = config(&[("b", &["h1:1", "h2:2"]), ("d", &["h4:4"])], "ID");
    let ids = Ids::new(&old);
    let decisions = new(&old, &ids);
    let [b, d] = ["b", "d"].map(|name| ids.bucket(name).unwrap());
    // A request of the replaced configuration runs.
    let running = decisions.recorder();
    let process = decisions.actor_events(&decisions.current_names());
    let [of_b, of_d] = [b, d].map(|bucket| process.of_bucket(bucket).unwrap());
    let next = config(&[("b", &["h2:2", "h1:1"]), ("d", &["h4:4"])], "ID");
    let names = decisions.prepare_names(&next, &ids);
    let next_of_b = decisions.actor_events(&names).of_bucket(b).unwrap();
    decisions.replace_names(names);
    let returned = ActorChange::EndpointReturned { endpoint: 0 };
    of_b.record(Some(b), &returned);
    next_of_b.record(Some(b), &returned);
    of_d.record(Some(d), &returned);
    process.record(Some(b), &ActorChange::PanicEnded);
    let shown: Vec<_> =
        shown(&decisions, &query()).into_iter().map(|[bucket, endpoint, ..]| (bucket, endpoint)).collect();
    drop(running);
    let expected = [("b", "h1:1"), ("b", "h2:2"), ("d", "h4:4"), ("b", "-")];
    assert_eq!(shown, expected.map(|(bucket, endpoint)| (bucket.to_owned(), endpoint.to_owned())));
}
