//! Creates the address, mailbox, statistics and supervision of each actor. `system.rs` starts it.

use std::sync::Arc;

use actix::Addr;
use actix::dev::channel::{AddressReceiver, channel};
use slog::{Logger, o};
use tidegate_config::Config;

use crate::actor_shell::{ActorShell, Component};
use crate::actor_stats::ActorStats;
use crate::events::ActorEvents;
use crate::intensity::Intensity;
use crate::launches::Launch;
use crate::mailbox::Mailbox;
use crate::metrics::ActorFamilies;
use crate::supervisor::Prepared;

/// What all actors are created with.
pub(crate) struct Spawner<'a> {
    pub(crate) config: &'a Config,
    pub(crate) families: &'a ActorFamilies,
    pub(crate) log: &'a Logger,
    /// Where actors report their decisions.
    pub(crate) events: ActorEvents,
    /// Seed of all random choices.
    pub(crate) seed: u64,
}

/// The address and mailbox of an actor that is not built yet.
pub(crate) struct ActorChannel<C: Component> {
    pub(crate) mailbox: Mailbox<C>,
    receiver: AddressReceiver<ActorShell<C>>,
    pub(crate) stats: Arc<ActorStats>,
}

impl Spawner<'_> {
    fn mailbox_capacity(&self) -> usize {
        self.config.supervision.mailbox_capacity.get()
    }

    pub(crate) fn prepare<C: Component>(&self, name: impl Into<String>) -> ActorChannel<C> {
        self.prepare_with(ActorStats::new(name, self.mailbox_capacity()))
    }

    /// The channel of an actor that replaces another one of the same name.
    pub(crate) fn prepare_successor<C: Component>(&self, replaced: &ActorStats) -> ActorChannel<C> {
        self.prepare_with(replaced.successor(self.mailbox_capacity()))
    }

    fn prepare_with<C: Component>(&self, stats: ActorStats) -> ActorChannel<C> {
        let (sender, receiver) = channel(self.mailbox_capacity());
        let stats = Arc::new(stats);
        let metrics = self.families.actor(stats.name());
        let ask_timeout = self.config.supervision.ask_timeout;
        let mailbox = Mailbox::new(Addr::new(sender), Arc::clone(&stats), metrics, ask_timeout);
        ActorChannel { mailbox, receiver, stats }
    }

    /// A different seed for each actor name.
    pub(crate) fn seed_for(&self, name: &str) -> u64 {
        name.bytes().fold(self.seed, |seed, byte| seed.rotate_left(5) ^ u64::from(byte))
    }

    pub(crate) fn build<C: Component>(&self, channel: ActorChannel<C>, component: C) -> Launch {
        let ActorChannel { mailbox: _, receiver, stats } = channel;
        let supervision = &self.config.supervision;
        let log = self.log.new(o!("actor" => stats.name().to_owned()));
        let metrics = self.families.actor(stats.name());
        let shell = ActorShell::new(component, supervision.window, Arc::clone(&stats), metrics, log.clone());
        let restarts_max = usize::try_from(supervision.max_restarts).unwrap_or(usize::MAX);
        let intensity = Intensity::new(restarts_max, supervision.window);
        Launch::new(Prepared { shell, mailbox: receiver, intensity, stats, log })
    }
}
