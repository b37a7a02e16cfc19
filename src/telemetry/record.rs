//! The record of one request, from its head to its last byte: access log line and metrics (O2, O4).
//!
//! It is owned by whoever owns the request at the moment, in the end by the answer's body, and writes itself when
//! it is dropped: no path, be it success, refusal, panic or a client that left, goes unrecorded. Values of parameters that
//! may be secrets are redacted (`redact`).

use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix_web::http::header::HeaderValue;
use actix_web::http::{Method, Uri};
use arrayvec::ArrayString;
use slog::info;
use tidegate_actors::{
    Allowed, BucketId, ClientId, ClientIdentity, ClientTicket, CredentialId, InFlightSlot, IpKey, clock,
};
use tokio::sync::OwnedSemaphorePermit;

use crate::http::client_address::ClientAddress;
use crate::http::client_wait::Occupancy;
use crate::http::cors::CorsHeaders;
use crate::http::send_progress::SendProgress;
use crate::router::Bucket;
use crate::s3::addressing::NamedResource;
use crate::upstream::RegionHeader;
use crate::upstream::upload_progress::{MinBodyRate, UploadProgress};
use crate::worker::Worker;

/// What happened to one request.
pub(crate) struct Record {
    worker: Rc<Worker>,
    pub(crate) started: Instant,
    pub(crate) id: HeaderValue,
    pub(crate) request: RequestInfo,
    pub(crate) bucket: Option<BucketId>,
    /// The bucket's name, decoded, where neither the path nor the bucket's section shows it.
    bucket_name: Option<Box<str>>,
    /// Who asks, once that is known.
    pub(crate) caller: Option<ClientIdentity>,
    /// What the answer says to pages of other origins, in a bucket with rules for them.
    pub(crate) cors: Option<CorsHeaders>,
    /// Whether its answer names the region of the bucket.
    pub(crate) region: RegionHeader,
    /// What the limits say that it passed.
    pub(crate) allowed: Allowed,
    /// The in-flight slot of an answer of the gateway's own.
    pub(crate) slot: Option<InFlightSlot>,
    /// Its place among the bucket's preflights at the store.
    pub(crate) preflight: Option<OwnedSemaphorePermit>,
    pub(crate) status: u16,
    /// Why the gateway answered itself or broke the transfer; none where the upstream's answer passed whole.
    pub(crate) reason: Option<&'static str>,
    /// Figures of the gateway that explain the reason to its operator.
    pub(crate) detail: Option<String>,
    pub(crate) attempts: u32,
    /// Whether it was asked for a second time while the first was under way.
    pub(crate) hedged: Option<HedgeOutcome>,
    pub(crate) endpoint: Option<usize>,
    /// What it went on with last, in a bucket with several.
    pub(crate) credential: Option<CredentialId>,
    pub(crate) upload_progress: Rc<UploadProgress>,
    /// How the client takes the answer; none before the connection says so.
    pub(crate) send_progress: Option<Rc<SendProgress>>,
    pub(crate) sent_bytes: u64,
    pub(crate) phases: RequestTimings,
    /// Its place among its client's requests in flight, where those have a bound.
    pub(crate) client_ticket: Option<ClientTicket>,
    /// Whether it is the record of one call of several, which the request's own record includes.
    is_sub_request: bool,
}

/// What became of a hedge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HedgeOutcome {
    /// Another attempt's answer counted, or none did.
    Lost,
    /// Its answer was passed on.
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

/// What was asked, kept beyond the request itself.
#[derive(Clone)]
pub(crate) struct RequestInfo {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    /// The connection's other end.
    pub(crate) peer: Option<ClientAddress>,
    /// Whose request it is; none where the connection has no address.
    pub(crate) client: Option<ClientAddress>,
}

/// Moments on a request's way; what was not reached stays empty.
#[derive(Default, Clone, Copy)]
pub(crate) struct RequestTimings {
    /// All refusals were passed.
    pub(crate) admitted: Option<Instant>,
    /// The pool's permit was there.
    pub(crate) permitted: Option<Instant>,
    /// The head of the upstream's answer was there.
    pub(crate) first_byte: Option<Instant>,
}

impl Record {
    /// Notes the section of a request, and the name of its bucket where nothing else in the log line shows it.
    pub(crate) fn set_bucket(&mut self, bucket: &Bucket, named: &NamedResource<'_>) {
        self.bucket = Some(bucket.id);
        if !bucket.config.pattern.is_exact() && !named.is_literal_in_path() {
            self.bucket_name = Some(named.bucket.as_ref().into());
        }
    }

    /// The answer ends before its last byte.
    pub(crate) fn mark_unfinished(&mut self) {
        self.reason = Some(self.worker.shared.unfinished_reason());
    }

    pub(crate) fn new(worker: &Rc<Worker>, id: HeaderValue, request: RequestInfo) -> Self {
        let region = RegionHeader::unrouted(&request.method);
        Self {
            worker: Rc::clone(worker),
            started: clock::now(),
            id,
            request,
            bucket: None,
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
            hedged: None,
            endpoint: None,
            credential: None,
            upload_progress: Rc::new(UploadProgress::new(MinBodyRate::of(&worker.shared.config.server))),
            send_progress: None,
            sent_bytes: 0,
            phases: RequestTimings::default(),
            client_ticket: None,
            is_sub_request: false,
        }
    }

    /// The record of one call of several that the gateway makes for this request. It is never written.
    pub(crate) fn sub_request(&self, bucket: BucketId) -> Self {
        let mut part = Self::new(&self.worker, self.id.clone(), self.request.clone());
        part.started = self.started;
        part.bucket = Some(bucket);
        part.caller.clone_from(&self.caller);
        part.is_sub_request = true;
        part
    }

