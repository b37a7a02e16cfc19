//! The credentials that a bucket's requests are signed with (A2).
//!
//! Credentials in the configuration never change. Those of an endpoint expire. One task per bucket renews them ahead
//! of time and off the request path, so that no two requests ask for the same renewal and only the first ones wait.
//! Requests read the last published value. After a failed renewal the old credentials stay in use until they expire;
//! from then on requests are rejected, because the store would reject their signatures.
//!
//! If a bucket has several credentials, its pool reserves one with each permit. Those of an API are headers, see
//! `injected.rs`.

mod document;
mod injected;
mod renewal;
pub(crate) mod sources;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidegate_actors::CredentialId;
use tidegate_config::Credentials;
use tokio::sync::watch;
use tokio::time::timeout;

pub(crate) use injected::InjectedHeaders;
use renewal::renewal_loop;

use crate::shortage::Shortage;
use crate::upstream::UpstreamRejection;

/// How long a request waits for the first credentials.
const FIRST_WAIT_MAX: Duration = Duration::from_secs(5);

/// The last published state.
enum RenewalState {
    /// The first response is still to come.
    Requested,
    /// There are no credentials.
    Missing,
    /// There are no credentials, because the gateway lacked the resources to request them.
    Shortage(Shortage),
    /// These credentials, until `expires`.
    Available { credentials: Arc<Credentials>, expires: Option<SystemTime> },
}

/// The credentials of a bucket, for all worker threads.
#[derive(Clone)]
pub(crate) enum CredentialSource {
    /// Requests are sent unsigned.
    Unsigned,
    /// Credentials that never change.
    Fixed(Arc<Credentials>),
    /// Credentials that are renewed.
    Renewed(RenewedCredentials),
    /// One of several, each with its own source. The pool selects one for each permit.
    Pooled(Arc<[Self]>),
    /// Headers of an API instead of signatures, one of several.
    Injected(Arc<InjectedHeaders>),
}

/// Credentials that are renewed.
#[derive(Clone)]
pub(crate) struct RenewedCredentials(watch::Sender<RenewalState>);

impl RenewedCredentials {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(RenewalState::Requested))
    }

    fn publish(&self, credentials: Credentials, expires: Option<SystemTime>) {
        self.0.send_replace(RenewalState::Available { credentials: Arc::new(credentials), expires });
    }

    fn set_missing(&self) {
        self.0.send_if_modified(|state| {
            let is_first = matches!(state, RenewalState::Requested | RenewalState::Shortage(_));
            if is_first {
                *state = RenewalState::Missing;
            }
            is_first
        });
    }
}

impl RenewedCredentials {
    /// Records that the endpoint could not be called because of a shortage in the gateway.
    fn set_shortage(&self, shortage: Shortage) {
        self.0.send_if_modified(|state| {
            let is_without = matches!(state, RenewalState::Requested | RenewalState::Missing);
            if is_without {
                *state = RenewalState::Shortage(shortage);
            }
            is_without
        });
    }
}

impl CredentialSource {
    /// The source of one credential, if there are several.
    pub(crate) fn of_credential(&self, credential: Option<CredentialId>) -> &Self {
        match (self, credential) {
            (Self::Pooled(all), Some(credential)) => &all[credential.0],
            _ => self,
        }
    }

    /// The headers for the credentials of an API.
    pub(crate) fn injected(&self) -> Option<&Arc<InjectedHeaders>> {
        match self {
            Self::Injected(injected) => Some(injected),
            _ => None,
        }
    }

    /// Whether requests are signed.
    pub(crate) fn is_signing(&self) -> bool {
        !matches!(self, Self::Unsigned | Self::Injected(_))
    }

    /// Waits for the first result of a renewal. Costs nothing afterwards.
    pub(crate) async fn wait_until_known(&self) {
        let Self::Renewed(renewed) = self else { return };
        if matches!(*renewed.0.borrow(), RenewalState::Requested) {
            let mut changes = renewed.0.subscribe();
            // After the timeout, `current` returns the error.
            let _ =
                timeout(FIRST_WAIT_MAX, changes.wait_for(|state| !matches!(state, RenewalState::Requested)))
                    .await;
        }
    }

