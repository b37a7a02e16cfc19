//! A request of a client, as its connection passes it to the application.

use std::net::SocketAddr;
use std::rc::Rc;

use actix_http::{Message, Payload, RequestHead};

use crate::buffers::send_progress::SendProgress;
use crate::client_address::AddressSource;

/// A request with what its connection knows about it.
pub(crate) struct ClientRequest {
    /// It goes back to actix-http's pool of heads when it is dropped.
    pub(crate) head: Message<RequestHead>,
    pub(crate) payload: Payload,
    /// The address of the peer, or the one in its PROXY header.
    pub(crate) client: Option<SocketAddr>,
    pub(crate) source: AddressSource,
    /// How the response is sent.
    pub(crate) progress: Option<Rc<SendProgress>>,
}
