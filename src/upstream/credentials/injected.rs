//! Credentials of an API, which travel in a header (H1, C4).
//!
//! Whatever a client sends under one of their names ends here, also under the name of a credential that is not the request's
//! own: the upstream must not be offered two. So does every other header that carries credentials by custom or in another bucket:
//! an upstream that read a client's own in place of the injected one would refuse a credential that is good. The
//! values are marked as sensitive, which keeps them out of `Debug`.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue, InvalidHeaderName, InvalidHeaderValue};
use thiserror::Error;
use tidegate_actors::CredentialId;
use tidegate_config::{Identity, PooledCredential};

/// Why a credential cannot be a header.
#[derive(Debug, Error)]
pub(crate) enum InjectedHeaderError {
    #[error("its header's name: {0}")]
    Name(#[from] InvalidHeaderName),
    #[error("its value: {0}")]
    Value(#[from] InvalidHeaderValue),
}

/// Headers that carry credentials by custom: RFC 9110 section 11.6.2, and those of common APIs and their gateways.
const CUSTOMARY: [&str; 6] =
    ["authorization", "x-api-key", "api-key", "x-goog-api-key", "x-auth-token", "ocp-apim-subscription-key"];

/// The headers of a bucket's credentials, in the order of the configuration.
#[derive(Debug)]
pub(crate) struct InjectedHeaders {
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What a client may not send, beside the names of those.
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

    /// The names under which a client's headers end here.
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
