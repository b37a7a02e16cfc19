//! The causes of a degraded status (X10): one list of all faults.
//!
//! `causes` is a pure function of the published state that `input.rs` collects. A cause has a stable ID, the bucket, actor or sensor that
//! it concerns, its age where that is known, its effect, and the measured detail.

use std::time::{Duration, Instant};

use serde::Serialize;
use tidegate_actors::{
    ActorStatus, BreakerView, CircuitState, CredentialState, CredentialView, EndpointState, EndpointView,
    FailureKind, Level, PoolView,
};
use tidegate_config::BreakerMode;

use crate::shortage::Shortage;
use crate::telemetry::log::CurrentFault;
use crate::telemetry::millis;
use crate::upstream::connect::tls::FailingTls;
use crate::upstream::rules::late_calls::LateCallsSnapshot;
use crate::upstream::rules::store_clock::ClockSnapshot;

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Cause {
    /// Stable ID, which alerts match.
    pub(crate) id: &'static str,
    /// The bucket, endpoint, actor or sensor.
    pub(crate) subject: Option<String>,
    /// Age in ms; none where the start time is unknown.
    pub(crate) since_ms: Option<u64>,
    /// Effect on requests.
    pub(crate) effect: &'static str,
    /// Measured values.
    pub(crate) detail: String,
}

/// Published state from which causes are derived.
pub(crate) struct StatusInput<'a> {
    pub(crate) now: Instant,
    pub(crate) draining: Option<DrainState>,
    /// Listeners that do not accept: the name, the cause, and the start of the pause.
    pub(crate) waiting: Vec<(&'static str, &'static str, Instant)>,
    /// `admin.chaos`
    pub(crate) chaos: bool,
    pub(crate) level: LevelInput,
    pub(crate) actors: Vec<(&'a str, ActorStatus)>,
    /// `rate_limit.on_failure` is `refuse`.
    pub(crate) limiter_refuses: bool,
    /// The limiter has failed, and every request is refused because of it.
    pub(crate) limiter_refuses_all: bool,
    /// Current shortages of the gateway itself, each with its start time.
    pub(crate) shortages: Vec<(Shortage, Instant)>,
    pub(crate) buckets: Vec<BucketInput<'a>>,
    pub(crate) log: Option<CurrentFault>,
    pub(crate) log_lines_lost: u64,
}

/// A drain in progress.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DrainState {
    pub(crate) began: Instant,
    /// `server.drain_delay` is not over yet.
    pub(crate) accepts: bool,
}

/// The monitor's level.
pub(crate) struct LevelInput {
    pub(crate) level: Level,
    pub(crate) since: Instant,
    pub(crate) reason: Option<String>,
    /// The last sample is too old.
    pub(crate) is_stale: bool,
}

/// State of one bucket's upstream.
pub(crate) struct BucketInput<'a> {
    pub(crate) name: &'a str,
    pub(crate) mode: BreakerMode,
    pub(crate) circuits: Vec<BreakerView>,
    pub(crate) pool: PoolView,
    /// The authority of each endpoint, in the pool's order.
    pub(crate) authorities: Vec<&'a str>,
    pub(crate) late: Option<LateCallsSnapshot>,
    /// Clock skew of each endpoint, in the pool's order; none where the clock agrees.
    pub(crate) clocks: Vec<Option<ClockSnapshot>>,
    /// Endpoints with failing TLS, by host and port.
    pub(crate) tls_failures: Vec<(String, FailingTls)>,
}

