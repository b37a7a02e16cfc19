//! An upload by POST form, from its first byte to what its client is told.
//!
//! A form's proof of identity lies in its body, so what else is decided by a head is decided here once the fields have come:
//! steps 5 and 6 of `proxy.rs`, in their order, over the upload that the form stands for. No place in a bucket's gate is held while
//! fields come, nor while a file of up to 64 KiB does.
//!
//! Until its proof is verified a form holds no slot of the process either (V10). It is refused by its head where that suffices: no form
//! can succeed in the bucket, its circuit is open, the level is exhausted, a limit is used up. Forms that are being read have a bound
//! of their own, `concurrency.max_pending_forms`, and their fields a time of their own.

use std::rc::Rc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::http::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use tidegate_actors::{BucketId, ClientId, ClientTicket, IpKey, OperationClass, clock};
use tidegate_config::{Kind, LimitsConfig};

use crate::auth::{Operation, authenticate_form, authorize, check_form_lifetime, may_prove_form};
use crate::http::answer::REQUEST_ID;
use crate::http::edge::{self, BodyLength, Head};
use crate::http::error::{GatewayError, form_answer};
use crate::http::introduce;
use crate::http::proxy::{self, Call};
use crate::router::Bucket;
use crate::s3::form::FormRejection;
use crate::s3::form::done::{Done, Stored};
use crate::s3::form::fields::Fields;
use crate::s3::form::multipart::{Delimiter, FieldReader, FilePart, FileScan, cut};
use crate::s3::form::policy::Policy;
use crate::s3::naming;
use crate::s3::upload::declared::Declared;
use crate::telemetry::record::Record;
use crate::upstream::body::{REPLAY_BYTES_MAX, Source};
use crate::upstream::deadline::Deadline;
use crate::upstream::{self, Put, UpstreamRejection};
use crate::worker::Worker;

/// All clients of connections without an address are one.
const NO_ADDRESS: ClientId = ClientId::Address(IpKey::V4(0));

/// A form whose body has not been touched.
pub(super) struct Awaited {
    pub(super) bucket: BucketId,
    deadline: Deadline,
    /// Its place among the forms that are being read.
    pending: ClientTicket,
    delimiter: Delimiter,
    bytes: u64,
}

/// A form whose upload is admitted.
pub(super) struct Received {
    pub(super) put: Box<Put>,
    pub(super) call: Box<Call>,
    pub(super) source: Source,
    pub(super) told: Told,
}

/// What its client is told if the store takes it.
pub(super) struct Told {
    done: Done,
    bucket: String,
    key: String,
    location: String,
}

/// Whether a request without proof in its head is a form. `rest` is the path behind the bucket's name.
pub(super) fn is_form(head: Head<'_>, bucket: &Bucket, rest: &str) -> bool {
    let is_kind = |value: &HeaderValue| {
        let value = value.as_bytes();
        value.get(..19).is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/form-data"))
    };
    bucket.config.kind == Kind::S3
        && *head.method == Method::POST
        && matches!(rest, "" | "/")
        && head.uri.query().unwrap_or_default().is_empty()
        && head.headers.get(CONTENT_TYPE).is_some_and(is_kind)
        && !bucket.proofs.are_offered(head)
}

impl Awaited {
    /// Reads a form's head.
    fn read_head(head: Head<'_>, length: BodyLength) -> Result<(Delimiter, u64), FormRejection> {
        let mut kinds = head.headers.get_all(CONTENT_TYPE);
        let kind = kinds.next().and_then(|kind| kind.to_str().ok()).filter(|_| kinds.next().is_none());
        let delimiter = kind.and_then(Delimiter::of);
        let delimiter = delimiter.ok_or(FormRejection::Malformed("its content-type has no boundary"))?;
        let bytes = length.bytes().ok_or(FormRejection::Length)?;
        Ok((delimiter, bytes))
    }
}