    /// The client as far as bounds on what one client holds tell clients apart.
    pub(crate) fn client_id(&self) -> Option<ClientId> {
        let proven = match &self.caller {
            Some(ClientIdentity::Key(key)) => Some(ClientId::Key(*key)),
            Some(ClientIdentity::Token(bearer)) => bearer.subject.as_deref().map(ClientId::subject),
            Some(ClientIdentity::Anonymous) | None => None,
        };
        let address = || self.request.client.map(|client| ClientId::Address(IpKey::from(client.address)));
        proven.or_else(address)
    }

    /// While its body comes the request holds a slot and, if named, a place in this bucket's gate.
    pub(crate) fn set_body_occupancy(&self, bucket: Option<BucketId>) {
        let places = self.client_id().map(|client| Occupancy { client, bucket });
        self.upload_progress
            .set_client_socket(self.send_progress.as_ref().and_then(|progress| progress.socket()));
        self.upload_progress.set_occupancy(&self.worker.send_watch, places);
    }

    /// While its answer is sent the request holds a slot and a place in this bucket's gate. Its body is not waited for any more.
    pub(crate) fn set_response_occupancy(&self, bucket: BucketId) {
        self.upload_progress.clear_occupancy();
        if let Some(progress) = &self.send_progress {
            progress.set_occupancy(self.client_id().map(|client| Occupancy { client, bucket: Some(bucket) }));
        }
    }

    /// The request's places are given back, or will be with it.
    pub(crate) fn clear_occupancy(&self) {
        self.upload_progress.clear_occupancy();
        if let Some(progress) = &self.send_progress {
            progress.clear_occupancy();
        }
    }

    fn log_access(&self, now: Instant) {
        let us = |from: Instant, to: Option<Instant>| to.map(|to| micros(to.saturating_duration_since(from)));
        let RequestTimings { admitted, permitted, first_byte } = self.phases;
        let shared = &self.worker.shared;
        let bucket = self.bucket.map(|id| shared.router.bucket(id));
        let credential = bucket.zip(self.credential).and_then(|(bucket, id)| bucket.credential(id));
        let uri = &self.request.uri;
        let (key, subject) = match &self.caller {
            Some(ClientIdentity::Key(id)) => (Some(shared.keyring.name(*id)), None),
            Some(ClientIdentity::Token(bearer)) => (None, bearer.subject.as_deref()),
            Some(ClientIdentity::Anonymous) | None => (None, None),
        };
        // Under pressure a line says only what cannot be left out.
        let detailed = shared.actors.monitor.level() < tidegate_actors::Level::Critical;
        // slog writes the last field first.
        info!(shared.log, "request";
            "total_us" => micros(now.saturating_duration_since(self.started)),
            "first_byte_us" => permitted.and_then(|from| us(from, first_byte)),
            "queue_us" => admitted.and_then(|from| us(from, permitted)),
            "admission_us" => us(self.started, admitted),
            "credential" => credential,
            "endpoint" => self.endpoint,
            "hedge" => self.hedged.map(HedgeOutcome::as_str),
            "attempts" => self.attempts,
            "sent_bytes" => self.sent_bytes,
            "received_bytes" => self.upload_progress.bytes(),
            "subject" => subject,
            "key" => key,
            "client_source" => self.request.client.map(|client| client.source.as_str()),
            "client" => self.request.client.map(|client| IpField(client.address)),
            "detail" => self.detail.as_deref(),
            "reason" => self.reason,
            "status" => self.status,
            "bucket_name" => self.bucket_name.as_deref(),
            "bucket" => bucket.map(|bucket| bucket.name.as_str()),
            "query" => uri.query().filter(|_| detailed).map(|query| shared.redaction.redact_query(query).into_owned()),
            "path" => shared.redaction.redact_path(uri.path()).as_ref(),
            "method" => self.request.method.as_str(),
            "id" => self.id.to_str().unwrap_or_default());
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.is_sub_request {
            return;
        }
        let now = clock::now();
        if self.status == 0 && self.reason.is_none() {
            // Nobody was answered: the connection ended, and the handler with it.
            self.reason = Some(self.worker.shared.unfinished_reason());
        }
        if let Some(cut) = self.send_progress.as_ref().and_then(|progress| progress.cut_reason()) {
            self.reason = Some(cut.reason());
        }
        self.clear_occupancy();
        let shared = &self.worker.shared;
        if let Some(bucket) = self.bucket {
            let metrics = &shared.router.bucket(bucket).metrics;
            metrics.count_response(self.status);
            metrics.duration.observe(now.saturating_duration_since(self.started).as_secs_f64());
            metrics.received.inc_by(self.upload_progress.bytes());
            metrics.sent.inc_by(self.sent_bytes);
            if let Some(reason) = self.reason {
                metrics.count_error(reason);
            }
        } else if let Some(reason) = self.reason {
            shared.metrics.count_unrouted(reason);
        }
        if shared.config.log.access {
            self.log_access(now);
        }
    }
}

/// An address that is written without a string of its own.
struct IpField(IpAddr);

impl slog::Value for IpField {
    fn serialize(
        &self,
        _: &slog::Record<'_>,
        key: slog::Key,
        serializer: &mut dyn slog::Serializer,
    ) -> slog::Result {
        let IpAddr::V4(address) = self.0 else {
            return serializer.emit_arguments(key, &format_args!("{}", self.0));
        };
        // By far the most, and the formatter is slow at octets.
        let mut text = ArrayString::<15>::new();
        for (at, octet) in address.octets().into_iter().enumerate() {
            if at > 0 {
                text.push('.');
            }
            text.push_str(itoa::Buffer::new().format(octet));
        }
        serializer.emit_str(key, &text)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
