//! The actors that `system.rs` made and that do not run yet, and on which threads they are started.
//!
//! The monitor has a thread of its own; all others are distributed over the workers' arbiters in turn, so that each worker carries about
//! the same number. Deliberately absent: moving an actor to another thread once it runs.

use std::io;

use actix_rt::Arbiter;

#[cfg(any(test, feature = "simulation"))]
use crate::simulation::SteppableActor;
use crate::supervisor::Runnable;

/// One actor's life, to be started on the thread it is to stay on.
pub struct Launch(Box<dyn Runnable>);

impl Launch {
    pub(crate) fn new(life: impl Runnable + 'static) -> Self {
        Self(Box::new(life))
    }

    /// Starts the actor on this thread.
    pub fn start(self) {
        self.0.start();
    }
}

/// All actors' lives.
pub struct Launches {
    pub(crate) own_thread: Vec<Launch>,
    pub(crate) on_workers: Vec<Launch>,
}

impl Launches {
    /// Starts those that have a thread of their own.
    ///
    /// # Errors
    /// A thread cannot be had.
    pub fn start_own_threads(&mut self) -> io::Result<()> {
        for launch in self.own_thread.drain(..) {
            if !Arbiter::new().spawn_fn(|| launch.start()) {
                return Err(io::Error::other("an arbiter ended before its actor began"));
            }
        }
        Ok(())
    }

    /// Takes all actors to where they handle messages only when they are told to.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn into_stepped(self) -> Vec<Box<dyn SteppableActor>> {
        self.own_thread.into_iter().chain(self.on_workers).map(|launch| launch.0.into_stepped()).collect()
    }

    /// Distributes the others over so many workers.
    pub fn distribute(self, workers: usize) -> Vec<Vec<Launch>> {
        let mut shares: Vec<Vec<Launch>> = (0..workers.max(1)).map(|_| Vec::new()).collect();
        let count = shares.len();
        for (i, launch) in self.on_workers.into_iter().enumerate() {
            shares[i % count].push(launch);
        }
        shares
    }
}
