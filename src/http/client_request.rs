//! A request of a client, as its connection passes it to the application.

use std::net::SocketAddr;
use std::rc::Rc;

use actix_http::Payload;

use crate::buffers::send_progress::SendProgress;
use crate::client_address::AddressSource;
use crate::request_head::ClientHead;

/// A request and the address of its client.
pub(crate) struct ClientRequest {
    pub(crate) head: ClientHead,
    pub(crate) payload: Payload,
    /// The address of the peer, or the one in its PROXY header.
    pub(crate) client: Option<SocketAddr>,
    pub(crate) source: AddressSource,
    /// How the response is sent.
    pub(crate) progress: Option<Rc<SendProgress>>,
}
