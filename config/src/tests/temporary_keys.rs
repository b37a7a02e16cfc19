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
fn an_end_is_read_with_its_offset() {
    for text in ["\"1970-01-02T01:00:00+01:00\"", "\"1970-01-02T00:00:00Z\"", "1970-01-02T00:00:00Z"] {
        let config = from_toml(&key(&format!("expires = {text}\nsession_token = \"t\""))).unwrap();
        let read = &config.keys["K"];
        assert_eq!(read.expires, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(86_400)), "{text}");
        assert_eq!(read.session_token.as_ref().unwrap().expose(), "t");
    }
}

/// A1
#[test]
fn what_a_temporary_key_cannot_be_is_refused() {
    let problem = |more: &str| lines(from_toml(&key(more))).join("\n");
    for text in ["tomorrow", "2027-01-31", "2027-01-31T18:00:00", "1960-01-01T00:00:00Z"] {
        let told = problem(&format!("expires = \"{text}\""));
        assert!(told.contains("keys.K.expires") && told.contains("2027-01-31T18:00:00Z"), "{told}");
    }
    let told = problem("session_token = \"t\"\nupstream = \"same\"");
    assert!(told.contains("keys.K.session_token") && told.contains("is never forwarded"), "{told}");
}
