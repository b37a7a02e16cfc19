//! What the models leave out, as sentences of the report. A sentence about a feature appears only if the configuration uses it.

use tidegate_config::{ActionMode, Config, UpstreamConfig};

use crate::replay::RequestFacts;

/// The sentences for every configuration.
const ALWAYS: [&str; 6] = [
    "Service times are those of the log, whatever the load: a store that becomes faster or slower under another load is not modelled.",
    "Clients do not react: a request that is refused is not sent again, and one that is admitted is sent once.",
    "Levels of resources (memory, CPU, descriptors) with their actions (actions.shed_requests, actions.shed_uploads and the others), \
     crashes and restarts are not simulated.",
    "Attempts, retries and hedges are those of the log; retry budgets do not apply.",
    "Limits start with their whole burst at the first request of the log, circuits start closed, queues start empty, and cursors start \
     at 0.",
    "Leases of tokens and permits cached by worker threads are left out: limits are exact.",
];

/// The sentences for this configuration and these requests.
pub(super) fn list(config: &Config, facts: &RequestFacts) -> Vec<String> {
    let mut sentences: Vec<String> = ALWAYS.iter().map(|&sentence| sentence.to_owned()).collect();
    let any =
        |uses: fn(&UpstreamConfig) -> bool| config.buckets.values().any(|bucket| uses(&bucket.upstream));
    let optional = [
        (
            config.shedding.mode != ActionMode::Off,
            "The process's cursor (shedding.mode) is not simulated: event-loop lag and the pressure on resources move it, which no log \
             has. new refuses nothing because of it.",
        ),
        (
            any(has_queue_cursor),
            "A cursor of a bucket cuts clients of equal weight by a hash that differs in each process: the number of the refused \
             requests is predicted, not which of these clients they belong to.",
        ),
        (
            facts.shed > 0,
            "Requests that the log refused with shed, shed_upload or exhausted are admitted, unless new refuses them for another reason.",
        ),
        (
            facts.untracked > 0,
            "Keys and subjects beyond the first 100,000 are not told apart: no limit of a key, a subject or a client charges their \
             requests, and no cursor refuses them.",
        ),
        (
            any(|upstream| upstream.concurrency.adaptive.enabled),
            "concurrency.adaptive is not simulated: the gate has max_concurrent permits.",
        ),
        (
            any(|upstream| upstream.circuit_breaker.hold.is_some()),
            "circuit_breaker.hold_ms is not simulated: a request to an open circuit is refused at once.",
        ),
        (
            any(|upstream| upstream.circuit_breaker.connect_probe_interval.is_some()),
            "circuit_breaker.connect_probe_interval_ms is not simulated: an open time has its full length.",
        ),
        (
            any(|upstream| !upstream.credentials_by_name.is_empty()),
            "Limits and refusals of upstream credentials are not simulated.",
        ),
        (
            any(|upstream| upstream.endpoints.len() > 1),
            "Endpoints are not simulated: a failure counts for the circuit of the bucket, and none is ejected.",
        ),
        (
            config.rate_limit.failed_auth.is_some(),
            "rate_limit.failed_auth is not simulated: failed authentications end as in the log.",
        ),
        (
            facts.unidentified > 0
                && (config.rate_limit.per_key.is_some()
                    || config.rate_limit.per_subject.is_some()
                    || config.concurrency.max_per_client > 0),
            "Requests that the log refused before authentication name no key or subject: they count for their address only.",
        ),
        (
            facts.class_derived > 0,
            "Lines of older versions have no class: it is derived from the method, and listings count as reads.",
        ),
    ];
    sentences.extend(optional.into_iter().filter(|(applies, _)| *applies).map(|(_, text)| text.to_owned()));
    sentences
}

fn has_queue_cursor(upstream: &UpstreamConfig) -> bool {
    upstream.concurrency.max_queued > 0 && upstream.concurrency.shedding.mode != ActionMode::Off
}
