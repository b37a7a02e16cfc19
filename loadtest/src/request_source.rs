//! The requests of a load: one that is encoded once, or one that depends on the configuration and the time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

use serde::Deserialize;

use crate::client::{BodyCapture, Request};
use crate::configuration::{Placeholders, SharedTimeline};
use crate::{clock, signature};

/// A pair that signs the requests of a load.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeySpec {
    access_key_id: String,
    secret: String,
}

/// What a request consists of. All texts may have placeholders.
pub(crate) struct RequestTemplate {
    pub(crate) method: String,
    pub(crate) host: SocketAddr,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) key: Option<KeySpec>,
    pub(crate) body_bytes: u64,
    pub(crate) capture: BodyCapture,
    /// Headers of the answer that are kept.
    pub(crate) kept_headers: Vec<String>,
    /// Speed at which the answer's body is read.
    pub(crate) read_bytes_per_second: Option<u64>,
}

/// A request, and the number of the configuration in it.
#[derive(Clone)]
pub(crate) struct NumberedRequest {
    pub(crate) number: u64,
    pub(crate) request: Rc<Request>,
}

/// The source of the requests of one load.
pub(crate) struct RequestSource {
    varying: Option<Varying>,
    newest: RefCell<Built>,
}

struct Varying {
    template: RequestTemplate,
    placeholders: Placeholders,
    timeline: SharedTimeline,
    /// Difference to the number of the installed configuration.
    ahead: i64,
}

/// The newest request, and the second in which it was signed.
struct Built {
    numbered: NumberedRequest,
    second: u64,
}

impl From<Request> for RequestSource {
    fn from(request: Request) -> Self {
        let numbered = NumberedRequest { number: 0, request: Rc::new(request) };
        Self { varying: None, newest: RefCell::new(Built { numbered, second: 0 }) }
    }
}

impl RequestSource {
    /// Requests with the number of the newest installed configuration plus `ahead`, signed anew every second.
    pub(crate) fn new(
        template: RequestTemplate,
        placeholders: Placeholders,
        timeline: SharedTimeline,
        ahead: i64,
    ) -> Self {
        let varying = Varying { template, placeholders, timeline, ahead };
        let built = varying.build(varying.number(), clock::unix_seconds());
        Self { varying: Some(varying), newest: RefCell::new(built) }
    }

    /// The request to send now.
    pub(crate) fn request(&self) -> NumberedRequest {
        let mut newest = self.newest.borrow_mut();
        if let Some(varying) = &self.varying {
            let number = varying.number();
            let second = if varying.template.key.is_some() { clock::unix_seconds() } else { newest.second };
            if (newest.numbered.number, newest.second) != (number, second) {
                *newest = varying.build(number, second);
            }
        }
        newest.numbered.clone()
    }
}

impl Varying {
    fn number(&self) -> u64 {
        self.timeline.borrow().installed().saturating_add_signed(self.ahead)
    }

    fn build(&self, number: u64, second: u64) -> Built {
        let RequestTemplate { method, host, headers, key, .. } = &self.template;
        let fill = |text: &str| self.placeholders.fill(text, number);
        let path = fill(&self.template.path);
        let mut request = Request::new(method, *host, &path, self.template.body_bytes, self.template.capture);
        for (name, value) in headers {
            request = request.with_header(name, &fill(value));
        }
        if let Some(KeySpec { access_key_id, secret }) = key {
            let (access_key_id, secret, host) = (fill(access_key_id), fill(secret), host.to_string());
            let signed = (method.as_str(), path.as_str(), host.as_str());
            let now = clock::UtcTime::of(second);
            for (name, value) in signature::headers((&access_key_id, &secret), signed, now) {
                request = request.with_header(name, &value);
            }
        }
        let request = request
            .keeping_headers(self.template.kept_headers.clone())
            .read_slowly(self.template.read_bytes_per_second);
        Built { numbered: NumberedRequest { number, request: Rc::new(request) }, second }
    }
}
