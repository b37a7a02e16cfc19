//! Credentials of an API, which are sent in a header (H1, C4).
//!
//! Client headers with the name of any injected credential are removed, also if the request uses another credential:
//! the upstream must not get two. The same holds for every other header that has credentials by custom or in another
//! bucket: an upstream that used a client's credential instead of the injected one would refuse a valid credential.
//! The values are marked as sensitive, so that `Debug` does not print them.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue, InvalidHeaderName, InvalidHeaderValue};
use thiserror::Error;
use tidegate_actors::CredentialId;
use tidegate_config::{Identity, PooledCredential};

/// Why a credential cannot be sent in a header.
#[derive(Debug, Error)]
pub(crate) enum InjectedHeaderError {
    #[error("header name: {0}")]
    Name(#[from] InvalidHeaderName),
    #[error("header value: {0}")]
    Value(#[from] InvalidHeaderValue),
}

/// Headers that contain credentials by custom: RFC 9110 section 11.6.2, and those of common APIs and their gateways.
const CUSTOMARY: [&str; 6] =
    ["authorization", "x-api-key", "api-key", "x-goog-api-key", "x-auth-token", "ocp-apim-subscription-key"];

/// The headers of a bucket's credentials, in the order of the configuration.
#[derive(Debug)]
pub(crate) struct InjectedHeaders {
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Other names that are removed from client requests.
    removed: Vec<HeaderName>,
}

impl InjectedHeaders {
    /// `of_others` are the credentials of all buckets.
    pub(crate) fn new<'a>(
        credentials: &[PooledCredential],
        of_others: impl Iterator<Item = &'a PooledCredential>,
    ) -> Result<Self, InjectedHeaderError> {
        let mut removed: Vec<HeaderName> = CUSTOMARY.map(HeaderName::from_static).into();
        for other in of_others {
            if let Identity::Header { name, .. } = &other.identity
                && !removed.iter().any(|known| known.as_str() == name)
            {
                removed.push(HeaderName::try_from(name.as_str())?);
            }
        }
        let mut headers = Vec::new();
        for credential in credentials {
            if let Identity::Header { name, value } = &credential.identity {
                let mut value = HeaderValue::from_str(value.expose())?;
                value.set_sensitive(true);
                headers.push((HeaderName::try_from(name.as_str())?, value));
            }
        }
        Ok(Self { headers, removed })
    }

    /// The names of client headers that are removed.
    pub(crate) fn removed_names(&self) -> impl Iterator<Item = &HeaderName> {
        self.removed.iter().chain(self.headers.iter().map(|(name, _)| name))
    }

    /// Adds a credential.
    pub(crate) fn insert(&self, credential: CredentialId, headers: &mut HeaderMap) {
        if let Some((name, value)) = self.headers.get(credential.0) {
            headers.insert(name.clone(), value.clone());
        }
    }
}
