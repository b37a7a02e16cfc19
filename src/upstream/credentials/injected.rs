//! Credentials of an API, which travel in a header (H1, C4).
//!
//! Whatever a client sends under one of their names ends here, also under the name of a credential that is not the request's
//! own: the upstream must not be offered two. The values are marked as sensitive, which keeps them out of `Debug`.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue, InvalidHeaderName, InvalidHeaderValue};
use thiserror::Error;
use tidegate_actors::CredentialId;
use tidegate_config::{Identity, PooledCredential};

/// Why a credential cannot be a header.
#[derive(Debug, Error)]
pub(crate) enum InjectedError {
    #[error("its header's name: {0}")]
    Name(#[from] InvalidHeaderName),
    #[error("its value: {0}")]
    Value(#[from] InvalidHeaderValue),
}

/// The headers of a bucket's credentials, in the order of the configuration.
#[derive(Debug)]
pub(crate) struct Injected(Vec<(HeaderName, HeaderValue)>);

impl Injected {
    pub(crate) fn new(credentials: &[PooledCredential]) -> Result<Self, InjectedError> {
        let mut headers = Vec::new();
        for credential in credentials {
            if let Identity::Header { name, value } = &credential.identity {
                let mut value = HeaderValue::from_str(value.expose())?;
                value.set_sensitive(true);
                headers.push((HeaderName::try_from(name.as_str())?, value));
            }
        }
        Ok(Self(headers))
    }

    /// The names under which a client's headers end here.
    pub(crate) fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.0.iter().map(|(name, _)| name)
    }

    /// Adds a credential.
    pub(crate) fn add(&self, credential: CredentialId, headers: &mut HeaderMap) {
        if let Some((name, value)) = self.0.get(credential.0) {
            headers.insert(name.clone(), value.clone());
        }
    }
}