/// Steps 5 and 6, as far as a form's head tells: whatever can refuse it does so before its body is read.
pub(super) async fn admit(
    worker: &Rc<Worker>,
    bucket: &Bucket,
    (head, length): (Head<'_>, BodyLength),
    deadline: Deadline,
    record: &mut Record,
) -> Result<Awaited, GatewayError> {
    let actors = &worker.shared.actors;
    may_prove_form(bucket, &worker.shared.keyring)?;
    bucket.breaker.peek(bucket.breaker.circuit(OperationClass::Write), clock::now())?;
    let (delimiter, bytes) = Awaited::read_head(head, length)?;
    introduce::may_authenticate(worker, Some(bucket), record)?;
    let client = record.client_id().unwrap_or(NO_ADDRESS);
    let pending = actors.monitor.enter_form(client).await?;
    Ok(Awaited { bucket: bucket.id, deadline, pending, delimiter, bytes })
}

/// Reads a form up to its file, and decides on the upload that it asks for.
pub(super) async fn receive(
    worker: &Rc<Worker>,
    request: &HttpRequest,
    payload: &mut Payload,
    record: &mut Record,
    awaited: Awaited,
) -> Result<Received, GatewayError> {
    let shared = &worker.shared;
    let Awaited { bucket, deadline, pending, delimiter, bytes } = awaited;
    let bucket = shared.router.bucket(bucket);
    let mut source = Source::take(payload, Some(bytes), bucket, Rc::clone(&record.flow));
    let FilePart { fields, file_name, before, beginning } =
        read_fields(&mut source, delimiter.clone(), fields_time(worker, bucket)).await?;
    source.unread(beginning);
    let fields = Fields::of(fields, &file_name)?;
    // Fields behind the file are not read. Without this check the answer to a form with its file first would be about its signature.
    let key = fields.key()?;

    // 5 auth: signature, key's limit, the form's policy, the key's policy
    let authenticated = authenticate_form(&fields, bucket, worker).await;
    let caller =
        introduce::settle(worker, Some(bucket), OperationClass::Write, authenticated, record).await?;
    let form = Head::from(request.head());
    let named = naming::of(form.uri, form.headers, &shared.config.server.base_domains);
    let policy = fields.get("policy").map(Policy::parse).transpose()?;
    if let Some(policy) = &policy {
        let now = clock::wall();
        policy.check(&fields, &named.bucket, now)?;
        check_form_lifetime(&caller, policy.time_left(now), bucket.config.sigv2_max_lifetime)?;
    }
    let put = Put::new(form, &named, key, fields.headers()?).ok_or(UpstreamRejection::Target)?;
    let head = put.head();
    check_headers(head.headers, &shared.config.server.limits)?;
    edge::check_target(head.uri, bucket.config.max_uri_length)?;
    proxy::look(worker, bucket, head.uri, record)?;
    let rest = naming::of(head.uri, head.headers, &shared.config.server.base_domains).key;
    let operation = Operation::of(head, head.uri.query().unwrap_or_default(), Kind::S3, rest);
    authorize(&caller, (bucket, &named.bucket), head, &operation, (&shared.router, &shared.keyring))?;

    // 3 monitor: the slot, now that the proof is verified
    let slot = shared.actors.monitor.enter()?;
    drop(pending);
    record.hold_for_body(None);

    let rest =
        bytes.checked_sub(before).ok_or(FormRejection::Malformed("it is longer than its head says"))?;
    let (source, length, file) = file(source, delimiter, rest, (bucket, record)).await?;
    if let Some(policy) = &policy {
        policy.check_length(file.as_ref().map_or(length, FileScan::left))?;
    }
    let declared = Declared::of_file(head, file).map_err(UpstreamRejection::Upload)?;

    // 6 breaker's published state, pool
    let leave = proxy::reserve(worker, bucket, (operation.class(), false), deadline, record).await?;
    let scheme = upstream::scheme(&shared.config.server);
    let location = format!("{scheme}://{}{}", naming::host(form.uri, form.headers), head.uri.path());
    let told =
        Told { done: Done::of(&fields), bucket: named.bucket.into_owned(), key: key.to_owned(), location };
    let length = if length == 0 { BodyLength::Empty } else { BodyLength::Known(length) };
    let declared = Some(declared);
    let call =
        Call { bucket: bucket.id, length, caller, declared, screens: false, preflight: None, slot, leave };
    Ok(Received { put: Box::new(put), call: Box::new(call), source, told })
}

/// Fields are a second head: its headers have the same bounds as those of the first.
fn check_headers(headers: &HeaderMap, limits: &LimitsConfig) -> Result<(), FormRejection> {
    let (count, bytes) = edge::header_size(headers);
    if count > limits.max_headers {
        return Err(FormRejection::TooManyHeaders { count, limit: limits.max_headers });
    }
    if bytes > limits.max_header_size {
        return Err(FormRejection::HeadersTooLarge { bytes, limit: limits.max_header_size });
    }
    Ok(())
}

/// Fields are a second head: they have as much time again as the first one, twice for their greater size.
fn fields_time(worker: &Worker, bucket: &Bucket) -> Duration {
    let header_timeout = worker.shared.config.server.header_timeout;
    header_timeout.saturating_mul(2).min(bucket.config.upstream.request_timeout)
}

async fn read_fields(
    source: &mut Source,
    delimiter: Delimiter,
    time: Duration,
) -> Result<FilePart, GatewayError> {
    let mut reader = FieldReader::new(delimiter);
    let reading = async {
        while let Some(piece) = source.next().await? {
            if let Some(part) = reader.push(&piece)? {
                return Ok(part);
            }
        }
        Err(GatewayError::from(FormRejection::Malformed("it ends before its file")))
    };
    let read = tokio::time::timeout(time, reading).await;
    read.map_err(|_| FormRejection::Late)?
}

/// The file that comes: one that is small enough is read whole, of any other the length is known ahead.
async fn file(
    source: Source,
    delimiter: Delimiter,
    bytes: u64,
    (bucket, record): (&Bucket, &Record),
) -> Result<(Source, u64, Option<FileScan>), GatewayError> {
    if bytes > REPLAY_BYTES_MAX {
        let scan = FileScan::new(delimiter, bytes)?;
        return Ok((source, scan.left(), Some(scan)));
    }
    let data = cut(source.read_plain().await?, &delimiter)?;
    let length = data.len() as u64;
    Ok((Source::holding(data, bucket, Rc::clone(&record.flow)), length, None))
}

impl Told {
    /// The answer to a form whose upload the store has taken. `headers` are the store's.
    pub(super) fn answer(&self, headers: &HeaderMap, request_id: &HeaderValue) -> HttpResponse {
        let etag = headers.get(ETAG).and_then(|etag| etag.to_str().ok()).unwrap_or_default();
        let Self { done, bucket, key, location } = self;
        let mut response = form_answer(done, &Stored { location, bucket, key, etag });
        let told = response.headers_mut();
        for (name, value) in headers {
            let is_of_the_object = name.as_str().starts_with("x-amz-") && !is_of_the_request(name.as_str());
            if *name == ETAG || is_of_the_object {
                told.append(name.clone(), value.clone());
            }
        }
        told.insert(REQUEST_ID, request_id.clone());
        response
    }
}

fn is_of_the_request(name: &str) -> bool {
    matches!(name, "x-amz-request-id" | "x-amz-id-2")
}
