//! The fullest mailbox of all actors.

use std::sync::Arc;

use crate::actor_stats::ActorStats;
use crate::monitor::measurement::{LimitSource, Measurement, Subject};

/// The sensor. A sample reads one counter of each actor.
#[derive(Debug)]
pub(crate) struct MailboxSensor(Vec<(Arc<str>, Arc<ActorStats>)>);

impl MailboxSensor {
    pub(crate) fn new(actors: &[Arc<ActorStats>]) -> Self {
        Self(actors.iter().map(|stats| (stats.name().into(), Arc::clone(stats))).collect())
    }

    /// All mailboxes have the same capacity (`supervision.mailbox_capacity`).
    pub(crate) fn read(&self) -> Measurement {
        let fullest = self.0.iter().max_by_key(|(_, stats)| stats.depth());
        let Some((name, stats)) = fullest else { return Measurement::absent("there is no actor") };
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let (used, limit) = (count(stats.depth()), count(stats.capacity()));
        let subject = (used > 0).then(|| Subject::Actor(Arc::clone(name)));
        Measurement::known(used, limit, LimitSource::MailboxKey).about(subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::reading::Reading;

    /// X1
    #[test]
    fn the_fullest_mailbox_is_named() {
        let actors = ["limiter", "pool:b", "monitor"].map(|name| Arc::new(ActorStats::new(name, 8)));
        let sensor = MailboxSensor::new(&actors);
        let empty = sensor.read();
        assert_eq!((empty.reading, empty.subject), (Reading::Known { used: 0, limit: 8 }, None));
        for _ in 0..3 {
            assert!(actors[1].mailbox_slots().try_acquire());
        }
        assert!(actors[2].mailbox_slots().try_acquire());
        let found = sensor.read();
        assert_eq!(found.reading, Reading::Known { used: 3, limit: 8 });
        assert_eq!(found.subject, Some(Subject::Actor("pool:b".into())));
        assert!(matches!(MailboxSensor::new(&[]).read().reading, Reading::Absent(_)));
    }
}
