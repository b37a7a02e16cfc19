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

use tidegate_actors::{CredentialId, clock};
use tidegate_config::Credentials;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(crate) use injected::InjectedHeaders;
use renewal::renewal_loop;

use crate::shortage::Shortage;
use crate::upstream::UpstreamRejection;
use crate::upstream::rules::refresh_health::{FailingRefresh, RefreshHealth};

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
pub(crate) struct RenewedCredentials(watch::Sender<RenewalState>, Arc<RefreshHealth>);

/// The tasks that renew credentials or keys. Dropping it ends them.
#[derive(Debug, Default)]
pub(crate) struct RenewalTasks(Vec<JoinHandle<()>>);

impl RenewalTasks {
    pub(crate) fn push(&mut self, task: JoinHandle<()>) {
        self.0.push(task);
    }
}

impl Drop for RenewalTasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// The renewal of one credential, for the status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RenewalView {
    /// Which of several credentials; none if the bucket has one.
    pub(crate) credential: Option<CredentialId>,
    /// Whether there are credentials that have not expired.
    pub(crate) is_usable: bool,
    pub(crate) failing: FailingRefresh,
    /// When the present credentials expire.
    pub(crate) expires: Option<SystemTime>,
}

impl RenewedCredentials {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(RenewalState::Requested), Arc::default())
    }

    fn publish(&self, credentials: Credentials, expires: Option<SystemTime>) {
        self.1.record_success();
        self.0.send_replace(RenewalState::Available { credentials: Arc::new(credentials), expires });
    }

    /// Records a failed renewal, which is tried again after `pause`.
    fn record_failure(&self, error: String, pause: Duration) {
        self.1.record_failure(error, Some(pause), clock::now());
        self.set_missing();
    }

    /// None while renewals succeed.
    fn view(&self, credential: Option<CredentialId>, now: SystemTime) -> Option<RenewalView> {
        let failing = self.1.current()?;
        let (has_value, expires) = match &*self.0.borrow() {
            RenewalState::Available { expires, .. } => (true, *expires),
            RenewalState::Requested | RenewalState::Missing | RenewalState::Shortage(_) => (false, None),
        };
        let is_usable = has_value && expires.is_none_or(|expires| now < expires);
        Some(RenewalView { credential, is_usable, failing, expires })
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

    /// The renewals that fail.
    pub(crate) fn failing_renewals(&self, now: SystemTime) -> Vec<RenewalView> {
        match self {
            Self::Unsigned | Self::Fixed(_) | Self::Injected(_) => Vec::new(),
            Self::Renewed(renewed) => renewed.view(None, now).into_iter().collect(),
            Self::Pooled(all) => {
                let view = |(index, one): (usize, &Self)| match one {
                    Self::Renewed(renewed) => renewed.view(Some(CredentialId(index)), now),
                    _ => None,
                };
                all.iter().enumerate().filter_map(view).collect()
            }
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

    /// X10: a renewal that fails is published, with whether the old credentials are still in use
    #[test]
    fn a_failing_renewal_is_published() {
        let renewed = RenewedCredentials::new();
        let source = CredentialSource::Pooled(
            [CredentialSource::Unsigned, CredentialSource::Renewed(renewed.clone())].into(),
        );
        let now = clock::wall();
        assert_eq!(source.failing_renewals(now), []);
        renewed.record_failure("one".to_owned(), Duration::from_secs(1));
        let view = |at| source.failing_renewals(at).into_iter().map(|view| (view.credential, view.is_usable));
        assert_eq!(view(now).collect::<Vec<_>>(), [(Some(CredentialId(1)), false)]);
        renewed.publish(credentials("A"), Some(now + Duration::from_secs(10)));
        assert_eq!(source.failing_renewals(now), []);
        renewed.record_failure("two".to_owned(), Duration::from_secs(1));
        assert_eq!(view(now).next(), Some((Some(CredentialId(1)), true)));
        assert_eq!(view(now + Duration::from_secs(10)).next(), Some((Some(CredentialId(1)), false)));
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
