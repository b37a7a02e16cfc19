//! The settings of the monitor that a reload replaces in place (G3).
//!
//! All configurations have one monitor and one count of requests in flight. A request meets the settings of the current
//! configuration: what it reads without an ask (the caps and `concurrency.max_per_client_mode`) is replaced at the commit, and the
//! rest when the actor handles the message. The level and all counts stay; the next sample meets the new thresholds.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use tidegate_config::{ActionMode, ClientConcurrencyConfig, Config, MonitorConfig};

use crate::actor_stats::ActorStats;
use crate::monitor::actions::{ActionRules, InForce};
use crate::monitor::actor::Monitor;
use crate::monitor::handle::MonitorHandle;
use crate::shedding::ShedderSettings;
use crate::wake_up::WakeUp;

/// What the monitor has of a configuration.
#[derive(Debug)]
pub(crate) struct MonitorSettings {
    pub(super) monitor: MonitorConfig,
    pub(super) actions: ActionRules,
    pub(super) clients: ClientConcurrencyConfig,
    /// `server.max_concurrent_requests`
    pub(super) slots: usize,
    /// The cursor of the process.
    pub(super) shedding: ShedderSettings,
    /// The actors that are watched for stalls, with the waits in their mailboxes.
    pub(super) watched: Vec<Arc<ActorStats>>,
}

impl MonitorSettings {
    pub(crate) fn new(config: &Config, watched: Vec<Arc<ActorStats>>) -> Self {
        Self {
            monitor: config.monitor.clone(),
            actions: ActionRules::new(&config.actions),
            clients: config.concurrency.clone(),
            slots: config.server.max_concurrent_requests.get(),
            shedding: ShedderSettings::of_process(&config.shedding, &config.monitor),
            watched,
        }
    }

    /// How `concurrency.max_per_client` acts; none if it is off.
    pub(super) fn per_client(&self) -> Option<InForce> {
        match self.clients.max_per_client_mode {
            _ if self.clients.max_per_client == 0 => None,
            ActionMode::Enforce => Some(InForce::Enforced),
            ActionMode::Shadow => Some(InForce::Shadow),
            ActionMode::Off => None,
        }
    }

    /// The most requests in flight of one client.
    pub(super) fn per_client_max(&self) -> usize {
        self.per_client().map_or(usize::MAX, |_| self.clients.max_per_client)
    }
}

/// New settings of the monitor. They have no effect until they are committed.
#[must_use = "without a commit the monitor keeps its settings"]
pub struct MonitorReconfigure {
    handle: MonitorHandle,
    settings: Arc<MonitorSettings>,
}

impl MonitorReconfigure {
    /// Puts the settings into effect. The actor has them before it handles a message that is sent afterwards, and also after a
    /// crash.
    pub fn commit(self) {
        let Self { handle, settings } = self;
        handle.set_caps(&settings);
        handle.latest.store(settings);
        handle.mailbox.notify(SettingsChanged);
    }
}

impl MonitorHandle {
    /// The settings of another configuration, to be committed. The handle is that of all configurations. `watched` are its actors.
    pub fn reconfigured(&self, config: &Config, watched: Vec<Arc<ActorStats>>) -> MonitorReconfigure {
        MonitorReconfigure { handle: self.clone(), settings: Arc::new(MonitorSettings::new(config, watched)) }
    }
}

/// Makes the actor read its latest settings.
pub(crate) struct SettingsChanged;

impl WakeUp for SettingsChanged {
    type Actor = Monitor;
    const NAME: &'static str = "monitor.reconfigure";

    fn wake(monitor: &mut Monitor, now: Instant) {
        monitor.reconfigure(now);
    }
}

impl Monitor {
    /// Continues with the latest settings.
    pub(super) fn reconfigure(&mut self, now: Instant) {
        let Some(settings) = self.latest.load_changed(&self.settings) else { return };
        self.state.reconfigure(&settings.monitor);
        self.sensors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .reconfigure(&settings.monitor, &settings.watched);
        self.client_tables.reconfigure(&settings);
        self.watch(&settings.watched);
        self.shared().actions().set_rules(settings.actions);
        self.settings = settings;
        self.reconfigure_cursor(now);
        self.publish_again(now);
    }
}
