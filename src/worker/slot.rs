//! The worker of the current configuration on one thread.
//!
//! A connection lives longer than a configuration, so it holds the slot and takes the current worker once for each request. The request
//! holds that worker to its end. Nothing else may hold a worker, because the last one that is dropped retires its configuration.

use std::cell::RefCell;
use std::future::{Ready, ready};
use std::rc::Rc;

use actix_web::dev::Payload;
use actix_web::error::ErrorInternalServerError;
use actix_web::{Error, FromRequest, HttpRequest};
use tokio::sync::mpsc::UnboundedReceiver;

use super::Worker;
use super::idle_thread::IdleThread;
use crate::process::configurations::ThreadCommand;

/// Actors that are started, or clients of upstreams that are built or dropped, between two requests: a quarter of a millisecond of work.
const PER_TURN: usize = 4;

/// The current worker of one thread.
pub(crate) struct WorkerSlot {
    current: RefCell<Rc<Worker>>,
    pub(crate) idle: IdleThread,
}

impl WorkerSlot {
    /// Starts the task that runs the commands of the thread. Must be called on that thread.
    pub(crate) fn start(worker: Rc<Worker>, commands: UnboundedReceiver<ThreadCommand>) -> Rc<Self> {
        let this = Rc::new(Self { current: RefCell::new(worker), idle: IdleThread::default() });
        actix_rt::spawn(Rc::clone(&this).run_commands(commands));
        this
    }

    /// The worker for a request or a connection that begins now.
    #[inline]
    pub(crate) fn begin(&self) -> Rc<Worker> {
        self.idle.end();
        self.current()
    }

    /// The worker of the current configuration.
    #[inline]
    pub(crate) fn current(&self) -> Rc<Worker> {
        Rc::clone(&self.current.borrow())
    }

    /// Runs the commands of the thread. Returns when the gateway has ended.
    async fn run_commands(self: Rc<Self>, mut commands: UnboundedReceiver<ThreadCommand>) {
        while let Some(command) = commands.recv().await {
            let done = match command {
                ThreadCommand::Start(launches, done) => {
                    for (number, launch) in launches.into_iter().enumerate() {
                        launch.start();
                        pause_after(number + 1).await;
                    }
                    done
                }
                ThreadCommand::Switch(shared, done) => {
                    let current = self.current();
                    let clients = current.upstream_clients_of(&shared).await;
                    let next = current.successor(shared, clients);
                    drop(current);
                    drop(self.current.replace(next));
                    done
                }
                ThreadCommand::CutWithdrawn(withdrawn) => {
                    self.current().cut_withdrawn(&withdrawn);
                    continue;
                }
                ThreadCommand::Answer(done) => done,
            };
            // The sender waits for all threads, unless the process ends.
            let _ = done.send(());
        }
    }
}

/// Lets requests run after each turn of a command about thousands of buckets.
pub(super) async fn pause_after(done: usize) {
    if done.is_multiple_of(PER_TURN) {
        tokio::task::yield_now().await;
    }
}

/// The current worker, as an argument of a request's handler.
pub(crate) struct CurrentWorker(pub(crate) Rc<Worker>);

impl FromRequest for CurrentWorker {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let slot = request.app_data::<Rc<WorkerSlot>>();
        ready(slot.map(|slot| Self(slot.current())).ok_or_else(|| ErrorInternalServerError("no worker")))
    }
}
