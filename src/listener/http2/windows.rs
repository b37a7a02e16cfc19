//! The windows of one connection's uploads: small at first, large after an upload was fast.
//!
//! They grow with the receive buffer of the client's socket (`buffers/`), which follows the pace of an upload, and
//! are reserved in the same budget until no request is open or memory is short. A granted window cannot be revoked: a
//! smaller window takes effect as the client uses up the larger one.

use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use h2::server::Connection;
use tokio::io::{AsyncRead, AsyncWrite};

use super::limits::{self, LARGE_WINDOWS_BYTES};
use crate::buffers::{BufferBudget, Reservation, SocketBuffers};

/// The client's socket, and the budget of the process.
pub(crate) struct ClientSocket {
    pub(crate) buffers: Rc<SocketBuffers>,
    pub(crate) budget: Arc<BufferBudget>,
}

/// The windows of one connection.
pub(super) struct Windows {
    socket: Option<ClientSocket>,
    reservation: Option<Reservation>,
}

impl Windows {
    /// `socket` is `None` if the loop runs in memory.
    pub(super) fn new(socket: Option<ClientSocket>) -> Self {
        Self { socket, reservation: None }
    }

    /// The client's socket.
    pub(super) fn buffers(&self) -> Option<&Rc<SocketBuffers>> {
        self.socket.as_ref().map(|socket| &socket.buffers)
    }

    /// Waits until the receive buffer of the socket is resized.
    pub(super) async fn resized(&self) {
        match &self.socket {
            Some(socket) => socket.buffers.receive_resized().await,
            None => pending().await,
        }
    }

    /// Adapts the windows to the resized receive buffer: a fast upload makes them large, short memory makes them
    /// small.
    pub(super) fn adjust<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        connection: &mut Connection<S, Bytes>,
    ) {
        let Some(socket) = &self.socket else { return };
        if socket.budget.is_short() {
            self.shrink(connection);
        } else if self.reservation.is_none() && socket.buffers.has_grown_receive() {
            let reservation = socket.budget.try_reserve(LARGE_WINDOWS_BYTES);
            if reservation.is_some() && set_windows(connection, true) {
                self.reservation = reservation;
            }
        }
    }

    /// Makes the windows small, because no request is open or memory is short.
    pub(super) fn shrink<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        connection: &mut Connection<S, Bytes>,
    ) {
        if self.reservation.is_some() && set_windows(connection, false) {
            self.reservation = None;
        }
    }
}

/// False if the client has not acknowledged the last change yet: the windows stay as they are until the next event.
fn set_windows<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<S, Bytes>,
    is_large: bool,
) -> bool {
    let (stream, connection_bytes) = limits::windows(is_large);
    let is_set = connection.set_initial_window_size(stream).is_ok();
    if is_set {
        connection.set_target_window_size(connection_bytes);
    }
    is_set
}
