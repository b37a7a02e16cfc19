//! Which headers travel on (V7).
//!
//! Hop-by-hop headers and what `Connection` nominates end here, in both directions. Towards the upstream also end: what
//! proves the client's identity (S3), the gateway's own headers, and `Expect`, which the gateway answers itself.
//! A store that looks headers up as CGI variables reads `_` as `-`: Ceph's RGW 16 takes `x_amz_copy_source` for the copy source that
//! the gateway did not check. So such spellings of S3's headers end here as well.
//! Everything else is copied, repeated headers included, with its bytes unchanged.

use actix_web::http::header::{self, HeaderMap, HeaderName};
use tidegate_config::Kind;

use crate::auth::SESSION;
use crate::http::answer::{REASON, REQUEST_ID};

/// What the names of S3's own headers begin with.
const AMAZON: &str = "x-amz-";

/// The names that this message's `Connection` header nominates.
pub(crate) struct Nominated(Vec<String>);

impl Nominated {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut names = Vec::new();
        for value in headers.get_all(header::CONNECTION) {
            let Ok(text) = value.to_str() else { continue };
            let listed = text.split(',').map(str::trim).filter(|name| !name.is_empty());
            // The two everyday words name no header.
            names.extend(
                listed
                    .filter(|name| {
                        !name.eq_ignore_ascii_case("keep-alive") && !name.eq_ignore_ascii_case("close")
                    })
                    .map(str::to_ascii_lowercase),
            );
        }
        Self(names)
    }

    fn names(&self, name: &HeaderName) -> bool {
        self.0.iter().any(|nominated| nominated == name.as_str())
    }
}

fn hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Whether a client's header travels to the upstream.
pub(crate) fn travels_up(name: &HeaderName, kind: Kind, nominated: &Nominated) -> bool {
    if hop_by_hop(name) || nominated.names(name) {
        return false;
    }
    if matches!(name.as_str(), "host" | "content-length" | "expect")
        || [SESSION, REASON, REQUEST_ID].contains(name)
    {
        return false;
    }
    // A client's proof of identity is the gateway's business alone (A2).
    let is_proof = matches!(name.as_str(), "authorization" | "x-amz-security-token" | "x-amz-date");
    kind != Kind::S3 || !(is_proof || is_alias_of_amazons(name.as_str()))
}

/// Whether a name becomes one of S3's headers where `_` is read as `-`. The names of metadata may hold `_`.
fn is_alias_of_amazons(name: &str) -> bool {
    let fold = |byte: u8| if byte == b'_' { b'-' } else { byte };
    name.contains('_')
        && !name.starts_with("x-amz-meta-")
        && name.bytes().take(AMAZON.len()).map(fold).eq(AMAZON.bytes())
}

/// Whether an upstream's header travels to the client. Its length is said by the body, what the gateway says of itself not by
/// others.
pub(crate) fn travels_down(name: &HeaderName, nominated: &Nominated) -> bool {
    !hop_by_hop(name)
        && !matches!(name.as_str(), "content-length" | "x-request-id")
        && !name.as_str().starts_with("x-tidegate-")
        && !nominated.names(name)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    /// V7, V11
    #[test]
    fn nominated_and_internal_headers_end_here() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive, X-Secret"));
        let nominated = Nominated::of(&headers);
        let up = |name: &'static str| travels_up(&HeaderName::from_static(name), Kind::S3, &nominated);
        for gone in [
            "x-secret",
            "connection",
            "te",
            "authorization",
            "x-amz-security-token",
            "x-tidegate-session",
            "host",
            "x_amz_copy_source",
            "x-amz-copy_source",
            "x_amz-acl",
            "x-amz_meta-a",
        ] {
            assert!(!up(gone), "{gone}");
        }
        for kept in [
            "x-amz-meta-a_b",
            "x_meta",
            "x-amz-meta-a",
            "range",
            "if-match",
            "content-md5",
            "traceparent",
            "accept-encoding",
        ] {
            assert!(up(kept), "{kept}");
        }
        assert!(travels_up(&header::AUTHORIZATION, Kind::Http, &nominated));
    }
}