/// The headline of the status document.
pub(crate) fn headline(input: &StatusInput<'_>, causes: &[Cause]) -> &'static str {
    if input.draining.is_some() {
        "draining"
    } else if input.limiter_refuses_all || input.level.level == Level::Exhausted {
        "refusing"
    } else if causes.is_empty() {
        "normal"
    } else {
        "degraded"
    }
}

/// All causes, the most severe first.
pub(crate) fn causes(input: &StatusInput<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    causes.extend(input.draining.map(|draining| drain_cause(draining, input.now)));
    causes.extend(input.waiting.iter().map(|waiting| waiting_cause(*waiting, input.now)));
    causes.extend(input.actors.iter().filter_map(|actor| actor_cause(*actor, input.limiter_refuses)));
    causes.extend(level_causes(&input.level, input.now));
    causes.extend(input.shortages.iter().map(|shortage| shortage_cause(*shortage, input.now)));
    for bucket in &input.buckets {
        causes.extend(bucket.causes(input.now));
    }
    causes.extend(input.log.as_ref().map(|fault| log_cause(fault, input.log_lines_lost, input.now)));
    causes.extend(input.chaos.then(chaos_cause));
    causes
}

fn shortage_cause((shortage, began): (Shortage, Instant), now: Instant) -> Cause {
    Cause {
        id: shortage.as_str(),
        subject: None,
        since_ms: Some(elapsed_ms(began, now)),
        effect: "requests that need a new upstream connection are answered 503",
        detail: shortage.to_string(),
    }
}

fn drain_cause(draining: DrainState, now: Instant) -> Cause {
    Cause {
        id: "draining",
        subject: None,
        since_ms: Some(elapsed_ms(draining.began, now)),
        effect: if draining.accepts {
            "new connections are accepted until server.drain_delay is over; each answer closes its connection"
        } else {
            "no new connections; the process ends after the requests in flight"
        },
        detail: "a stop signal was received".to_owned(),
    }
}

fn waiting_cause((listener, cause, began): (&'static str, &'static str, Instant), now: Instant) -> Cause {
    Cause {
        id: "connections_wait",
        subject: Some(listener.to_owned()),
        since_ms: Some(elapsed_ms(began, now)),
        effect: "new connections wait in the backlog until open ones close",
        detail: format!("accepting pauses: {cause}"),
    }
}

fn chaos_cause() -> Cause {
    Cause {
        id: "chaos",
        subject: None,
        since_ms: None,
        effect: "actors and requests can be crashed through the admin listener",
        detail: "admin.chaos is on; turn it off in production".to_owned(),
    }
}

fn actor_cause((name, status): (&str, ActorStatus), limiter_refuses: bool) -> Option<Cause> {
    let is_limiter = name == "limiter";
    let (id, effect) = match status {
        ActorStatus::Running => return None,
        ActorStatus::Failed { .. } if is_limiter && limiter_refuses => {
            ("limiter_failed", "every request that has a rate limit is answered 503")
        }
        ActorStatus::Failed { .. } if is_limiter => {
            ("limiter_bypassed", "requests pass without a rate limit")
        }
        ActorStatus::Failed { .. } => ("actor_failed", failure_effect(name)),
        ActorStatus::Stalled => ("actor_stalled", "requests that need the actor wait or are refused"),
    };
    let detail = match status {
        ActorStatus::Failed { retry_after } => {
            format!("it crashed too often; the next restart is in {} ms", millis(retry_after))
        }
        ActorStatus::Stalled | ActorStatus::Running => {
            "it has handled no message for at least a second".to_owned()
        }
    };
    Some(Cause { id, subject: Some(name.to_owned()), since_ms: None, effect, detail })
}

/// The effect of an actor that is held down: what its handle does without it (S4).
fn failure_effect(name: &str) -> &'static str {
    match name {
        "sessions" => "signatures and tokens are verified without the cache",
        "monitor" => "the last resource level stays in force",
        _ => "requests that need the actor are refused",
    }
}

fn level_causes(input: &LevelInput, now: Instant) -> Vec<Cause> {
    let effect = match input.level {
        Level::Normal => None,
        Level::Warning => Some("none yet"),
        Level::Critical => Some("hedges, retries and details of the access log are switched off"),
        Level::Exhausted => Some("new requests are answered 503"),
    };
    let level = effect.map(|effect| Cause {
        id: input.level.as_str(),
        subject: None,
        since_ms: Some(elapsed_ms(input.since, now)),
        effect,
        detail: input.reason.clone().unwrap_or_default(),
    });
    let stale = input.is_stale.then(|| Cause {
        id: "sensors_stale",
        subject: Some("monitor".to_owned()),
        since_ms: None,
        effect: "the level is the last known one; overload is not detected",
        detail: "the sensors were not read for several intervals".to_owned(),
    });
    level.into_iter().chain(stale).collect()
}

fn log_cause(fault: &CurrentFault, lost: u64, now: Instant) -> Cause {
    Cause {
        id: "log",
        subject: Some(fault.cause.as_str().to_owned()),
        since_ms: Some(elapsed_ms(fault.since, now)),
        effect: "log lines are lost; requests are served",
        detail: format!("{}; {lost} lines lost since the start; {}", fault.detail, fault.cause.remedy()),
    }
}

