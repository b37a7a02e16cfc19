//! Prepared actors and the threads on which they are started.
//!
//! The monitor has its own thread. All other actors are distributed over the workers' arbiters in turn, so that each
//! worker runs about the same number. A running actor is never moved to another thread.

use std::io;

use actix_rt::Arbiter;

#[cfg(any(test, feature = "simulation"))]
use crate::simulation::SteppableActor;
use crate::supervisor::Runnable;

/// One prepared actor, to be started on the thread it stays on.
pub struct Launch(Box<dyn Runnable>);

impl Launch {
    pub(crate) fn new(actor: impl Runnable + 'static) -> Self {
        Self(Box::new(actor))
    }

    /// Starts the actor on this thread.
    pub fn start(self) {
        self.0.start();
    }
}

/// All prepared actors.
pub struct Launches {
    pub(crate) own_thread: Vec<Launch>,
    pub(crate) on_workers: Vec<Launch>,
}

impl Launches {
    /// Starts the actors that have their own thread.
    ///
    /// The operating system refused a thread.
    pub fn start_own_threads(&mut self) -> io::Result<()> {
        for launch in self.own_thread.drain(..) {
            if !Arbiter::new().spawn_fn(|| launch.start()) {
                return Err(io::Error::other("the thread of an actor ended before the actor started"));
            }
        }
        Ok(())
    }

    /// Converts all actors for the simulation, which decides when each handles a message.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn into_stepped(self) -> Vec<Box<dyn SteppableActor>> {
        self.own_thread.into_iter().chain(self.on_workers).map(|launch| launch.0.into_stepped()).collect()
    }

    /// Distributes the other actors over this many workers.
    pub fn distribute(self, workers: usize) -> Vec<Vec<Launch>> {
        let mut shares: Vec<Vec<Launch>> = (0..workers.max(1)).map(|_| Vec::new()).collect();
        let count = shares.len();
        for (i, launch) in self.on_workers.into_iter().enumerate() {
            shares[i % count].push(launch);
        }
        shares
    }
}
