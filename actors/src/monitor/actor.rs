//! Messages, timer and shell of the monitor actor.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix::{AsyncContext, Context};
use slog::{Logger, info, warn};

use crate::actor_shell::{ActorShell, Component, MessageHandler};
use crate::actor_stats::ActorStats;
use crate::clock;
use crate::count::BoundedCount;
use crate::events::{ActorChange, ActorEvents};
use crate::latest_settings::LatestSettings;
use crate::mailbox::ActorMessage;
use crate::metrics::{ActorFamilies, MailboxWaits};
use crate::monitor::clients::ClientTables;
use crate::monitor::in_force::OverloadActions;
use crate::monitor::metrics::MonitorMetrics;
use crate::monitor::notices::Notices;
use crate::monitor::process_cursor::ProcessCursor;
use crate::monitor::reading::Readings;
use crate::monitor::sensors::{LogCell, Sensors};
use crate::monitor::settings::MonitorSettings;
use crate::monitor::stall_watch::StallWatch;
use crate::monitor::state::{LevelTransition, LevelUpdate, MonitorState};
use crate::monitor::view::{MonitorShared, MonitorView};

/// A sample of the sensors.
pub(crate) struct Sample(pub(super) Readings);

impl ActorMessage for Sample {
    type Reply = ();
    const NAME: &'static str = "monitor.sample";

    fn message_fingerprint(&self) -> u64 {
        0
    }
}

/// A longer time to the next sample is waited for in parts: a reload may make it shorter.
const PART_MAX: Duration = Duration::from_secs(1);

/// An actor and its stall watch.
struct WatchedActor {
    stats: Arc<ActorStats>,
    stall_watch: StallWatch,
}

impl WatchedActor {
    fn new(stats: Arc<ActorStats>) -> Self {
        Self { stats, stall_watch: StallWatch::new() }
    }
}

/// The component.
pub(crate) struct Monitor {
    pub(super) settings: Arc<MonitorSettings>,
    pub(super) latest: Arc<LatestSettings<MonitorSettings>>,
    pub(super) state: MonitorState,
    /// Opened at the start and kept over restarts: a restart may find no free descriptor.
    pub(super) sensors: Arc<Mutex<Sensors>>,
    log_cell: LogCell,
    pub(super) client_tables: ClientTables,
    watched: Vec<WatchedActor>,
    shared: Arc<MonitorShared>,
    notices: Notices,
    metrics: MonitorMetrics,
    log: Logger,
    events: ActorEvents,
    cursor: Option<CursorInputs>,
}

/// The cursor of the process, and the waits in the mailboxes that move it.
struct CursorInputs {
    cursor: ProcessCursor,
    mailboxes: MailboxWaits,
    families: ActorFamilies,
}

impl Monitor {
    pub(super) fn new(
        latest: &Arc<LatestSettings<MonitorSettings>>,
        slots: Arc<BoundedCount>,
        (metrics, actions): (MonitorMetrics, Arc<OverloadActions>),
        log: Logger,
        now: Instant,
    ) -> Self {
        let settings = latest.load();
        let state = MonitorState::new(&settings.monitor, now);
        let shared = Arc::new(MonitorShared::new(&state, actions));
        let sensors = Sensors::open(&settings.monitor, slots, &settings.watched);
        let log_cell = sensors.log();
        Self {
            state,
            sensors: Arc::new(Mutex::new(sensors)),
            log_cell,
            client_tables: ClientTables::new(&settings),
            watched: settings.watched.iter().cloned().map(WatchedActor::new).collect(),
            settings,
            latest: Arc::clone(latest),
            shared,
            notices: Notices::default(),
            metrics,
            log,
            events: ActorEvents::default(),
            cursor: None,
        }
    }

    /// Moves the cursor of the process with each sample, by the waits in the mailboxes of the watched actors too.
    pub(crate) fn with_cursor(self, cursor: ProcessCursor, families: &ActorFamilies) -> Self {
        let mailboxes = self.mailbox_waits(families);
        Self { cursor: Some(CursorInputs { cursor, mailboxes, families: families.clone() }), ..self }
    }

    fn mailbox_waits(&self, families: &ActorFamilies) -> MailboxWaits {
        families.mailbox_waits(self.settings.watched.iter().map(|stats| stats.name()))
    }

    /// Gives the cursor of the process the present settings.
    pub(super) fn reconfigure_cursor(&mut self, now: Instant) {
        let Some(inputs) = &self.cursor else { return };
        let mailboxes = self.mailbox_waits(&inputs.families);
        let Self { cursor: Some(inputs), settings, .. } = self else { return };
        inputs.mailboxes = mailboxes;
        inputs.cursor.reconfigure((&settings.monitor, settings.shedding), inputs.mailboxes.totals(), now);
    }

    /// Watches these actors. One that was watched before is checked as before.
    pub(super) fn watch(&mut self, actors: &[Arc<ActorStats>]) {
        let before = self.watched.drain(..).map(|watched| (Arc::as_ptr(&watched.stats), watched));
        let mut before: HashMap<_, _> = before.collect();
        let watched = actors.iter().map(|stats| {
            before.remove(&Arc::as_ptr(stats)).unwrap_or_else(|| WatchedActor::new(Arc::clone(stats)))
        });
        self.watched = watched.collect();
    }

