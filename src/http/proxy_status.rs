//! The header `Proxy-Status` (RFC 9209): why the gateway answered itself, in the RFC's words.
//!
//! `ERROR_TYPES` is the one table from a reason to a registered error type ("HTTP Proxy Error Types", IANA). A test compares it with
//! `docs/errors.md`, so no reason lacks its type. The gateway's member is `tidegate;error=TYPE;details="REASON"`. The members of an
//! upstream are kept if they are well-formed, and the gateway's follows them, because the list begins with the proxy that is nearest to
//! the origin (RFC 9209, 2).

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

/// The header.
pub(crate) const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// The gateway's name in the header.
const NAME: &str = "tidegate";

/// An error type of RFC 9209, 2.3, and the reasons that have it.
type ErrorType = (&'static str, &'static [&'static str]);

const ERROR_TYPES: [ErrorType; 16] = [
    (
        "connection_limit_reached",
        &[
            "body_memory",
            "client_concurrency",
            "credentials_throttled",
            "exhausted",
            "memory_pressure",
            "out_of_descriptors",
            "out_of_memory",
            "out_of_ports",
            "queue_displaced",
            "queue_full",
            "queue_overload",
            "queue_timeout",
            "queue_too_long",
            "shed",
            "shed_bucket",
            "shed_upload",
            "slow_client",
            "too_many_pending_forms",
            "too_many_preflights",
            "too_many_requests_in_flight",
        ],
    ),
    ("connection_read_timeout", &["timeout_body_rate", "form_timeout"]),
    ("connection_refused", &["upstream_connect"]),
    ("connection_terminated", &["upstream_connection_reused_closed", "upstream_reset"]),
    ("connection_timeout", &["timeout_connect"]),
    ("connection_write_timeout", &["timeout_upload"]),
    ("dns_error", &["upstream_dns"]),
    ("destination_not_found", &["no_bucket", "no_such_bucket"]),
    (
        "destination_unavailable",
        &[
            "breaker_forced_open",
            "breaker_half_open",
            "breaker_open",
            "bucket_draining",
            "bucket_list_incomplete",
            "endpoints_draining",
        ],
    ),
    ("http_protocol_error", &["decode_failed", "upstream_redirect"]),
    (
        "http_request_denied",
        &[
            "anonymous_denied",
            "anonymous_override",
            "api_key_unknown",
            "bucket_closed",
            "chunk_signature",
            "clock_skewed",
            "copy_source",
            "cors",
            "date_missing",
            "form_denied",
            "header_not_signed",
            "injection",
            "key_expired",
            "key_withdrawn",
            "not_signed",
            "path",
            "policy_denied",
            "presigned_early",
            "presigned_expired",
            "rate_limit_bucket",
            "rate_limit_failed_auth",
            "rate_limit_global",
            "rate_limit_ip",
            "rate_limit_key",
            "rate_limit_subject",
            "response_parameter",
            "security_token",
            "session_malformed",
            "signature_mismatch",
            "sigv2_lifetime",
            "sigv2_uncovered",
            "token_algorithm",
            "token_audience",
            "token_claim",
            "token_early",
            "token_expired",
            "token_grants",
            "token_issuer",
            "token_key",
            "token_malformed",
            "token_repeated",
            "token_signature",
            "unknown_key",
            "unproven",
        ],
    ),
    (
        "http_request_error",
        &[
            "authorization_malformed",
            "authorization_scheme",
            "body_malformed",
            "body_too_large",
            "bucket_list_parameter",
            "checksum_algorithm",
            "checksum_malformed",
            "checksum_mismatch",
            "chunk_framing",
            "chunk_overhead",
            "chunk_too_large",
            "client_gone",
            "conflicting_parameters",
            "content_sha256_malformed",
            "content_sha256_missing",
            "deadline",
            "decoded_length",
            "delete_list",
            "document_length",
            "dot_segment",
            "form_field",
            "form_field_not_implemented",
            "form_fields_too_large",
            "form_file_size",
            "form_malformed",
            "form_policy",
            "form_signature_malformed",
            "form_tagging",
            "framing",
            "headers_too_large",
            "host",
            "length_required",
            "md5_malformed",
            "md5_mismatch",
            "method",
            "payload_hash",
            "preflight",
            "presigned_malformed",
            "proxy_header",
            "sha256_mismatch",
            "signature_ambiguous",
            "signature_not_implemented",
            "sigv2_chunks",
            "sigv2_malformed",
            "sigv4a",
            "target",
            "too_many_headers",
            "trailer_malformed",
            "trailer_unsupported",
            "uri_too_long",
        ],
    ),
    (
        "http_response_timeout",
        &["timeout_deadline", "timeout_first_byte", "timeout_long_operation", "timeout_total"],
    ),
    (
        "proxy_configuration_error",
        &["credentials_refused", "upstream_clock_skew", "upstream_credentials", "upstream_region"],
    ),
    (
        "proxy_internal_error",
        &[
            "breaker_unavailable",
            "limiter_unavailable",
            "monitor_unavailable",
            "panic",
            "pool_unavailable",
            "token_keys",
        ],
    ),
    ("tls_certificate_error", &["upstream_tls", "upstream_tls_host"]),
];

/// The error type of a reason.
fn error_type(reason: &str) -> &'static str {
    let found = ERROR_TYPES.iter().find(|(_, reasons)| reasons.contains(&reason));
    found.map_or("proxy_internal_error", |(name, _)| name)
}

/// Adds the gateway's member about a refusal.
pub(crate) fn write_refusal(reason: &str, headers: &mut HeaderMap) {
    // Reasons have no character that a string of RFC 9651 must escape.
    append(headers, &format!("{NAME};error={};details=\"{reason}\"", error_type(reason)));
}

/// Adds the gateway's member to an upstream's error response that has members of other proxies.
///
/// One malformed value makes the whole header unreadable (RFC 9651, 4.2), and the gateway's name belongs to the gateway. So malformed
/// values and members with that name are removed first.
pub(crate) fn append_to_upstream(status: u16, headers: &mut HeaderMap) {
    if status < 400 || !headers.contains_key(PROXY_STATUS) {
        return;
    }
    let values: Vec<HeaderValue> = headers.remove(PROXY_STATUS).collect();
    for members in values.iter().filter_map(members_of_others) {
        append(headers, &members);
    }
    append(headers, &format!("{NAME};received-status={status}"));
}

/// The members of other proxies in a value; none if there are none, or if the value is no list.
fn members_of_others(value: &HeaderValue) -> Option<String> {
    // Visible ASCII, blanks and tabs. A list may have tabs only around its commas.
    let members = split_list(value.to_str().ok()?)?;
    let is_valid = |member: &&str| !member.is_empty() && !member.contains('\t');
    if !members.iter().all(is_valid) {
        return None;
    }
    let is_own = |member: &str| {
        let name = member.split(';').next().unwrap_or_default().trim().trim_matches('"');
        name.eq_ignore_ascii_case(NAME)
    };
    let others: Vec<&str> = members.into_iter().filter(|member| !is_own(member)).collect();
    (!others.is_empty()).then(|| others.join(", "))
}

/// Splits a list at its commas outside of strings; none if a string has no end.
fn split_list(list: &str) -> Option<Vec<&str>> {
    let (mut members, mut begin, mut is_string, mut is_escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            b',' if !is_string => {
                members.push(list[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
    }
    members.push(list[begin..].trim());
    (!is_string).then_some(members)
}

fn append(headers: &mut HeaderMap, member: &str) {
    if let Ok(value) = HeaderValue::from_str(member) {
        headers.append(PROXY_STATUS, value);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    const ERRORS: &str = include_str!("../../docs/errors.md");

    fn marked(name: &str) -> &'static str {
        let (begin, end) = (format!("<!-- {name}:begin -->"), format!("<!-- {name}:end -->"));
        ERRORS.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end)).unwrap().0
    }

    /// The words in backquotes in a column of a table.
    fn words(row: &str, column: usize) -> Vec<String> {
        let cell = row.split('|').nth(column).unwrap_or_default();
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    /// O4: each documented reason of a refusal has exactly one registered error type, and the documented types are those of the table
    #[test]
    fn every_reason_has_its_documented_error_type() {
        let refusals: BTreeSet<String> = marked("answer-reasons")
            .lines()
            .filter(|row| row.starts_with('|'))
            .flat_map(|row| words(row, 3))
            .collect();
        let listed: Vec<String> =
            ERROR_TYPES.iter().flat_map(|(_, reasons)| *reasons).map(|one| (*one).to_owned()).collect();
        assert!(refusals.len() > 100, "{}", refusals.len());
        assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), refusals);
        assert_eq!(listed.len(), refusals.len(), "no reason has two types");
        let mut documented: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for row in marked("proxy-status").lines().filter(|row| row.starts_with("| `")) {
            documented.entry(words(row, 1).pop().unwrap()).or_default().extend(words(row, 2));
        }
        let own = ERROR_TYPES.iter().map(|(name, reasons)| {
            ((*name).to_owned(), reasons.iter().map(|one| (*one).to_owned()).collect::<BTreeSet<_>>())
        });
        assert_eq!(own.collect::<BTreeMap<_, _>>(), documented);
    }

    /// O4: the member is a token with parameters, and an upstream's members come first
    #[test]
    fn the_gateways_member_follows_those_of_others() {
        let mut headers = HeaderMap::new();
        write_refusal("queue_full", &mut headers);
        let text = headers.get(PROXY_STATUS).unwrap().to_str().unwrap();
        assert_eq!(text, "tidegate;error=connection_limit_reached;details=\"queue_full\"");

        let mut headers = HeaderMap::new();
        append_to_upstream(502, &mut headers);
        assert!(headers.is_empty(), "no other proxy");
        headers.insert(PROXY_STATUS, HeaderValue::from_static("cdn;error=dns_timeout"));
        append_to_upstream(200, &mut headers);
        append_to_upstream(502, &mut headers);
        let members: Vec<_> = headers.get_all(PROXY_STATUS).map(|one| one.to_str().unwrap()).collect();
        assert_eq!(members, ["cdn;error=dns_timeout", "tidegate;received-status=502"]);
    }

    /// O4: members of others are found in any valid list, and no value that is no list is kept
    #[test]
    fn members_of_others_are_well_formed() {
        let kept = |bytes: &[u8]| members_of_others(&HeaderValue::from_bytes(bytes).unwrap());
        for (value, expected) in [
            (&b"cdn"[..], Some("cdn")),
            (b" cdn ,\tb;details=\"x, \\\"tidegate\"", Some("cdn, b;details=\"x, \\\"tidegate\"")),
            (b"tidegate", None),
            (b"tidegate;error=fake", None),
            (b"\"TideGate\" ;error=fake, cdn", Some("cdn")),
            (b"tidegate-2;error=dns_timeout", Some("tidegate-2;error=dns_timeout")),
            (b"cdn;details=\"", None),
            (b"cdn;details=\"\\\"", None),
            (b"cdn,", None),
            (b"", None),
            (b"cdn;\tx", None),
            (b"cdn;error=x\x80", None),
            (b"cdn;error=\xff", None),
        ] {
            assert_eq!(kept(value).as_deref(), expected, "{value:?}");
        }
    }
}
