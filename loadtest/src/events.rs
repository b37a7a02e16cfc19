//! The events of a step, in the order of their times: at upstreams, at the log disk, and at the gateway.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::reload::ReloadTarget;
use crate::run::RunError;
use crate::scenario::{Action, Event, Step};
use crate::step::{StepTallies, TestBed};
use crate::upgrade::UpgradeTarget;

impl TestBed {
    /// Runs the events of a step.
    pub(crate) async fn events(&self, step: &Step, tallies: &StepTallies) -> Result<(), RunError> {
        for (at_seconds, event) in in_order(&step.events) {
            let at = tallies.begin + Duration::from_secs_f64(at_seconds);
            tokio::time::sleep_until(at.into()).await;
            self.event(event, tallies).await?;
            // The marks of each of many events would slow the recorder down.
            if event.times > 1 {
                continue;
            }
            let (name, now) = (event.action.name(), clock::now());
            for offering in &tallies.offerings {
                let mut recorder = offering.recorder.borrow_mut();
                recorder.mark(name, now);
                if let Some(seconds) = event.settle_seconds {
                    recorder.mark(&format!("{name}_settled"), now + Duration::from_secs_f64(seconds));
                }
            }
        }
        Ok(())
    }

    async fn event(&self, event: &Event, tallies: &StepTallies) -> Result<(), RunError> {
        let process = self.gateway.id();
        match event.action {
            Action::ExhaustDescriptors => return Ok(self.descriptor_limit.exhaust(process.get())?),
            Action::FreeDescriptors => return Ok(self.descriptor_limit.restore(process.get())?),
            Action::Reload => return self.reload(event, tallies).await,
            Action::Upgrade => return self.upgrade(event, tallies).await,
            action if action.is_of_log_disk() => return Ok(self.log_disk(action)?),
            _ => {}
        }
        let bucket = event.bucket.as_deref().unwrap_or_default();
        let upstream = self.upstreams.get(bucket).ok_or_else(|| RunError::Upstream(bucket.to_owned()))?;
        match event.action {
            Action::Kill => self.upstreams.kill(upstream).await?,
            Action::Restore => self.upstreams.restore(upstream).await?,
            Action::Freeze => self.upstreams.freeze(upstream, true).await?,
            Action::Thaw => self.upstreams.freeze(upstream, false).await?,
            _ => {}
        }
        Ok(())
    }

    async fn reload(&self, event: &Event, tallies: &StepTallies) -> Result<(), RunError> {
        let target = ReloadTarget {
            process: self.gateway.id().clone(),
            admin: self.gateway.admin,
            file: Arc::clone(&self.gateway.configuration),
        };
        let by_signal = event.by.is_signal(tallies.reloads.borrow().count());
        let took = target.reload(by_signal, &self.timeline).await?;
        tallies.reloads.borrow_mut().add(took, self.timeline.borrow().newest());
        Ok(())
    }

    async fn upgrade(&self, event: &Event, tallies: &StepTallies) -> Result<(), RunError> {
        let target = UpgradeTarget {
            process: self.gateway.id().clone(),
            binary: self.binary.clone(),
            configuration: self.gateway.configuration.path().clone(),
        };
        let by_signal = event.by.is_signal(tallies.upgrades.borrow().count());
        let took = target.upgrade(by_signal, &self.timeline).await?;
        tallies.upgrades.borrow_mut().add(took, 0);
        Ok(())
    }

    fn log_disk(&self, action: Action) -> io::Result<()> {
        let (Some(container), Some(log_tail)) = (&self.container, &self.log_tail) else { return Ok(()) };
        if action == Action::FillLogDisk {
            log_tail.begin_full();
            container.fill_log_disk()
        } else {
            container.empty_log_disk()?;
            log_tail.end_full();
            Ok(())
        }
    }
}

/// Each event with each of its times, the earliest first.
fn in_order(events: &[Event]) -> Vec<(f64, &Event)> {
    let each = |event: &Event| (0..event.times).map(move |time| time as f64);
    let mut all: Vec<_> = events
        .iter()
        .flat_map(|event| each(event).map(move |time| (event.at_seconds + time * event.every_seconds, event)))
        .collect();
    all.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_events_are_in_the_order_of_their_times() {
        let event = |text: &str| toml::from_str::<Event>(text).unwrap();
        let events = [
            event("at_seconds = 1\naction = 'reload'\ntimes = 3\nevery_seconds = 2"),
            event("at_seconds = 2\nbucket = 'a'\naction = 'kill'"),
        ];
        let times: Vec<_> =
            in_order(&events).iter().map(|(at_seconds, event)| (*at_seconds, event.action.name())).collect();
        assert_eq!(times, [(1.0, "reload"), (2.0, "kill"), (3.0, "reload"), (5.0, "reload")]);
    }
}
