//! What an unknown key was probably meant to be (G1, G9).

use super::{from_toml, lines};

/// G1
#[test]
fn a_section_in_the_singular_names_the_plural() {
    for (text, expected) in [
        (
            "[bucket.x]\nauth = [\"anonymous\"]",
            "bucket.x.auth: unknown key (from t.toml); did you mean buckets.x.auth?",
        ),
        (
            "[bucket.x.s3]\nendpoints = [\"http://a\"]",
            "bucket.x.s3.endpoints: unknown key (from t.toml); did you mean buckets.x.s3.endpoints?",
        ),
        ("[bucket.x]", "bucket.x: unknown key (from t.toml); did you mean buckets.x?"),
        (
            "[policy.p]\nmethods = []",
            "policy.p.methods: unknown key (from t.toml); did you mean policies.p.methods?",
        ),
        ("[key.k]\npolicy = \"p\"", "key.k.policy: unknown key (from t.toml); did you mean keys.k.policy?"),
        (
            "[api_key.k]\npolicy = \"p\"",
            "api_key.k.policy: unknown key (from t.toml); did you mean api_keys.k.policy?",
        ),
    ] {
        assert_eq!(lines(from_toml(text)), [expected]);
    }
}

/// G9
#[test]
fn keys_of_the_older_plan_name_their_new_place() {
    for (old, new) in [
        ("server.rate_limit.requests_per_second", "rate_limit.global.requests_per_second"),
        ("server.connection_pool_size", "buckets.NAME.s3.connection_pool.size"),
        ("buckets.demo.s3.connection_pool_size", "buckets.demo.s3.connection_pool.size"),
        ("buckets.demo.max_idle_connections", "buckets.demo.s3.connection_pool.max_idle"),
        ("buckets.demo.path_prefix", "buckets.demo.pattern"),
        (
            "buckets.demo.circuit_breaker.failure_threshold",
            "buckets.demo.s3.circuit_breaker.failure_threshold",
        ),
    ] {
        let found = lines(from_toml(&format!("{old} = 1\nbuckets.demo.s3.endpoints = [\"http://a\"]\n")));
        assert_eq!(found, [format!("{old}: unknown key (from t.toml); did you mean {new}?")]);
    }
}

/// G1: of the sections that have the key, the one with the nearest name
#[test]
fn a_section_that_is_nearly_right_names_the_right_one() {
    for (key, meant) in [
        ("rate_limit.per-ip.burst", "rate_limit.per_ip.burst"),
        ("ratelimit.per_ip.burst", "rate_limit.per_ip.burst"),
        ("rate-limit.per-key.requests_per_second", "rate_limit.per_key.requests_per_second"),
        ("rate_limit.subject.mode", "rate_limit.per_subject.mode"),
        ("rate_limit.failed-auth.mode", "rate_limit.failed_auth.mode"),
        ("ratelimits.global.burst", "rate_limit.global.burst"),
    ] {
        let found = lines(from_toml(&format!("{key} = 1\n")));
        assert_eq!(found, [format!("{key}: unknown key (from t.toml); did you mean {meant}?")]);
    }
}

/// G1: a policy names buckets as clients do, by their pattern
#[test]
fn a_policy_with_the_name_of_a_bucket_section_gets_its_pattern_as_a_hint() {
    for (name, pattern, meant) in [
        ("photos", "my-photos", "my-photos"),
        ("archiv", "2027-*", "2027-*"),
        ("my-photo", "my-photos", "my-photos"),
    ] {
        let section = if name == "my-photo" { "photos" } else { name };
        let text = format!(
            "buckets.{section} = {{ pattern = \"{pattern}\", s3.endpoints = [\"http://a\"] }}\n\
             policies.r = {{ buckets = [\"{name}\"], methods = [\"read\"] }}\n"
        );
        let expected = format!(
            "policies.r.buckets: no bucket serves the name \"{name}\" (from t.toml); did you mean {meant}?"
        );
        assert_eq!(lines(from_toml(&text)), [expected]);
    }
}