impl BucketInput<'_> {
    fn causes(&self, now: Instant) -> Vec<Cause> {
        let mut causes = Vec::new();
        match self.mode {
            BreakerMode::ForcedOpen => causes.push(self.cause(
                "circuit_forced_open",
                "every request is answered 503",
                "circuit_breaker.mode is forced_open".to_owned(),
            )),
            BreakerMode::Off => {}
            BreakerMode::On | BreakerMode::Shadow => {
                causes.extend(self.circuits.iter().filter_map(|view| self.circuit_cause(view)));
            }
        }
        causes.extend(self.late.map(|late| Cause {
            since_ms: Some(elapsed_ms(late.since, now)),
            ..self.cause(
                "upstream_unresponsive",
                "requests wait for the upstream and may time out",
                format!("{} calls wait unusually long for the response head", late.count),
            )
        }));
        causes.extend(self.endpoint_causes(now));
        causes.extend(
            self.tls_failures.iter().map(|(endpoint, failing)| self.tls_cause(endpoint, failing, now)),
        );
        let clocks = self.authorities.iter().zip(&self.clocks);
        causes.extend(
            clocks.filter_map(|(endpoint, view)| Some(self.clock_cause(endpoint, view.as_ref()?, now))),
        );
        causes.extend(self.pool.credentials.iter().filter_map(|view| self.credential_cause(view, now)));
        causes
    }

    fn cause(&self, id: &'static str, effect: &'static str, detail: String) -> Cause {
        Cause { id, subject: Some(self.name.to_owned()), since_ms: None, effect, detail }
    }

    fn circuit_cause(&self, view: &BreakerView) -> Option<Cause> {
        let is_shadow = self.mode == BreakerMode::Shadow;
        let is_over = view.open_for == Some(Duration::ZERO);
        let (id, effect) = match view.state {
            CircuitState::Closed => return None,
            _ if is_shadow => ("circuit_shadow", "none: the breaker is in shadow mode"),
            CircuitState::Open if !is_over => ("circuit_open", "requests are answered 503"),
            // The actor changes the state to half-open only with the next request.
            CircuitState::Open | CircuitState::HalfOpen => {
                ("circuit_half_open", "few requests pass as trials")
            }
        };
        let cause = view.cause.map_or_else(|| "failures".to_owned(), |cause| cause.to_string());
        let until = match view.open_for {
            Some(Duration::ZERO) => "; the next request is a trial".to_owned(),
            Some(left) => format!("; trials in {} ms", millis(left)),
            None => String::new(),
        };
        Some(self.cause(id, effect, format!("circuit {}: {cause}{until}", view.class)))
    }

    /// At most one cause for all endpoints that are out of rotation.
    fn endpoint_causes(&self, now: Instant) -> Vec<Cause> {
        let pairs = self.authorities.iter().zip(&self.pool.endpoints);
        let out: Vec<String> = pairs.filter_map(|(name, view)| out_of_rotation(name, view, now)).collect();
        let (id, effect) = match out.len() {
            0 => return Vec::new(),
            all if all == self.authorities.len() => {
                ("endpoints_out", "no endpoint of the bucket is in rotation")
            }
            _ => ("endpoint_out", "the other endpoints serve its requests"),
        };
        vec![self.cause(id, effect, out.join(", "))]
    }

    fn tls_cause(&self, endpoint: &str, failing: &FailingTls, now: Instant) -> Cause {
        Cause {
            since_ms: Some(elapsed_ms(failing.since, now)),
            ..self.cause(
                "upstream_tls",
                "requests that are sent to the endpoint are answered 502",
                format!("{endpoint}: {}", failing.failure),
            )
        }
    }

    fn clock_cause(&self, endpoint: &str, view: &ClockSnapshot, now: Instant) -> Cause {
        let effect = match view.obstacle {
            None => "none: requests are signed with the store's time",
            Some(_) => "requests that are sent to the endpoint are answered 503",
        };
        Cause {
            since_ms: Some(elapsed_ms(view.began, now)),
            ..self.cause("upstream_clock_skew", effect, format!("{endpoint}: {view}"))
        }
    }

    fn credential_cause(&self, view: &CredentialView, now: Instant) -> Option<Cause> {
        let (id, state) = match view.state {
            CredentialState::InUse => return None,
            CredentialState::CoolingDown(until) => {
                ("credential_cooling", format!("throttled, used again in {} ms", remaining_ms(until, now)))
            }
            CredentialState::Refused(until) => (
                "credential_refused",
                format!("refused by the upstream, tried again in {} ms", remaining_ms(until, now)),
            ),
            CredentialState::OnTrial => ("credential_refused", "on trial after a refusal".to_owned()),
        };
        Some(self.cause(
            id,
            "requests are signed with the bucket's other credentials",
            format!("{}: {state}", view.name),
        ))
    }
}

/// Why an endpoint is out of rotation, and for how long; none while it is in rotation.
fn out_of_rotation(authority: &str, view: &EndpointView, now: Instant) -> Option<String> {
    Some(match view.state {
        EndpointState::InRotation => return None,
        EndpointState::BackingOff(until) => {
            let kind = FailureKind::Unreachable.as_str();
            format!("{authority}: {kind}, back in {} ms", remaining_ms(until, now))
        }
        EndpointState::Ejected(until, kind) => {
            format!("{authority}: ejected ({}), back in {} ms", kind.as_str(), remaining_ms(until, now))
        }
        EndpointState::Unhealthy => format!("{authority}: fails its health checks"),
    })
}

fn elapsed_ms(began: Instant, now: Instant) -> u64 {
    millis(now.saturating_duration_since(began))
}

fn remaining_ms(until: Instant, now: Instant) -> u64 {
    millis(until.saturating_duration_since(now))
}

#[cfg(test)]
#[path = "causes_tests.rs"]
mod tests;
