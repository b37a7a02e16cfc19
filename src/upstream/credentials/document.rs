//! The credential document of a container platform.
//!
//! Source: AWS SDK reference, "Container credential provider": `AccessKeyId`, `SecretAccessKey`, `Token` and
//! `Expiration` (RFC 3339). Other fields are ignored.

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use tidegate_config::{Credentials, Secret};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Credentials and their expiry.
#[derive(Debug, PartialEq)]
pub(crate) struct Lease {
    pub(crate) credentials: Credentials,
    pub(crate) expires: Option<SystemTime>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CredentialDocument {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    expiration: Option<String>,
}

/// Parses a lease. The error text has no content of the document.
pub(crate) fn parse(bytes: &[u8]) -> Result<Lease, &'static str> {
    let document: CredentialDocument =
        serde_json::from_slice(bytes).map_err(|_| "no AccessKeyId and SecretAccessKey in JSON")?;
    let CredentialDocument { access_key_id, secret_access_key, token, expiration } = document;
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_word(&access_key_id) || !is_word(&secret_access_key) || !token.as_deref().is_none_or(is_word) {
        return Err("a key or the token is empty or contains blanks");
    }
    let expires =
        expiration.map(|text| parse_time(&text).ok_or("Expiration is not an RFC 3339 date")).transpose()?;
    let credentials = Credentials {
        access_key_id,
        secret_access_key: Secret::new(secret_access_key),
        session_token: token.map(Secret::new),
    };
    Ok(Lease { credentials, expires })
}

fn parse_time(text: &str) -> Option<SystemTime> {
    let seconds = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp();
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A2
    #[test]
    fn a_lease_is_read() {
        let text = br#"{"RoleArn":"r","AccessKeyId":"A","SecretAccessKey":"s/+=","Token":"t==","Expiration":"2026-11-20T12:00:00Z"}"#;
        let Lease { credentials, expires } = parse(text).unwrap();
        assert_eq!(credentials.access_key_id, "A");
        assert_eq!(credentials.secret_access_key.expose(), "s/+=");
        assert_eq!(credentials.session_token, Some(Secret::new("t==")));
        assert_eq!(expires, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_176_000)));
        let forever = parse(br#"{"AccessKeyId":"A","SecretAccessKey":"s"}"#).unwrap();
        assert_eq!((forever.credentials.session_token, forever.expires), (None, None));
    }

    /// A2, C4
    #[test]
    fn a_malformed_lease_is_refused_without_its_contents() {
        for (text, why) in [
            ("<html>", "in JSON"),
            (r#"{"AccessKeyId":"A"}"#, "in JSON"),
            (r#"{"AccessKeyId":"A","SecretAccessKey":""}"#, "empty"),
            (r#"{"AccessKeyId":"A","SecretAccessKey":"hunter2\n"}"#, "blanks"),
            (r#"{"AccessKeyId":"A","SecretAccessKey":"hunter2","Expiration":"soon"}"#, "RFC 3339"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(why) && !error.contains("hunter2"), "{text}: {error}");
        }
    }
}
