//! The causes of degradation of one bucket: circuits, endpoints, credentials, queue, limits in shadow mode.

use std::time::{Duration, Instant};

use tidegate_actors::{
    BreakerView, CircuitState, CredentialState, CredentialView, EndpointState, EndpointView, FailureCause,
    FailureKind, Trip,
};
use tidegate_config::BreakerMode;

use crate::admin::status::causes::{refresh_error, remaining_ms, with_refresh};
use crate::admin::status::failing_endpoints::{FAILURES_MIN, FailingEndpoints};
use crate::admin::status::input::{BucketInput, StatusInput};
use crate::degradation::codes::{CauseCode, ScopeKind};
use crate::degradation::counts::EffectCounts;
use crate::degradation::episodes::CounterReading;
use crate::degradation::finding::{Finding, Quantity, Scope};
use crate::degradation::tracker::Occurrences;
use crate::telemetry::{counted, millis};
use crate::upstream::connect::dns_cache::FailingLookup;
use crate::upstream::connect::tls::FailingTls;
use crate::upstream::credentials::RenewalView;
use crate::upstream::rules::store_clock::ClockSnapshot;
use crate::upstream::rules::unanswered_calls::UnansweredSnapshot;

impl BucketInput<'_> {
    /// The causes of its present state.
    pub(super) fn causes(&self, status: &StatusInput<'_>) -> Vec<Finding> {
        let now = status.now;
        let mut causes = Vec::new();
        match self.mode {
            BreakerMode::ForcedOpen => {
                let message = format!("bucket {}: circuit_breaker.mode is forced_open", self.name);
                causes.push(Finding::new(CauseCode::CircuitForcedOpen, Scope::bucket(self.name), message));
            }
            BreakerMode::Off => {}
            BreakerMode::On | BreakerMode::Shadow => {
                causes.extend(self.circuits.iter().filter_map(|view| self.circuit(view, now)));
            }
        }
        causes.extend(self.unresponsive());
        causes.extend(self.failover(now));
        causes.extend(self.endpoints(now));
        causes.extend(self.drains.causes(self.name, &self.authorities));
        causes.extend(self.tls_failures.iter().map(|(endpoint, failing)| self.tls(endpoint, failing)));
        let clocks = self.authorities.iter().zip(&self.clocks);
        causes.extend(clocks.filter_map(|(endpoint, view)| Some(self.clock(endpoint, view.as_ref()?))));
        let lookups = self.failing_lookups.iter();
        causes.extend(lookups.map(|(endpoint, lookup)| self.resolver(endpoint, lookup, now)));
        causes.extend(self.credentials(now));
        causes.extend(self.renewals.iter().map(|view| self.renewal(view, status)));
        causes
    }

    /// The requests that its queue refused.
    pub(super) fn queue_overflow(&self, counts: &EffectCounts) -> Option<CounterReading> {
        let count = counts.refused(CauseCode::QueueOverflow, &Scope::bucket(self.name));
        CounterReading::if_risen(count, || {
            let finding = self.full_queue();
            CounterReading { finding, count, unit: "requests", is_hidden: false }
        })
    }

    /// The cause while its queue refuses requests.
    fn full_queue(&self) -> Finding {
        let message = format!("the queue of bucket {} refused requests", self.name);
        let finding = Finding::new(CauseCode::QueueOverflow, Scope::bucket(self.name), message);
        finding
            .measured(Quantity::count(self.pool.queued as u64, "waiting requests"))
            .threshold(Quantity::count(self.pool.queued_max as u64, "waiting requests"))
    }

    /// The cause of each limit in shadow mode while it would refuse requests.
    pub(super) fn shadow_limits(&self) -> impl Iterator<Item = CounterReading> {
        self.shadowed.iter().filter(|(_, count)| *count > 0).map(|(limit, count)| {
            let message = format!(
                "the rate limit `{}` would have refused requests of bucket {}",
                limit.as_str(),
                self.name
            );
            let scope = self.scope(ScopeKind::Bucket, limit.as_str());
            let finding = Finding::new(CauseCode::LimitShadow, scope, message);
            CounterReading { finding, count: *count, unit: "requests", is_hidden: false }
        })
    }

    /// Openings of circuits, which may be shorter than the time between two samples.
    pub(super) fn occurrences(&self) -> impl Iterator<Item = Occurrences> {
        let is_active = self.mode == BreakerMode::On;
        self.circuits.iter().filter(move |view| is_active && view.opened_total > 0).map(|view| {
            let message = format!("circuit {} of bucket {} was open for a moment", view.class, self.name);
            let scope = self.scope(ScopeKind::Bucket, view.class);
            let finding = Finding::new(CauseCode::CircuitOpen, scope, message);
            Occurrences { finding, total: view.opened_total }
        })
    }

    /// Adds the requests that waited, and those that were served with an old value.
    pub(super) fn add_touched(&self, counts: &mut EffectCounts) {
        counts.add_slowed(CauseCode::UpstreamUnresponsive, self.name, self.late_total);
        counts.add_slowed(CauseCode::QueueOverflow, self.name, self.pool.waited_total);
        let held = self.circuits.iter().map(|view| view.waited_total).sum();
        for code in [CauseCode::CircuitOpen, CauseCode::CircuitHalfOpen] {
            counts.add_slowed(code, self.name, held);
        }
        counts.add_stale(CauseCode::ResolverStale, self.name, self.stale_uses);
    }

    fn scope(&self, kind: ScopeKind, name: &str) -> Scope {
        Scope::in_bucket(kind, self.name, name)
    }

    fn circuit(&self, view: &BreakerView, now: Instant) -> Option<Finding> {
        let is_shadow = self.mode == BreakerMode::Shadow;
        let is_over = view.open_for == Some(Duration::ZERO);
        let code = match view.state {
            CircuitState::Closed => return None,
            _ if is_shadow => CauseCode::CircuitShadow,
            CircuitState::Open if !is_over => CauseCode::CircuitOpen,
            // The actor changes the state to half-open only with the next request.
            CircuitState::Open | CircuitState::HalfOpen => CauseCode::CircuitHalfOpen,
        };
        let why = view.cause.map_or_else(|| "calls failed".to_owned(), FailureCause::clause);
        let state = match (view.state, view.open_for) {
            (CircuitState::HalfOpen, _) => format!("is half-open: trials decide; it opened because {why}"),
            (_, Some(Duration::ZERO)) => format!("opened because {why}; the next request is a trial"),
            (_, Some(left)) => format!("is open because {why}; trials in {} ms", millis(left)),
            (_, None) => format!("is open because {why}"),
        };
        let message = format!("circuit {} of bucket {} {state}", view.class, self.name);
        let finding = Finding::new(code, self.scope(ScopeKind::Bucket, view.class), message);
        let finding = match view.trip {
            Some(Trip { rule, measured, threshold }) => finding
                .measured(Quantity::count(measured.into(), rule.unit()))
                .threshold(Quantity::count(threshold.into(), rule.unit())),
            None => finding,
        };
        let until = view.open_for.filter(|left| !left.is_zero()).map(|left| now + left);
        Some(Finding { until, ..finding })
    }

    /// The cause while calls are late. Between two calls it is the cause while the last ones of an endpoint timed out; an endpoint that is
    /// out of rotation is a cause of its own.
    fn unresponsive(&self) -> Option<Finding> {
        let calls = |count: u64| (counted(count, "calls"), Quantity::count(count, "calls"));
        let found = |message: String| {
            Finding::new(CauseCode::UpstreamUnresponsive, Scope::bucket(self.name), message)
        };
        if let Some(late) = self.late {
            let (counted, measured) = calls(late.count as u64);
            let message =
                format!("bucket {}: {counted} without a response head for unusually long", self.name);
            return Some(found(message).since(late.since).measured(measured));
        }
        let views = self.pool.endpoints.iter().zip(&self.authorities);
        let unanswered: Vec<(UnansweredSnapshot, &str)> = views
            .zip(&self.unanswered)
            .filter(|((view, _), _)| view.state == EndpointState::InRotation)
            .filter_map(|((_, name), timeouts)| timeouts.map(|timeouts| (timeouts, *name)))
            .collect();
        let until = unanswered.iter().map(|(timeouts, _)| timeouts.until).max()?;
        let since = unanswered.iter().map(|(timeouts, _)| timeouts.since).min()?;
        let names: Vec<_> = unanswered.iter().map(|(_, name)| *name).collect();
        let (counted, measured) =
            calls(unanswered.iter().map(|(timeouts, _)| u64::from(timeouts.count)).sum());
        let message = format!(
            "bucket {}: the last {counted} to {} timed out without a response head",
            self.name,
            names.join(", ")
        );
        Some(found(message).since(since).measured(measured).until(until))
    }

    /// The cause while standby endpoints serve.
    fn failover(&self, now: Instant) -> Option<Finding> {
        let serving = &self.pool.serving;
        // In a panic all endpoints are called.
        let failover = serving.failover.filter(|_| !serving.is_panicking)?;
        let pairs = self.authorities.iter().zip(&self.pool.endpoints).enumerate();
        let standby: Vec<_> = pairs
            .filter(|(at, (_, view))| {
                serving.endpoints.contains(at) && view.state == EndpointState::InRotation
            })
            .map(|(_, (name, _))| *name)
            .collect();
        if standby.is_empty() {
            return None;
        }
        let end = match failover.returns_at {
            Some(at) => format!("requests return to the primary ones in {} ms", remaining_ms(at, now)),
            None => {
                let after = millis(failover.return_after);
                format!("requests return once enough primary ones have been usable for {after} ms")
            }
        };
        let message =
            format!("bucket {}: the standby endpoints {} serve; {end}", self.name, standby.join(", "));
        let percent = |value: usize| Quantity::count(value as u64, "% of primary endpoints that are usable");
        let finding = Finding::new(CauseCode::StandbyInUse, Scope::bucket(self.name), message)
            .measured(percent(failover.usable_percent))
            .threshold(percent(failover.min_usable_percent));
        Some(Finding { until: failover.returns_at, ..finding })
    }

    /// One cause for each endpoint that is out of rotation, or one for the bucket if all are out or all fail.
    fn endpoints(&self, now: Instant) -> Vec<Finding> {
        let pairs = self.authorities.iter().zip(&self.pool.endpoints);
        let out: Vec<_> =
            pairs.filter_map(|(name, view)| Some((*name, out_of_rotation(name, view, now)?))).collect();
        if out.is_empty() || out.len() < self.authorities.len() {
            let finding = |(name, (why, until)): (&str, (String, Option<Instant>))| {
                let message = format!("bucket {}: endpoint {why}", self.name);
                let scope = self.scope(ScopeKind::Endpoint, name);
                Finding { until, ..Finding::new(CauseCode::EndpointOut, scope, message) }
            };
            // While all are called, those in rotation do not serve the requests of the others.
            let failing = self.failing_endpoints();
            return if failing.is_some() {
                failing.into_iter().collect()
            } else {
                out.into_iter().map(finding).collect()
            };
        }
        let until = out.iter().filter_map(|(_, (_, until))| *until).min();
        let reasons: Vec<_> = out.into_iter().map(|(_, (why, _))| why).collect();
        let message = format!("bucket {}: no endpoint is in rotation: {}", self.name, reasons.join(", "));
        let endpoints = |count: usize| Quantity::count(count as u64, "endpoints");
        let finding = Finding::new(CauseCode::EndpointsOut, Scope::bucket(self.name), message);
        let finding = finding.measured(endpoints(reasons.len())).threshold(endpoints(reasons.len()));
        vec![Finding { until, ..finding }]
    }

    /// The cause while calls to every endpoint fail. A circuit that refuses them is a cause of its own.
    fn failing_endpoints(&self) -> Option<Finding> {
        let called = self.authorities.iter().zip(&self.pool.endpoints).filter(|(_, view)| !view.is_draining);
        let names: Vec<_> = called.map(|(name, _)| *name).collect();
        let (called, names) = (names.len() as u64, names.join(", "));
        let (how, measured, threshold) = match FailingEndpoints::of(&self.pool, self.mode, &self.circuits)? {
            FailingEndpoints::All => {
                let endpoints = Quantity::count(called, "endpoints");
                (format!("all endpoints failed, and all are called: {names}"), endpoints, endpoints)
            }
            FailingEndpoints::InARow { class, failures } => {
                let failed = |count: u32| Quantity::count(count.into(), "failures in a row");
                let how = format!("calls to the only endpoint {names} fail: {failures} in a row ({class})");
                (how, failed(failures), failed(FAILURES_MIN))
            }
            FailingEndpoints::Circuit => return None,
        };
        let message = format!("bucket {}: {how}", self.name);
        let finding = Finding::new(CauseCode::EndpointsFailing, Scope::bucket(self.name), message);
        Some(finding.measured(measured).threshold(threshold))
    }

    fn tls(&self, endpoint: &str, failing: &FailingTls) -> Finding {
        let message = format!("{endpoint}: {}", failing.failure);
        Finding::new(CauseCode::UpstreamTls, self.scope(ScopeKind::Endpoint, endpoint), message)
            .since(failing.since)
    }

    fn clock(&self, endpoint: &str, view: &ClockSnapshot) -> Finding {
        let scope = self.scope(ScopeKind::Endpoint, endpoint);
        let finding = Finding::new(CauseCode::UpstreamClockSkew, scope, format!("{endpoint}: {view}"));
        finding.since(view.began).with_effect(match view.obstacle {
            None => "none: requests are signed with the store's time",
            Some(_) => "requests that are sent to the endpoint are answered 503",
        })
    }

    /// An old answer is measured by its age, a name without an answer by its failed lookups.
    fn resolver(&self, endpoint: &str, lookup: &FailingLookup, now: Instant) -> Finding {
        let FailingLookup { host, answered, ttl, since, failures, error } = lookup;
        let seconds = |time: Duration| Quantity::new(time.as_secs_f64(), "s");
        let lookups = |count: u32| Quantity::count(count.into(), "failed lookups in a row");
        let (code, consequence, measured, threshold) = match answered {
            Some(at) => {
                let age = seconds(now.saturating_duration_since(*at));
                (CauseCode::ResolverStale, "its last addresses are in use", age, seconds(*ttl))
            }
            None => {
                let (failed, first) = (lookups(*failures), lookups(1));
                (CauseCode::UpstreamUnresolved, "no address of it is known", failed, first)
            }
        };
        let message = format!("bucket {}: {host} cannot be resolved, and {consequence}: {error}", self.name);
        let finding = Finding::new(code, self.scope(ScopeKind::Endpoint, endpoint), message);
        finding.since(*since).measured(measured).threshold(threshold)
    }

    /// One cause for each credential that is out, and one for the bucket if all are.
    fn credentials(&self, now: Instant) -> Vec<Finding> {
        let all = &self.pool.credentials;
        let mut findings: Vec<_> = all.iter().filter_map(|view| self.credential(view, now)).collect();
        let returns = |view: &CredentialView| match view.state {
            CredentialState::CoolingDown(until) | CredentialState::Refused(until) => Some(until),
            CredentialState::InUse | CredentialState::OnTrial => None,
        };
        let until: Option<Vec<_>> = all.iter().map(returns).collect();
        if let Some(until) = until.and_then(|times| times.into_iter().min()) {
            let left = remaining_ms(until, now);
            let message =
                format!("bucket {}: no credential may be used; the first returns in {left} ms", self.name);
            let credentials = Quantity::count(all.len() as u64, "credentials");
            let finding = Finding::new(CauseCode::CredentialsOut, Scope::bucket(self.name), message);
            findings.push(finding.measured(credentials).threshold(credentials).until(until));
        }
        findings
    }

    fn credential(&self, view: &CredentialView, now: Instant) -> Option<Finding> {
        let (code, state, until) = match view.state {
            CredentialState::InUse => return None,
            CredentialState::CoolingDown(until) => {
                let state = format!("throttled, used again in {} ms", remaining_ms(until, now));
                (CauseCode::CredentialCooling, state, Some(until))
            }
            CredentialState::Refused(until) => {
                let left = remaining_ms(until, now);
                let state = format!("refused by the upstream, tried again in {left} ms");
                (CauseCode::CredentialRefused, state, Some(until))
            }
            CredentialState::OnTrial => {
                (CauseCode::CredentialRefused, "on trial after a refusal".to_owned(), None)
            }
        };
        let message = format!("bucket {}: credential {} is {state}", self.name, view.name);
        let scope = self.scope(ScopeKind::Credential, &view.name);
        Some(Finding { until, ..Finding::new(code, scope, message) })
    }

    fn renewal(&self, view: &RenewalView, status: &StatusInput<'_>) -> Finding {
        let names = &self.pool.credentials;
        let name =
            view.credential.and_then(|credential| names.get(credential.0)).map(|one| one.name.as_str());
        let error = refresh_error(&view.failing, status.now);
        let (code, scope, message) = match name {
            None if !view.is_usable => {
                let message = format!("bucket {} has no credentials: {error}", self.name);
                (CauseCode::CredentialsMissing, Scope::bucket(self.name), message)
            }
            name => {
                let scope = Scope::in_bucket(ScopeKind::Credential, self.name, name.unwrap_or("container"));
                let message = format!("bucket {}: credentials cannot be renewed: {error}", self.name);
                (CauseCode::CredentialRenewal, scope, message)
            }
        };
        let left = view.expires.filter(|_| view.is_usable).and_then(|at| at.duration_since(status.wall).ok());
        let expiry = left
            .map_or_else(String::new, |left| format!("; the present ones expire in {} s", left.as_secs()));
        with_refresh(Finding::new(code, scope, message + &expiry), &view.failing)
    }
}

/// Why an endpoint is out of rotation, and until when; none while it is in rotation.
fn out_of_rotation(authority: &str, view: &EndpointView, now: Instant) -> Option<(String, Option<Instant>)> {
    Some(match view.state {
        EndpointState::InRotation => return None,
        EndpointState::BackingOff(until) => {
            let (kind, left) = (FailureKind::Unreachable.as_str(), remaining_ms(until, now));
            (format!("{authority}: {kind}, back in {left} ms"), Some(until))
        }
        EndpointState::Ejected(until, kind) => {
            let left = remaining_ms(until, now);
            (format!("{authority}: ejected ({}), back in {left} ms", kind.as_str()), Some(until))
        }
        EndpointState::Unhealthy => (format!("{authority}: fails its health checks"), None),
    })
}

#[cfg(test)]
#[path = "bucket_causes_tests.rs"]
mod tests;
