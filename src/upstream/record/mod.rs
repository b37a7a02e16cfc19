//! The record of one request, from its head to its last byte: access log line and metrics (O2, O4).
//!
//! The current owner of the request owns its record; finally the body of the answer does. The drop writes the record, so every path is
//! recorded: success, refusal, panic and a disconnected client. Values of parameters that may be secrets are redacted
//! (`telemetry/redact.rs`).

mod access_fields;
pub(crate) mod attempt_notes;
mod decision;
mod ip_field;
mod live;
pub(crate) mod request_host;
mod start_time;

use std::rc::Rc;
use std::time::{Duration, Instant};

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::http::{Method, Uri};
use tidegate_actors::{
    Action, Allowed, BucketId, ClientId, ClientIdentity, ClientTicket, CredentialId, InFlightSlot, IpKey,
    OperationClass, clock,
};
use tidegate_config::{Kind, Priority};
use tidegate_s3::addressing::NamedResource;
use tokio::sync::OwnedSemaphorePermit;

use crate::buffers::body_memory::{self, BodyMemoryFull, BodyReservation, ReserveBody};
use crate::buffers::client_wait::Occupancy;
use crate::buffers::revocation::StreamOwner;
use crate::buffers::send_progress::SendProgress;
use crate::client_address::ClientAddress;
use crate::decisions::decision::Figures;
use crate::live_requests::LiveRequest;
use crate::telemetry::metrics::timings::RequestTimings;
use crate::upstream::body::upload_progress::{MinBodyRate, UploadProgress};
use crate::upstream::bucket::Bucket;
use crate::upstream::rules::deadline::DeadlineSource;
use crate::upstream::{RegionHeader, RequestHost};
use access_fields::AccessFields;
use attempt_notes::{AttemptNote, AttemptNotes};

/// The record of one request.
pub(crate) struct Record {
    host: Rc<dyn RequestHost>,
    pub(crate) started: Instant,
    pub(crate) id: HeaderValue,
    pub(crate) request: RequestInfo,
    pub(crate) bucket: Option<BucketId>,
    /// The kind of the bucket that a request names which was rejected before it was routed. It selects the error format.
    pub(crate) unrouted_kind: Kind,
    /// The bucket's decoded name, if neither the path nor the name of the bucket's section contains it.
    bucket_name: Option<Box<str>>,
    /// The authenticated caller, if known.
    pub(crate) caller: Option<ClientIdentity>,
    /// CORS headers of the answer, in a bucket with CORS rules.
    pub(crate) cors: Option<Vec<(HeaderName, HeaderValue)>>,
    /// Whether the answer has the header with the bucket's region.
    pub(crate) region: RegionHeader,
    /// State of the rate limits that admitted the request.
    pub(crate) allowed: Allowed,
    /// The in-flight slot of a local reply.
    pub(crate) slot: Option<InFlightSlot>,
    /// The permit of a CORS preflight that is forwarded to the store.
    pub(crate) preflight: Option<OwnedSemaphorePermit>,
    pub(crate) status: u16,
    /// Why the gateway sent a local reply or broke the transfer; none if the upstream's answer was forwarded completely.
    pub(crate) reason: Option<&'static str>,
    /// Figures that explain the reason to the operator.
    pub(crate) detail: Option<String>,
    pub(crate) attempts: u32,
    pub(crate) attempt_notes: AttemptNotes,
    /// The class of the operation; none before the request is routed.
    pub(crate) class: Option<OperationClass>,
    /// The priority in the bucket's queue; none if the request did not come to the queue.
    pub(crate) priority: Option<Priority>,
    /// The result of the hedge; none without a hedge.
    pub(crate) hedged: Option<HedgeOutcome>,
    pub(crate) endpoint: Option<usize>,
    /// The credential of the last attempt, in a bucket with several.
    pub(crate) credential: Option<CredentialId>,
    pub(crate) upload_progress: Rc<UploadProgress>,
    /// Send progress of the answer; none before the connection sets it.
    pub(crate) send_progress: Option<Rc<SendProgress>>,
    pub(crate) sent_bytes: u64,
    pub(crate) phases: RequestTimings,
    /// Reasons of the refusals that shadow mode suppressed, besides those of rate limits.
    pub(crate) shadowed: Vec<&'static str>,
    /// The ticket in the client's limit of requests in flight, if one is configured.
    pub(crate) client_ticket: Option<ClientTicket>,
    /// Whether shedding has charged the request to its client.
    pub(crate) is_charged: bool,
    /// The requests of the client's address that this one stands for, if shedding admitted it with a probability.
    pub(crate) address_weight: f64,
    /// What the deadline of the call follows from.
    pub(crate) deadline_source: DeadlineSource,
    /// What decided that the store's answer is not read to its end. Boxed, because few requests have it.
    cut_figures: Option<Box<Figures>>,
    /// What has been decided about the request.
    decided: decision::Decided,
    /// Whether the memory of decisions has one about it.
    has_decision: bool,
    /// Its slot among the requests under way; none of a record that is never written.
    live: Option<LiveRequest>,
}

