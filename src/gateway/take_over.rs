//! The successor's side of an upgrade, from the prepared start to the end of the predecessor (G8): it imports the state,
//! accepts, and holds back the predecessor's part of the limits.

use std::io::{self, PipeReader};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use slog::{Logger, info, warn};
use tidegate_actors::{PredecessorUse, clock};

use super::RunningGateway;
use super::actors_handover::{import_state, reserve_for_predecessor};
use crate::process::configurations::Configurations;
use crate::process::predecessors::Predecessor;
use crate::telemetry::rfc3339;
use crate::upgrade::channel::{Channel, ReceiveError, Received};
use crate::upgrade::message::{MESSAGE_BYTES_MAX, PredecessorMessage, SuccessorMessage};
use crate::upgrade::{FailureReport, Inheritance, SuccessorError};

impl RunningGateway {
    /// Takes over from the predecessor: imports the state of its actors, and accepts when it may.
    ///
    /// # Errors The predecessor ended or gave up before it handed over, or sent something else.
    pub async fn take_over(&mut self, inheritance: Inheritance) -> Result<(), SuccessorError> {
        let mut predecessor = Predecessor {
            pid: inheritance.pid,
            version: inheritance.version.clone(),
            since: rfc3339(clock::wall()),
            drain: None,
            limits: None,
        };
        let shared = self.configurations.current();
        // From here on this process refuses an upgrade of its own.
        shared.process.predecessors.set(predecessor.clone());
        let (channel, report) = inheritance.into_channel().map_err(SuccessorError::Channel)?;
        // The actors that get the state must be those that serve.
        let configurations = Arc::clone(&self.configurations);
        let change = configurations.change.lock().await;
        self.import(&channel).await?;
        // Without its predecessor this process is the only one that can serve.
        let (is_only_process, log_of_predecessor) = self.wait_for_accept(&channel).await?;
        if let Err(error) = self.log_control.receive_from(log_of_predecessor.into()) {
            warn!(shared.process.log, "the log of the predecessor cannot be received, it writes its own output"; "error" => error.to_string());
        }
        self.begin_to_accept(&shared.process.log, &report);
        drop(change);
        if is_only_process {
            shared.process.predecessors.remove();
            reserve_for_predecessor(&shared, &PredecessorUse::default());
            warn!(shared.process.log, "the predecessor ended when it handed over"; "pid" => predecessor.pid);
            return Ok(());
        }
        predecessor.since = rfc3339(clock::wall());
        shared.process.predecessors.set(predecessor.clone());
        self.background_tasks.push(actix_rt::spawn(follow(configurations, channel, predecessor)));
        Ok(())
    }

    /// Reports that everything is prepared, and imports the state.
    async fn import(&self, channel: &Channel) -> Result<(), SuccessorError> {
        let sockets = self.shared_sockets.iter().map(|socket| socket.name.to_owned()).collect();
        send(channel, &SuccessorMessage::Prepared { sockets }).await?;
        let PredecessorMessage::State { actors } = receive(channel).await? else {
            return Err(SuccessorError::UnexpectedMessage);
        };
        import_state(&self.configurations.current(), *actors).await;
        Ok(())
    }

    /// Reports that the state is imported, and waits until this process may accept. True if the predecessor has ended instead. Returns the
    /// pipe with the log of the predecessor too.
    async fn wait_for_accept(&self, channel: &Channel) -> Result<(bool, PipeReader), SuccessorError> {
        let (reader, writer) = io::pipe().map_err(SuccessorError::Channel)?;
        send_with(channel, &SuccessorMessage::Ready, &[writer.as_fd()]).await?;
        // Only the predecessor has the writer now, so its end is the end of the pipe.
        drop(writer);
        match receive(channel).await {
            Ok(PredecessorMessage::Accept) => Ok((false, reader)),
            Ok(_) => Err(SuccessorError::UnexpectedMessage),
            Err(SuccessorError::PredecessorEnded) => Ok((true, reader)),
            Err(error) => Err(error),
        }
    }

    fn begin_to_accept(&mut self, log: &Logger, report: &FailureReport) {
        report.end();
        for socket in std::mem::take(&mut self.shared_sockets) {
            let name = socket.name;
            if let Err(error) = socket.configure() {
                warn!(log, "an inherited socket keeps the settings of the predecessor"; "listener" => name,
                    "error" => error.to_string());
            }
        }
        self.server.acceptor().resume();
        self.log_listening();
    }
}

/// Publishes the reports of the predecessor until it ends.
async fn follow(configurations: Arc<Configurations>, channel: Channel, mut predecessor: Predecessor) {
    loop {
        match receive(&channel).await {
            Ok(PredecessorMessage::Progress { drain, limits }) => {
                let shared = configurations.current();
                reserve_for_predecessor(&shared, &limits);
                (predecessor.drain, predecessor.limits) = (Some(drain), Some(limits));
                shared.process.predecessors.set(predecessor.clone());
            }
            // A later version may send more.
            Ok(_) | Err(SuccessorError::UnexpectedMessage) => {}
            Err(_) => break,
        }
    }
    let shared = configurations.current();
    reserve_for_predecessor(&shared, &PredecessorUse::default());
    shared.process.predecessors.remove();
    info!(shared.process.log, "the predecessor has ended"; "pid" => predecessor.pid);
}

async fn send(channel: &Channel, message: &SuccessorMessage) -> Result<(), SuccessorError> {
    send_with(channel, message, &[]).await
}

async fn send_with(
    channel: &Channel,
    message: &SuccessorMessage,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), SuccessorError> {
    channel.send(message, descriptors).await.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => SuccessorError::PredecessorEnded,
        _ => SuccessorError::Channel(error),
    })
}

async fn receive(channel: &Channel) -> Result<PredecessorMessage, SuccessorError> {
    let received: Result<Received<_>, ReceiveError> = channel.receive(MESSAGE_BYTES_MAX).await;
    Ok(received?.message)
}
