//! The groups of `docs/configuration.md`, the most used first.
//!
//! A group lists keys and sections, with NAME and UPSTREAM for names and for the kind of a bucket. A key belongs to the group with the
//! longest match. A test fails for a key without a group and for an entry without a key.

/// One heading of the page.
pub(crate) struct Group {
    pub(crate) title: &'static str,
    pub(crate) intro: &'static str,
    /// keys, and sections with all their keys, in the order of the page
    pub(crate) members: &'static [&'static str],
}

const fn group(title: &'static str, intro: &'static str, members: &'static [&'static str]) -> Group {
    Group { title, intro, members }
}

pub(crate) const GROUPS: [Group; 24] = [
    group(
        "Server address",
        "The data listener, on which clients send requests.",
        &["server.address", "server.port", "server.base_domains", "server.workers"],
    ),
    group(
        "Buckets",
        "A bucket is a named route: the names that it serves, and the clients that may use it.",
        &["buckets.NAME.kind", "buckets.NAME.pattern", "buckets.NAME.auth", "buckets.NAME.anonymous"],
    ),
    group(
        "Upstream of a bucket",
        "The store or API to which the gateway forwards the requests of a bucket.",
        &[
            "buckets.NAME.UPSTREAM.endpoints",
            "buckets.NAME.s3.bucket",
            "buckets.NAME.s3.region",
            "buckets.NAME.s3.addressing",
        ],
    ),
    group(
        "Upstream credentials",
        "The credentials of the gateway towards a store or an API: one key pair, or several named credentials.",
        &[
            "buckets.NAME.s3.access_key_id",
            "buckets.NAME.s3.secret_access_key",
            "buckets.NAME.s3.session_token",
            "buckets.NAME.s3.access_key_id_file",
            "buckets.NAME.s3.secret_access_key_file",
            "buckets.NAME.s3.credentials_file",
            "buckets.NAME.s3.credentials_profile",
            "buckets.NAME.s3.container_credentials",
            "buckets.NAME.s3.credentials",
            "buckets.NAME.http.credentials",
            "buckets.NAME.UPSTREAM.credentials",
            "buckets.NAME.http.credential_check_path",
            "buckets.NAME.UPSTREAM.credential_pool",
        ],
    ),
    group(
        "Client keys",
        "The key pairs with which clients sign. Each key needs a policy.",
        &[
            "keys.NAME.access_key_id",
            "keys.NAME.secret",
            "keys.NAME.secret_file",
            "keys.NAME.policy",
            "keys.NAME",
            "server.revoke_grace",
        ],
    ),
    group(
        "API keys",
        "Secrets that clients send in a header, for clients that cannot sign. Each key needs a policy.",
        &["api_keys.NAME"],
    ),
    group(
        "Policies",
        "The buckets, key prefixes and operations that client keys and API keys may use.",
        &["policies.NAME"],
    ),
    group(
        "Tokens",
        "Verification of JSON Web Tokens. The section is off until one of its keys without a default is set.",
        &["jwt"],
    ),
    group(
        "Timeouts",
        "Time limits of clients, requests and upstreams.",
        &[
            "server.request_timeout",
            "buckets.NAME.UPSTREAM.timeout",
            "buckets.NAME.UPSTREAM.connect_timeout",
            "buckets.NAME.UPSTREAM.idle_timeout",
            "buckets.NAME.s3.long_operation_timeout",
            "buckets.NAME.UPSTREAM.client_deadline",
            "server.keep_alive",
            "server.header_timeout",
            "server.min_body_rate",
            "server.min_body_rate_grace",
            "server.write_stall_timeout",
            "server.min_send_rate",
        ],
    ),
    group(
        "Request limits",
        "Limits on the size and content of one request.",
        &[
            "server.limits",
            "buckets.NAME.max_request_size",
            "buckets.NAME.UPSTREAM.max_response_header_size",
            "buckets.NAME.UPSTREAM.max_response_headers",
            "buckets.NAME.max_chunk_size",
            "buckets.NAME.injection_patterns",
        ],
    ),
    group(
        "Concurrency and queues",
        "Limits on concurrent requests, and the wait queue and connection pool of each bucket.",
        &[
            "server.max_concurrent_requests",
            "concurrency",
            "buckets.NAME.UPSTREAM.concurrency",
            "buckets.NAME.UPSTREAM.connection_pool",
        ],
    ),
    group(
        "Rate limits",
        "A limit is off until its rate is set. A request is charged to every limit that applies to it.",
        &["rate_limit", "buckets.NAME.rate_limit", "keys.NAME.rate_limit", "api_keys.NAME.rate_limit"],
    ),
    group(
        "Retries and hedging",
        "Repeated attempts after a failure, and second requests for slow reads.",
        &["buckets.NAME.UPSTREAM.retry", "buckets.NAME.UPSTREAM.hedging"],
    ),
    group(
        "Circuit breaker",
        "An open circuit refuses requests to a failing upstream; trial requests close it.",
        &["buckets.NAME.UPSTREAM.circuit_breaker"],
    ),
    group(
        "Endpoint health and failover",
        "Selection among the endpoints of a bucket. With a single endpoint these keys do not change the target of requests.",
        &[
            "buckets.NAME.UPSTREAM.outlier_ejection",
            "buckets.NAME.UPSTREAM.health_check",
            "buckets.NAME.UPSTREAM.slow_start_seconds",
            "buckets.NAME.UPSTREAM.failover",
        ],
    ),
    group(
        "TLS",
        "TLS towards clients, and certificate authorities for https endpoints.",
        &["server.tls", "buckets.NAME.UPSTREAM.tls", "buckets.NAME.s3.tls"],
    ),
    group(
        "Client addresses",
        "The client address behind proxies, and the headers with it towards the upstream.",
        &[
            "server.trusted_proxies",
            "server.client_address_header",
            "server.proxy_protocol",
            "buckets.NAME.forwarded",
        ],
    ),
    group("CORS", "Access of web pages of other origins to a bucket.", &["buckets.NAME.cors"]),
    group(
        "S3 compatibility",
        "Regions, and the bodies and digests that a store receives.",
        &[
            "s3.region",
            "buckets.NAME.client_regions",
            "buckets.NAME.sigv2_max_lifetime",
            "buckets.NAME.s3.upload_framing",
            "buckets.NAME.s3.content_md5",
            "buckets.NAME.s3.checksums",
        ],
    ),
    group(
        "Resource monitor and buffers",
        "The gateway sheds load as memory or file descriptors run out.",
        &[
            "monitor",
            "actions",
            "shedding",
            "server.send_buffer",
            "server.send_buffer_per_connection",
            "server.buffer_budget",
        ],
    ),
    group(
        "Log",
        "Output, format and content of the log and of the decisions, and the header that explains a refusal to its client.",
        &["log", "server.proxy_status"],
    ),
    group("Metrics", "Names and histograms of the metrics.", &["metrics"]),
    group(
        "Admin listener and shutdown",
        "Probes, status, metrics, reloads, upgrades, and the drain phase after a stop signal.",
        &[
            "admin",
            "reload",
            "server.drain_delay",
            "server.drain_timeout",
            "server.upgrade_timeout",
            "server.ready_when_exhausted",
        ],
    ),
    group(
        "Internals",
        "DNS cache, session cache and supervision of the actors.",
        &["dns", "sessions", "supervision"],
    ),
];

/// The group of a key, and the position of its member in the group.
pub(crate) fn of_key(key: &str) -> Option<(usize, usize)> {
    let is_match =
        |member: &str| key.strip_prefix(member).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let members = GROUPS.iter().enumerate().flat_map(|(group, Group { members, .. })| {
        members.iter().enumerate().map(move |(at, member)| (group, at, *member))
    });
    let matching = members.filter(|(_, _, member)| is_match(member));
    matching.max_by_key(|(_, _, member)| member.len()).map(|(group, at, _)| (group, at))
}
