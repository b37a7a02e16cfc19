//! A refusal by a cursor: its reason, its figures, and the texts for the operator.

use tidegate_actors::{ClientId, CursorCause, CutRule, Shed};

use crate::auth::Keyring;
use crate::decisions::decision::KeyName::{Process, Upstream};
use crate::decisions::decision::{DecidingActor, DecisionScope, Figures, Unit, ms};

/// What a cursor is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CursorScope {
    Process,
    Bucket,
}

/// A refusal by a cursor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SheddingRejection {
    pub(crate) scope: CursorScope,
    pub(crate) shed: Shed,
    /// The name of the client.
    pub(crate) client: String,
}

impl SheddingRejection {
    pub(super) fn new(keyring: &Keyring, scope: CursorScope, shed: Shed) -> Self {
        Self { scope, shed, client: client_text(keyring, shed.client) }
    }

    pub(crate) fn reason(&self) -> &'static str {
        match self.scope {
            CursorScope::Process => "shed",
            CursorScope::Bucket => "shed_bucket",
        }
    }

    /// What decided, for the operator.
    pub(crate) fn detail(&self) -> String {
        let client = &self.client;
        let Shed { cursor, cause, class, rule, .. } = self.shed;
        let rule = match rule {
            CutRule::Excess => "it is above its fair share",
            CutRule::Dominant => "it has more than half of all traffic and is thinned",
            CutRule::Cohort | CutRule::None => "its hash is in the part that is cut",
        };
        let class = class.as_str();
        let target = match (self.scope, cause) {
            (CursorScope::Bucket, CursorCause::Wait(_) | CursorCause::EarlyWait(_)) => {
                "; the target, if unset, is half of `queue_timeout_ms`"
            }
            _ => "",
        };
        let cause = cause_text(cause);
        format!("cursor {cursor:.2} because of {cause}; class {class}; client {client}: {rule}{target}")
    }

    pub(crate) fn figures(&self) -> Figures {
        let shed = &self.shed;
        let figures = match self.scope {
            CursorScope::Process => {
                let figures = Figures::of(DecisionScope::Process).decided_by(DecidingActor::Monitor);
                figures.set_by(match shed.cause {
                    CursorCause::Wait(_) | CursorCause::EarlyWait(_) => &[Process("shedding.target_wait_ms")],
                    CursorCause::Pressure(_) | CursorCause::QueueLength(_) => &[Process("monitor.exhausted")],
                })
            }
            CursorScope::Bucket => {
                let figures = Figures::of(DecisionScope::Bucket).decided_by(DecidingActor::Pool);
                figures.set_by(match shed.cause {
                    CursorCause::QueueLength(_) => &[Upstream("concurrency.max_queued")],
                    CursorCause::Wait(_) | CursorCause::EarlyWait(_) | CursorCause::Pressure(_) => {
                        &[Upstream("concurrency.shedding.target_wait_ms")]
                    }
                })
            }
        };
        let figures = figures.until(shed.retry_after);
        match shed.cause {
            CursorCause::Wait(wait) | CursorCause::EarlyWait(wait) => {
                figures.measured(ms(wait), Unit::Milliseconds).threshold(shed.threshold, Unit::Milliseconds)
            }
            CursorCause::Pressure(percent) | CursorCause::QueueLength(percent) => {
                figures.measured(percent, Unit::Percent).threshold(shed.threshold, Unit::Percent)
            }
        }
    }
}

/// What raised a cursor.
pub(crate) fn cause_text(cause: CursorCause) -> String {
    match cause {
        CursorCause::Wait(wait) => format!("a wait of {} ms", ms(wait)),
        CursorCause::EarlyWait(wait) => format!("a wait of {} ms (more than half of the target)", ms(wait)),
        CursorCause::Pressure(percent) => format!("a resource at {percent:.1} %"),
        CursorCause::QueueLength(percent) => format!("a queue at {percent:.0} % of its length"),
    }
}

fn client_text(keyring: &Keyring, client: Option<ClientId>) -> String {
    client.map_or_else(|| "without an address".to_owned(), |client| client_name(keyring, client))
}

/// The name of a known client: the ID of its key, the hash of its subject, or its address.
pub(crate) fn client_name(keyring: &Keyring, client: ClientId) -> String {
    match client {
        ClientId::Key(key) => format!("key {}", keyring.name(key)),
        ClientId::Subject(hash) => format!("subject #{hash:016x}"),
        ClientId::Address(address) => format!("address {address}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidegate_config::Priority;

    use super::*;

    /// X11, O4: a refusal names the key of its target, as the status does, and what the target follows from
    #[test]
    fn a_wait_names_its_target() {
        let wait = Duration::from_millis(2500);
        for (scope, cause, key, is_derived) in [
            (CursorScope::Process, CursorCause::Wait(wait), Process("shedding.target_wait_ms"), false),
            (
                CursorScope::Bucket,
                CursorCause::Wait(wait),
                Upstream("concurrency.shedding.target_wait_ms"),
                true,
            ),
            (
                CursorScope::Bucket,
                CursorCause::EarlyWait(wait),
                Upstream("concurrency.shedding.target_wait_ms"),
                true,
            ),
            (CursorScope::Bucket, CursorCause::QueueLength(90.0), Upstream("concurrency.max_queued"), false),
        ] {
            let shed = Shed {
                cursor: 0.5,
                cause,
                threshold: 2000.0,
                class: Priority::Low,
                client: None,
                rule: CutRule::Cohort,
                retry_after: Duration::from_secs(1),
            };
            let rejection = SheddingRejection { scope, shed, client: "address 127.0.0.1".to_owned() };
            assert_eq!(rejection.figures().keys, [key], "{cause:?}");
            let detail = rejection.detail();
            assert_eq!(detail.ends_with("is half of `queue_timeout_ms`"), is_derived, "{detail}");
        }
    }
}
