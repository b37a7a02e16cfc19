//! Messages, timer and shell of the monitor actor.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix::{AsyncContext, Context};
use slog::{Logger, info, warn};
use tidegate_config::MonitorConfig;

use crate::actor_shell::{ActorShell, Component, MessageHandler};
use crate::actor_stats::ActorStats;
use crate::clock;
use crate::count::BoundedCount;
use crate::events::{ActorChange, ActorEvents};
use crate::mailbox::ActorMessage;
use crate::metrics::MailboxWaits;
use crate::monitor::clients::ClientTables;
use crate::monitor::in_force::OverloadActions;
use crate::monitor::metrics::MonitorMetrics;
use crate::monitor::notices::Notices;
use crate::monitor::process_cursor::ProcessCursor;
use crate::monitor::reading::Readings;
use crate::monitor::sensors::{LogCell, Sensors};
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
    config: MonitorConfig,
    state: MonitorState,
    /// Opened at the start and kept over restarts: a restart may find no free descriptor.
    sensors: Arc<Mutex<Sensors>>,
    log_cell: LogCell,
    pub(super) client_tables: ClientTables,
    watched: Vec<WatchedActor>,
    shared: Arc<MonitorShared>,
    notices: Notices,
    metrics: MonitorMetrics,
    log: Logger,
    events: ActorEvents,
    /// The cursor of the process, and the waits in the mailboxes that move it.
    cursor: Option<(ProcessCursor, MailboxWaits)>,
}

impl Monitor {
    pub(super) fn new(
        config: MonitorConfig,
        (slots, client_tables): (Arc<BoundedCount>, ClientTables),
        watched: Vec<Arc<ActorStats>>,
        (metrics, actions): (MonitorMetrics, Arc<OverloadActions>),
        log: Logger,
        now: Instant,
    ) -> Self {
        let state = MonitorState::new(&config, now);
        let shared = Arc::new(MonitorShared::new(&state, actions));
        let sensors = Sensors::open(&config, slots, &watched);
        let log_cell = sensors.log();
        Self {
            config,
            state,
            sensors: Arc::new(Mutex::new(sensors)),
            log_cell,
            client_tables,
            watched: watched.into_iter().map(WatchedActor::new).collect(),
            shared,
            notices: Notices::default(),
            metrics,
            log,
            events: ActorEvents::default(),
            cursor: None,
        }
    }

    /// Moves the cursor of the process with each sample.
    pub(crate) fn with_cursor(self, cursor: ProcessCursor, mailboxes: MailboxWaits) -> Self {
        Self { cursor: Some((cursor, mailboxes)), ..self }
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
        if let Some((cursor, _)) = &mut self.cursor {
            cursor.rebuild();
        }
    }

    fn started(&mut self, ctx: &mut Context<ActorShell<Self>>) {
        // Read in the timer: a crash during a read leaves the state clean.
        let sensors = Arc::clone(&self.sensors);
        let read = move || sensors.lock().unwrap_or_else(PoisonError::into_inner).read(clock::now());
        let interval = self.config.interval;
        ctx.run_later(Duration::ZERO, move |shell, ctx| {
            shell.handle_timer(Sample(read()));
            ctx.run_interval(interval, move |shell, _| shell.handle_timer(Sample(read())));
        });
    }
}

impl MessageHandler<Sample> for Monitor {
    type Decision = LevelUpdate;

    fn decide(&self, Sample(readings): &Sample, now: Instant) -> LevelUpdate {
        self.state.evaluate(readings, now)
    }

    fn apply(&mut self, Sample(readings): Sample, update: LevelUpdate, now: Instant) {
        let transition = self.state.apply(update);
        self.metrics.sampled(&readings, self.state.level());
        if let Some((cursor, mailboxes)) = &mut self.cursor {
            cursor.update(&readings, mailboxes.totals(), now);
        }
        self.publish(Some((readings, now)), now);
        if let Some(transition) = &transition {
            self.report_transition(transition);
        }
        self.check_stalls(now);
    }
}