    /// Reports changes of the level.
    pub(crate) fn with_events(self, events: ActorEvents) -> Self {
        Self { events, ..self }
    }

    pub(super) fn shared(&self) -> &Arc<MonitorShared> {
        &self.shared
    }

    fn publish(&mut self, sampled: Option<(Readings, Instant)>, now: Instant) {
        let rules = self.shared.actions().rules();
        let view = MonitorView::from_state(&self.state, rules, sampled);
        self.shared.publish(view, &mut self.notices, now);
    }

    /// Publishes the last sample again, under the present settings.
    pub(super) fn publish_again(&mut self, now: Instant) {
        let view = self.shared.view().reconfigured(&self.state, self.shared.actions().rules());
        self.shared.publish(view, &mut self.notices, now);
    }

    /// Where the log is set, once it is known.
    pub(super) fn log_cell(&self) -> &LogCell {
        &self.log_cell
    }

    fn check_stalls(&mut self, now: Instant) {
        for WatchedActor { stats, stall_watch } in &mut self.watched {
            let Some(stalled) = stall_watch.check(stats.depth(), stats.handled(), now) else {
                continue;
            };
            stats.set_stalled(stalled);
            if stalled {
                warn!(self.log, "actor stalled: messages wait and none was handled for a second";
                    "stalled" => stats.name(), "depth" => stats.depth());
            } else {
                info!(self.log, "actor handles messages again"; "stalled" => stats.name());
            }
        }
    }

    fn report_transition(&self, transition: &LevelTransition) {
        let LevelTransition { from, to, reason: decided, .. } = transition;
        let reason =
            decided.map_or_else(|| "no sensor has a reading".to_owned(), |reason| reason.to_string());
        self.events.emit(ActorChange::Level {
            from: from.as_str(),
            to: to.as_str(),
            rose: to > from,
            percent: decided.and_then(|reason| reason.percent),
            threshold: decided.map(|reason| reason.threshold),
            cause: reason.clone(),
        });
        if to > from {
            warn!(self.log, "degradation level rose"; "from" => from.as_str(), "to" => to.as_str(), "reason" => reason);
        } else {
            info!(self.log, "degradation level fell"; "from" => from.as_str(), "to" => to.as_str(), "reason" => reason);
        }
    }
}

impl Component for Monitor {
    fn rebuild(&mut self, now: Instant) {
        self.client_tables.rebuild();
        let last = self.shared.view();
        self.state.rebuild((last.level, last.since), last.relief, &last.transitions);
        self.publish(None, now);
        if let Some(CursorInputs { cursor, .. }) = &mut self.cursor {
            cursor.rebuild();
        }
    }

    fn restarted(&mut self, now: Instant) {
        self.reconfigure(now);
    }

    fn started(&mut self, ctx: &mut Context<ActorShell<Self>>) {
        let (sensors, latest) = (Arc::clone(&self.sensors), Arc::clone(&self.latest));
        sample_at(Sampler { sensors, latest, due: clock::now() }, ctx);
    }
}

/// The timer of the samples.
struct Sampler {
    sensors: Arc<Mutex<Sensors>>,
    latest: Arc<LatestSettings<MonitorSettings>>,
    due: Instant,
}

/// Takes the next sample when it is due, and then one in each interval.
fn sample_at(mut sampler: Sampler, ctx: &mut Context<ActorShell<Monitor>>) {
    let wait = sampler.due.saturating_duration_since(clock::now()).min(PART_MAX);
    ctx.run_later(wait, move |shell, ctx| {
        let (now, interval) = (clock::now(), sampler.latest.load().monitor.interval);
        if now >= sampler.due {
            // A late sample delays the next ones: samples of the past are not made up for.
            let is_late = now.saturating_duration_since(sampler.due) >= interval;
            sampler.due = if is_late { now } else { sampler.due } + interval;
            // Read in the timer: a crash during a read leaves the state clean.
            let readings = sampler.sensors.lock().unwrap_or_else(PoisonError::into_inner).read(now);
            shell.handle_timer(Sample(readings));
        }
        sampler.due = sampler.due.min(now + interval);
        sample_at(sampler, ctx);
    });
}

impl MessageHandler<Sample> for Monitor {
    type Decision = LevelUpdate;

    fn decide(&self, Sample(readings): &Sample, now: Instant) -> LevelUpdate {
        self.state.evaluate(readings, now)
    }

    fn apply(&mut self, Sample(readings): Sample, update: LevelUpdate, now: Instant) {
        let transition = self.state.apply(update);
        self.metrics.sampled(&readings, self.state.level());
        if let Some(CursorInputs { cursor, mailboxes, .. }) = &mut self.cursor {
            cursor.update(&readings, mailboxes.totals(), now);
        }
        self.publish(Some((readings, now)), now);
        if let Some(transition) = &transition {
            self.report_transition(transition);
        }
        self.check_stalls(now);
    }
}