    /// The credentials to sign with. None if requests are sent unsigned.
    pub(crate) fn current(&self, now: SystemTime) -> Result<Option<Arc<Credentials>>, UpstreamRejection> {
        let renewed = match self {
            // Without a selected credential there is none to sign with.
            Self::Unsigned | Self::Pooled(_) | Self::Injected(_) => return Ok(None),
            Self::Fixed(credentials) => return Ok(Some(Arc::clone(credentials))),
            Self::Renewed(renewed) => renewed,
        };
        match &*renewed.0.borrow() {
            RenewalState::Available { credentials, expires }
                if expires.is_none_or(|expires| now < expires) =>
            {
                Ok(Some(Arc::clone(credentials)))
            }
            RenewalState::Available { .. } => {
                Err(UpstreamRejection::NoCredentials("they expired and could not be renewed"))
            }
            RenewalState::Requested => {
                Err(UpstreamRejection::NoCredentials("their endpoint has not responded yet"))
            }
            RenewalState::Shortage(shortage) => Err(UpstreamRejection::Shortage(*shortage)),
            RenewalState::Missing => Err(UpstreamRejection::NoCredentials("their endpoint returned none")),
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_actors::clock;
    use tidegate_config::Secret;

    use super::*;

    fn credentials(id: &str) -> Credentials {
        let secret_access_key = Secret::new("s");
        Credentials { access_key_id: id.to_owned(), secret_access_key, session_token: None }
    }

    /// A2: after a failed renewal the old credentials stay in use until they expire
    #[test]
    fn old_credentials_are_used_until_they_expire() {
        let renewed = RenewedCredentials::new();
        let source = CredentialSource::Renewed(renewed.clone());
        let now = clock::wall();
        assert!(matches!(source.current(now), Err(UpstreamRejection::NoCredentials(_))));
        renewed.publish(credentials("A"), Some(now + Duration::from_secs(10)));
        renewed.set_missing();
        let id = |at| source.current(at).map(|found| found.map(|found| found.access_key_id.clone()));
        assert_eq!(id(now + Duration::from_secs(9)).unwrap().as_deref(), Some("A"));
        assert!(id(now + Duration::from_secs(10)).is_err());
        renewed.set_shortage(Shortage::Descriptors);
        renewed.publish(credentials("B"), None);
        assert_eq!(id(now + Duration::from_secs(10)).unwrap().as_deref(), Some("B"));
    }

    /// X9: a shortage in the gateway is not a failure of the endpoint, and a later failure replaces it
    #[test]
    fn a_shortage_is_reported_as_a_shortage() {
        let renewed = RenewedCredentials::new();
        let source = CredentialSource::Renewed(renewed.clone());
        renewed.set_shortage(Shortage::Descriptors);
        let found = source.current(clock::wall());
        assert!(matches!(found, Err(UpstreamRejection::Shortage(Shortage::Descriptors))));
        renewed.set_missing();
        assert!(matches!(source.current(clock::wall()), Err(UpstreamRejection::NoCredentials(_))));
    }

    /// A2: the first request waits for the first result, and gets a failure at once
    #[tokio::test(start_paused = true)]
    async fn the_first_result_is_waited_for() {
        let renewed = RenewedCredentials::new();
        let source = CredentialSource::Renewed(renewed.clone());
        let waiting = tokio::spawn(async move {
            source.wait_until_known().await;
            source.current(clock::wall()).is_ok()
        });
        tokio::task::yield_now().await;
        renewed.publish(credentials("A"), None);
        assert!(waiting.await.unwrap());
        let (began, failing) = (tokio::time::Instant::now(), RenewedCredentials::new());
        failing.set_missing();
        CredentialSource::Renewed(failing).wait_until_known().await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        CredentialSource::Renewed(RenewedCredentials::new()).wait_until_known().await;
        assert_eq!(began.elapsed(), FIRST_WAIT_MAX);
    }
}