/// Result of a hedge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HedgeOutcome {
    /// Another attempt delivered the answer, or none did.
    Lost,
    /// The hedge delivered the answer.
    Won,
}

impl HedgeOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Won => "won",
        }
    }
}

/// Parts of the request that are needed after it was consumed.
#[derive(Clone)]
pub(crate) struct RequestInfo {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    /// Address of the connection's peer.
    pub(crate) peer: Option<ClientAddress>,
    /// Address of the client; none if the connection has no address.
    pub(crate) client: Option<ClientAddress>,
}

impl Record {
    /// Sets the section of the request, and the name of its bucket if nothing else in the log line contains it.
    pub(crate) fn set_bucket(&mut self, bucket: &Bucket, named: &NamedResource<'_>) {
        self.bucket = Some(bucket.id);
        if !bucket.config.pattern.is_exact() && !named.is_literal_in_path() {
            self.bucket_name = Some(named.bucket.as_ref().into());
        }
    }

    /// Records that the answer ended before its last byte.
    pub(crate) fn mark_unfinished(&mut self) {
        self.reason = Some(self.host.unfinished_reason());
    }

    pub(crate) fn new(host: Rc<dyn RequestHost>, id: HeaderValue, request: RequestInfo) -> Self {
        let started = clock::now();
        let live = host.live_requests().begin(started);
        Self::build(host, id, request, (started, Some(live)))
    }

    /// A record that is never written, for a request that is only explained.
    pub(crate) fn unwritten(host: Rc<dyn RequestHost>, id: HeaderValue, request: RequestInfo) -> Self {
        Self::build(host, id, request, (clock::now(), None))
    }

    fn build(
        host: Rc<dyn RequestHost>,
        id: HeaderValue,
        request: RequestInfo,
        (started, live): (Instant, Option<LiveRequest>),
    ) -> Self {
        let region = RegionHeader::unrouted(&request.method);
        let min_rate = MinBodyRate::of(&host.config().server);
        Self {
            host,
            started,
            id,
            request,
            bucket: None,
            unrouted_kind: Kind::S3,
            bucket_name: None,
            caller: None,
            cors: None,
            region,
            allowed: Allowed::default(),
            slot: None,
            preflight: None,
            status: 0,
            reason: None,
            detail: None,
            attempts: 0,
            attempt_notes: AttemptNotes::default(),
            class: None,
            priority: None,
            hedged: None,
            endpoint: None,
            credential: None,
            upload_progress: Rc::new(UploadProgress::new(min_rate)),
            send_progress: None,
            sent_bytes: 0,
            phases: RequestTimings::default(),
            shadowed: Vec::new(),
            client_ticket: None,
            is_charged: false,
            address_weight: 1.0,
            deadline_source: DeadlineSource::default(),
            cut_figures: None,
            decided: decision::Decided::Nothing,
            has_decision: false,
            live,
        }
    }

    /// The record of one of several calls that the gateway makes for this request. It is never written.
    pub(crate) fn sub_request(&self, bucket: BucketId) -> Self {
        let mut part = Self::unwritten(Rc::clone(&self.host), self.id.clone(), self.request.clone());
        part.started = self.started;
        part.bucket = Some(bucket);
        part.caller.clone_from(&self.caller);
        part
    }

    /// Notes an attempt that ended now.
    pub(crate) fn note_attempt(&mut self, note: AttemptNote, ended: Instant) {
        self.phases.first_byte = Some(ended);
        self.attempt_notes.push(note);
    }

    /// Reserves the memory of a body that is read whole.
    pub(crate) fn reserve_body(&self, bytes: u64) -> Result<BodyReservation, BodyMemoryFull> {
        reserve_body(&*self.host, bytes)
    }

