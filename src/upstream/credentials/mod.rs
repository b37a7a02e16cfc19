//! As whom a bucket's requests are signed at this moment (A2).
//!
//! Credentials that stand in the configuration never change. Those of an endpoint expire, and are renewed by one task per
//! bucket, ahead of time and off the request path, so that no two requests ever ask for the same renewal and none waits for
//! one but the first. Requests read what was published last. A renewal that fails leaves the old credentials in use until they
//! expire; from then on requests are refused, for the store would refuse what they sign.
//!
//! Where a bucket has several, its pool reserves one with each permit; an API's are headers, see `injected.rs`.

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

/// How long a request waits for the very first credentials.
const FIRST_WAIT_MAX: Duration = Duration::from_secs(5);

/// What was published last.
enum RenewalState {
    /// The first answer is still to come.
    Requested,
    /// There are none.
    Missing,
    /// There are none, because the gateway had too little of something to ask for them.
    Shortage(Shortage),
    /// These, until then.
    Available { credentials: Arc<Credentials>, expires: Option<SystemTime> },
}

/// A bucket's credentials, for all worker threads.
#[derive(Clone)]
pub(crate) enum CredentialSource {
    /// Requests go up unsigned.
    Unsigned,
    /// These, for ever.
    Fixed(Arc<Credentials>),
    /// Whatever was renewed last.
    Renewed(RenewedCredentials),
    /// One of several, each a source of its own; which one, the pool says.
    Pooled(Arc<[Self]>),
    /// Headers of an API in place of signatures, one of several.
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
    /// The endpoint could not be asked for a shortage of the gateway's own.
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
    /// That of one credential, where there are several.
    pub(crate) fn of_credential(&self, credential: Option<CredentialId>) -> &Self {
        match (self, credential) {
            (Self::Pooled(all), Some(credential)) => &all[credential.0],
            _ => self,
        }
    }

    /// The headers that an API's credentials travel in.
    pub(crate) fn injected(&self) -> Option<&Arc<InjectedHeaders>> {
        match self {
            Self::Injected(injected) => Some(injected),
            _ => None,
        }
    }

    /// Whether it signs.
    pub(crate) fn signs(&self) -> bool {
        !matches!(self, Self::Unsigned | Self::Injected(_))
    }

    /// Waits until it is known whether there are credentials. Costs nothing from then on.
    pub(crate) async fn wait_until_known(&self) {
        let Self::Renewed(renewed) = self else { return };
        if matches!(*renewed.0.borrow(), RenewalState::Requested) {
            let mut news = renewed.0.subscribe();
            // Too late is seen by whoever asks for them next.
            let _ = timeout(FIRST_WAIT_MAX, news.wait_for(|state| !matches!(state, RenewalState::Requested)))
                .await;
        }
    }

    /// The credentials to sign with, none if requests go up unsigned.
    pub(crate) fn current(&self, now: SystemTime) -> Result<Option<Arc<Credentials>>, UpstreamRejection> {
        let renewed = match self {
            // Of several none is meant that nobody chose.
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
                Err(UpstreamRejection::NoCredentials("their endpoint has not answered yet"))
            }
            RenewalState::Shortage(shortage) => Err(UpstreamRejection::Shortage(*shortage)),
            RenewalState::Missing => Err(UpstreamRejection::NoCredentials("their endpoint gave none")),
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

    /// A2: a failed renewal leaves what is there until it expires, and not a moment longer
    #[test]
    fn old_credentials_hold_until_they_expire() {
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

    /// X9: a shortage of the gateway's own is not the endpoint's failure, and not the last word
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

    /// A2: the first request waits for the first answer, and is told at once if that is a failure
    #[tokio::test(start_paused = true)]
    async fn the_first_answer_is_waited_for() {
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
