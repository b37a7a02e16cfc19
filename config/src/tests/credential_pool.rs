//! Credentials with names (C3, C4, C5).

use super::{from_toml, from_variables, lines};
use crate::{Identity, Secret, is_secret_variable};

fn api(keys: &str) -> String {
    format!("[buckets.b]\nkind = \"http\"\n[buckets.b.http]\nendpoints = [\"http://a\"]\n{keys}\n")
}

/// C3: named pairs and headers, with their default limits
#[test]
fn credentials_are_read_by_name() {
    let store = "[buckets.b.s3]\nendpoints = [\"http://a\"]\n[buckets.b.s3.credentials.one]\naccess_key_id = \"A\"\n\
                 secret_access_key = \"s\"\n[buckets.b.s3.credentials.two]\naccess_key_id = \"B\"\n\
                 secret_access_key = \"t\"\nmax_concurrent = 7\nquota_group = \"account\"\n";
    let upstream = &from_toml(store).unwrap().buckets["b"].upstream;
    let seen: Vec<_> = upstream
        .credentials_by_name
        .iter()
        .map(|one| (one.name.as_str(), one.max_concurrent.get(), one.quota_group.as_deref()))
        .collect();
    assert_eq!(seen, [("one", 50, None), ("two", 7, Some("account"))]);
    assert_eq!(upstream.credentials, None);
    let keys = "[buckets.b.http.credentials.k]\nheader = \"X-Api-Key\"\nvalue = \"Bearer s\"\n";
    let config = from_toml(&api(keys)).unwrap();
    let [one] = &config.buckets["b"].upstream.credentials_by_name[..] else { panic!("one credential") };
    let header = Identity::Header { name: "x-api-key".to_owned(), value: Secret::new("Bearer s") };
    assert_eq!((&one.identity, one.max_concurrent.get()), (&header, 1));
    assert!(!format!("{config:?}").contains("Bearer s"), "redacted");
}

/// C3, C5: variables set them, and variables with a secret are recognised
#[test]
fn variables_name_credentials() {
    let config = from_variables(&[
        ("TIDEGATE_BUCKETS__B__KIND", "http"),
        ("TIDEGATE_BUCKETS__B__HTTP__ENDPOINTS", "http://a"),
        ("TIDEGATE_BUCKETS__B__HTTP__CREDENTIALS__FIRST__VALUE", "one"),
        ("TIDEGATE_BUCKETS__B__HTTP__CREDENTIALS__SECOND__VALUE", "two"),
    ])
    .unwrap();
    let names = config.buckets["b"].upstream.credentials_by_name.iter().map(|one| one.name.as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["first", "second"]);
    assert!(is_secret_variable("TIDEGATE_BUCKETS__B__HTTP__CREDENTIALS__FIRST__VALUE"));
    assert!(is_secret_variable("TIDEGATE_BUCKETS__B__S3__CREDENTIALS__X__SECRET_ACCESS_KEY"));
    assert!(!is_secret_variable("TIDEGATE_BUCKETS__B__HTTP__CREDENTIALS__FIRST__HEADER"));
}

/// C3, C4: invalid credentials stop the start, and the error does not show the secret
#[test]
fn bad_credentials_are_refused() {
    for (keys, expected) in [
        (
            "[buckets.b.http.credentials.k]\nheader = \"x\"",
            "credentials.k.value: a credential needs a value (not set); set it, or \
             buckets.b.http.credentials.k.value_file",
        ),
        (
            "credentials.k.value = \"hunter\\n2\"",
            "credentials.k.value: has characters that a header cannot have: it must be one line of ASCII (from t.toml)",
        ),
        (
            "credentials.k = { value = \"s\", header = \"Host\" }",
            "credentials.k.header: \"host\" is reserved for another purpose (from t.toml); use a header such as \
             authorization or x-api-key",
        ),
        (
            "credentials.one.value = \"hunter2\"\ncredentials.two.value = \"hunter2\"",
            "credentials.two: is the same credential as buckets.b.http.credentials.one (from t.toml); remove one of \
             them: each named credential has its own limit",
        ),
        (
            "credentials.\"a b\".value = \"s\"",
            "credentials.\"a b\": is not the name of a credential: 1 to 64 letters, digits and -_. are allowed (from t.toml)",
        ),
        (
            "credential_pool = { cool_down_seconds = 9, max_cool_down_seconds = 3 }",
            "credential_pool.cool_down_seconds: 9 must be at most \
             buckets.b.http.credential_pool.max_cool_down_seconds (3) (from t.toml)",
        ),
    ] {
        assert_eq!(lines(from_toml(&api(keys))), [format!("buckets.b.http.{expected}")], "{keys}");
    }
    let both = "[buckets.b.s3]\nendpoints = [\"http://a\"]\naccess_key_id = \"A\"\nsecret_access_key = \"s\"\n\
                credentials.k = { access_key_id = \"B\", secret_access_key = \"t\" }\n";
    let expected = "buckets.b.s3.credentials: cannot be set together with buckets.b.s3.access_key_id (from t.toml); set one of them: a bucket has one source of credentials";
    assert_eq!(lines(from_toml(both)), [expected]);
    let none = "[buckets.b.s3]\nendpoints = [\"http://a\"]\ncredentials.k.max_concurrent = 3\n";
    let expected = "buckets.b.s3.credentials.k.access_key_id: a credential needs a key pair (not set)";
    assert_eq!(lines(from_toml(none)), [expected]);
}