    /// Reserves the memory of parts of a streamed body.
    pub(crate) fn body_reserver(&self) -> ReserveBody {
        let host = Rc::clone(&self.host);
        Box::new(move |bytes| reserve_body(&*host, bytes))
    }

    /// The identity of the client for limits per client.
    pub(crate) fn client_id(&self) -> Option<ClientId> {
        let authenticated = match &self.caller {
            Some(ClientIdentity::Key(key)) => Some(ClientId::Key(*key)),
            Some(ClientIdentity::Token(bearer)) => bearer.subject.as_deref().map(ClientId::subject),
            Some(ClientIdentity::Anonymous) | None => None,
        };
        let address = || self.request.client.map(|client| ClientId::Address(IpKey::from(client.address)));
        authenticated.or_else(address)
    }

    /// The key that the request's streams end with; none for a client without a key.
    pub(crate) fn stream_owner(&self) -> Option<StreamOwner> {
        match &self.caller {
            Some(ClientIdentity::Key(key)) => {
                Some(StreamOwner { key: *key, keyring: self.host.keyring().number() })
            }
            Some(ClientIdentity::Token(_) | ClientIdentity::Anonymous) | None => None,
        }
    }

    /// While its body is received the request occupies a slot, and a permit of the bucket's gate if `bucket` is set.
    pub(crate) fn set_body_occupancy(&self, bucket: Option<BucketId>) {
        let occupancy = self.client_id().map(|client| Occupancy { client, bucket });
        self.upload_progress
            .set_client_socket(self.send_progress.as_ref().and_then(|progress| progress.socket()));
        self.upload_progress.set_owner(self.stream_owner());
        self.upload_progress.set_occupancy(self.host.send_watch(), occupancy);
    }

    /// While its answer is sent the request occupies a slot and a permit of the bucket's gate. Its body is no longer waited for.
    pub(crate) fn set_response_occupancy(&self, bucket: BucketId) {
        self.upload_progress.clear_occupancy();
        if let Some(progress) = &self.send_progress {
            progress.set_occupancy(self.client_id().map(|client| Occupancy { client, bucket: Some(bucket) }));
        }
    }

    /// The request's slot and permit are released, or are released together with it.
    pub(crate) fn clear_occupancy(&self) {
        self.upload_progress.clear_occupancy();
        if let Some(progress) = &self.send_progress {
            progress.clear_occupancy();
        }
    }
}

fn reserve_body(host: &dyn RequestHost, bytes: u64) -> Result<BodyReservation, BodyMemoryFull> {
    let percent = host.config().monitor.exhausted;
    let free = body_memory::free_bytes(&host.monitor().view(), percent, clock::now());
    host.body_memory().try_reserve(bytes, free)
}

impl Drop for Record {
    fn drop(&mut self) {
        let Some(live) = self.live else { return };
        self.host.live_requests().end(live);
        let now = clock::now();
        if self.status == 0 && self.reason.is_none() {
            // No answer was sent: the connection ended before the handler.
            self.reason = Some(self.host.unfinished_reason());
        }
        if let Some(cut) = self.send_progress.as_ref().and_then(|progress| progress.cut_reason()) {
            self.reason = Some(cut.reason());
        }
        self.clear_occupancy();
        let durations = self.phases.durations(self.started, now);
        self.record_end(&durations);
        let host = &self.host;
        if let Some(bucket) = self.bucket {
            let metrics = &host.bucket(bucket).metrics;
            metrics.count_response(self.status);
            let is_detailed = !host.monitor().actions().applies(Action::DetailedMetrics);
            let id = self.id.to_str().unwrap_or_default();
            metrics.times.observe(id, &durations, now, is_detailed);
            metrics.received.inc_by(self.upload_progress.bytes());
            metrics.sent.inc_by(self.sent_bytes);
            // A stream that the drain ends is no error.
            if let Some(reason) = self.reason.filter(|reason| *reason != "drained") {
                metrics.count_error(reason);
            }
        } else if let Some(reason) = self.reason {
            host.metrics().unrouted.count(reason);
        }
        if host.config().log.access {
            host.access_log().write(&AccessFields { record: self, durations: &durations, now });
        }
    }
}

fn micros(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(duration.subsec_micros()))
}
