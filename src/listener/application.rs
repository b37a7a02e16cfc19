//! The applications that the loops of HTTP/1.1 and HTTP/2 call.
//!
//! That of the data listener is called directly. actix-web's `App` would decode the target for a router that has no route, look up each
//! argument of the handler by its type, and box two futures and the body (`docs/design/http1-loop.md`). The admin listener has routes, so
//! it has an `App`.

use std::future::Future;
use std::rc::Rc;

use actix_http::Request;
use actix_service::Service;
use actix_web::Error;
use actix_web::HttpResponse;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;

use crate::http::client_request::ClientRequest;
use crate::http::proxy;
use crate::upstream::ProxyBody;
use crate::worker::slot::WorkerSlot;

/// Responds to requests.
pub(crate) trait Application: 'static {
    /// The body of a response.
    type Body: MessageBody + Unpin;

    /// The response to a request. The future ends early if the client leaves.
    fn respond(&self, request: ClientRequest) -> impl Future<Output = HttpResponse<Self::Body>>;
}

/// The application of the data listener, for both protocols.
pub(crate) struct DataApplication {
    slot: Rc<WorkerSlot>,
}

impl DataApplication {
    pub(crate) fn new(slot: Rc<WorkerSlot>) -> Self {
        Self { slot }
    }
}

impl Application for DataApplication {
    type Body = ProxyBody;

    fn respond(&self, request: ClientRequest) -> impl Future<Output = HttpResponse<ProxyBody>> {
        proxy::proxy(self.slot.begin(), request)
    }
}

/// An application of actix-web.
pub(crate) struct WebApplication<S>(pub(crate) S);

impl<S> Application for WebApplication<S>
where
    S: Service<Request, Response = ServiceResponse<BoxBody>, Error = Error> + 'static,
{
    type Body = BoxBody;

    async fn respond(&self, request: ClientRequest) -> HttpResponse {
        let ClientRequest { head, payload, client, .. } = request;
        let mut head = head.into_inner();
        head.peer_addr = client;
        let mut request = Request::from(head);
        *request.payload() = payload;
        let response = self.0.call(request).await;
        response.map_or_else(|error| error.error_response(), |response| response.into_parts().1)
    }
}
