//! Client keys with a session token or an end.

use std::time::{Duration, SystemTime};

use super::{DEMO, from_toml, lines};

fn key(more: &str) -> String {
    format!(
        "{DEMO}[policies.all]\nbuckets = [\"*\"]\nmethods = [\"read\"]\n\
         [keys.K]\nsecret = \"secret-of-k\"\npolicy = \"all\"\n{more}\n"
    )
}

/// A1
#[test]
fn an_expiry_time_has_an_offset() {
    for text in ["\"1970-01-02T01:00:00+01:00\"", "\"1970-01-02T00:00:00Z\"", "1970-01-02T00:00:00Z"] {
        let config = from_toml(&key(&format!("expires = {text}\nsession_token = \"t\""))).unwrap();
        let read = &config.keys["K"];
        assert_eq!(read.expires, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(86_400)), "{text}");
        assert_eq!(read.session_token.as_ref().unwrap().expose(), "t");
    }
}

/// A1
#[test]
fn invalid_temporary_keys_are_rejected() {
    let problems_of = |more: &str| lines(from_toml(&key(more))).join("\n");
    for text in ["tomorrow", "2027-01-31", "2027-01-31T18:00:00", "1960-01-01T00:00:00Z"] {
        let problems = problems_of(&format!("expires = \"{text}\""));
        assert!(
            problems.contains("keys.K.expires") && problems.contains("2027-01-31T18:00:00Z"),
            "{problems}"
        );
    }
    let problems = problems_of("session_token = \"t\"\nupstream = \"same\"");
    assert!(
        problems.contains("keys.K.session_token") && problems.contains("is never forwarded"),
        "{problems}"
    );
}
