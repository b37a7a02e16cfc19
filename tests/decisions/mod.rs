//! Decisions explained (O4, O6): every refusal has one record with its figures, and a request's story can be told.

mod cuts;
mod escapes;
mod events;
mod explain;
mod failover;
mod made_up;
mod made_up_heads;
mod proxy_status;
mod queries;
mod refusals;
mod shadows;
mod timeouts;
mod transitions;
mod waits;

use serde_json::Value;

use crate::support::{Gateway, Response, wait_for};

/// A request with one fault: method, target, headers, and the reason of its refusal.
type FaultyRequest<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'static str);

/// The reply to `GET /decisions` with this query.
async fn document(gateway: &Gateway, query: &str) -> Value {
    let answer = gateway.admin(&format!("/decisions?{query}")).await;
    assert_eq!(answer.complete_status(), 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

/// The decisions that fit, the newest first.
async fn decisions(gateway: &Gateway, query: &str) -> Vec<Value> {
    document(gateway, query).await["decisions"].as_array().unwrap().clone()
}

/// Waits for a decision with this query.
async fn decision(gateway: &Gateway, query: &str) -> Value {
    wait_for(&format!("a decision with {query}"), || async {
        decisions(gateway, query).await.into_iter().next()
    })
    .await
}

fn id(answer: &Response) -> String {
    answer.header("x-request-id").unwrap_or_else(|| panic!("no ID: {answer:?}")).to_owned()
}

/// The number after `name=` in a header of the rate limits.
fn parameter(header: &str, name: &str) -> Option<u64> {
    header.split(';').find_map(|part| part.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

/// Checks that a refusal has exactly one record, and that it agrees with the reply.
async fn assert_recorded(gateway: &Gateway, answer: &Response) -> Value {
    let id = id(answer);
    let found = decisions(gateway, &format!("request_id={id}")).await;
    let refusals: Vec<&Value> = found.iter().filter(|one| one["kind"] == "refusal").collect();
    assert_eq!(refusals.len(), 1, "one refusal of {id}: {found:?}\n{answer:?}");
    let record = refusals[0].clone();
    assert_eq!(record["reason"], answer.reason(), "{record}");
    assert_eq!(record["status"], answer.status, "{record}");
    assert_eq!(record["client"], "127.0.0.1", "{record}");
    let details = format!("details=\"{}\"", answer.reason());
    let status = answer.header("proxy-status").unwrap_or_else(|| panic!("no Proxy-Status: {answer:?}"));
    assert!(status.starts_with("tidegate;error=") && status.ends_with(&details), "{status}");
    if let (Some(rest), Some(policy)) = (answer.header("ratelimit"), answer.header("ratelimit-policy")) {
        assert_eq!(record["measured"].as_u64(), parameter(rest, "r"), "{record} {rest}");
        assert_eq!(record["threshold"].as_u64(), parameter(policy, "q"), "{record} {policy}");
        assert_eq!(record["unit"], "tokens");
    }
    for (element, field) in [("ProposedSize", "measured"), ("MaxSizeAllowed", "threshold")] {
        if let Some(size) = answer.element(element) {
            assert_eq!(record[field].as_u64(), size.parse().ok(), "{element} of {record}");
            assert_eq!(record["unit"], "bytes");
        }
    }
    // The pace of a queue may be unknown; then there is no end either.
    if !answer.reason().starts_with("queue_") {
        assert_eq!(
            answer.retry_after().is_some() && record["until"].is_null(),
            is_without_end(answer),
            "{record}"
        );
    }
    record
}

/// Whether the time of Retry-After is a fixed pause and not the end of a state.
fn is_without_end(answer: &Response) -> bool {
    let fixed = [
        "too_many_requests_in_flight",
        "client_concurrency",
        "too_many_preflights",
        "too_many_pending_forms",
        "upstream_credentials",
        "bucket_list_incomplete",
    ];
    fixed.contains(&answer.reason())
}
