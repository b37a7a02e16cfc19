//! The monitor's one message, its timer and its shell.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix::{AsyncContext, Context};
use slog::{Logger, info, warn};
use tidegate_config::MonitorConfig;

use crate::count::Bounded;
use crate::host::{Component, Host, Serve};
use crate::mailbox::Request;
use crate::monitor::clients::Clients;
use crate::monitor::metrics::MonitorMetrics;
use crate::monitor::reading::Readings;
use crate::monitor::sensors::Sensors;
use crate::monitor::stall::StallWatch;
use crate::monitor::state::{Judgement, MonitorState, Transition};
use crate::monitor::view::{Board, MonitorView};
use crate::vitals::Vitals;

/// The sensors were read.
pub(crate) struct Sample(pub(super) Readings);

impl Request for Sample {
    type Reply = ();
    const NAME: &'static str = "monitor.sample";

    fn likeness(&self) -> u64 {
        0
    }
}

/// An actor that is watched for standing still.
struct Watched {
    vitals: Arc<Vitals>,
    watch: StallWatch,
}

/// The component.
pub(crate) struct Monitor {
    config: MonitorConfig,
    state: MonitorState,
    /// Opened at the start and kept over restarts: they hold descriptors that may not be had again.
    sensors: Arc<Mutex<Sensors>>,
    pub(super) clients: Clients,
    watched: Vec<Watched>,
    board: Arc<Board>,
    metrics: MonitorMetrics,
    log: Logger,
}

impl Monitor {
    pub(super) fn new(
        config: MonitorConfig,
        (slots, clients): (Arc<Bounded>, Clients),
        watched: Vec<Arc<Vitals>>,
        metrics: MonitorMetrics,
        log: Logger,
        now: Instant,
    ) -> Self {
        let state = MonitorState::new(&config, now);
        let board = Arc::new(Board::new(&state));
        let watched =
            watched.into_iter().map(|vitals| Watched { vitals, watch: StallWatch::new() }).collect();
        let sensors = Arc::new(Mutex::new(Sensors::open(&config, slots)));
        Self { config, state, sensors, clients, watched, board, metrics, log }
    }

    pub(super) fn board(&self) -> &Arc<Board> {
        &self.board
    }

    fn watch(&mut self, now: Instant) {
        for Watched { vitals, watch } in &mut self.watched {
            let Some(stalled) = watch.look(vitals.depth(), vitals.handled(), now) else {
                continue;
            };
            vitals.set_stalled(stalled);
            if stalled {
                warn!(self.log, "actor stalls"; "stalled" => vitals.name(), "depth" => vitals.depth());
            } else {
                info!(self.log, "actor moves again"; "stalled" => vitals.name());
            }
        }
    }

    fn log_transition(&self, transition: &Transition) {
        let Transition { from, to, reason, .. } = transition;
        let reason = reason.map_or_else(|| "no sensor knows".to_owned(), |reason| reason.to_string());
        if to > from {
            warn!(self.log, "degradation level rose"; "from" => from.as_str(), "to" => to.as_str(), "reason" => reason);
        } else {
            info!(self.log, "degradation level fell"; "from" => from.as_str(), "to" => to.as_str(), "reason" => reason);
        }
    }
}

impl Component for Monitor {
    fn rebuild(&mut self, _: Instant) {
        self.clients.rebuild();
        let last = self.board.view();
        self.state.rebuild(last.level, last.since, &last.transitions);
        self.board.publish(MonitorView::of(&self.state, None));
    }

    fn started(&mut self, ctx: &mut Context<Host<Self>>) {
        // Read in the timer: reading touches no state, and a crash there leaves it clean.
        let sensors = Arc::clone(&self.sensors);
        let read = move || sensors.lock().unwrap_or_else(PoisonError::into_inner).read();
        let interval = self.config.interval;
        ctx.run_later(Duration::ZERO, move |host, ctx| {
            host.tick(Sample(read()));
            ctx.run_interval(interval, move |host, _| host.tick(Sample(read())));
        });
    }
}

impl Serve<Sample> for Monitor {
    type Decision = Judgement;

    fn decide(&self, Sample(readings): &Sample, now: Instant) -> Judgement {
        self.state.judge(readings, now)
    }

    fn apply(&mut self, Sample(readings): Sample, judgement: Judgement, now: Instant) {
        let transition = self.state.apply(judgement);
        self.board.publish(MonitorView::of(&self.state, Some((readings, now))));
        self.metrics.sampled(&readings, self.state.level());
        if let Some(transition) = &transition {
            self.log_transition(transition);
        }
        self.watch(now);
    }
}
