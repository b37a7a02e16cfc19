//! An upload by POST form, from its head to its reply.
//!
//! The credentials of a form are in its body. So after the fields have arrived this module runs steps 5 and 6 of
//! `proxy.rs`, in their order, for the upload that the form describes. A form holds no permit of a bucket's gate
//! while its fields arrive, nor while a file of up to 64 KiB arrives.
//!
//! A form acquires its in-flight slot only after its signature is verified (V10). It is refused by its head if that
//! suffices: no form can succeed in the bucket, the circuit is open, the level is exhausted, or a limit is used up.
//! Forms that are being read have a separate bound, `concurrency.max_pending_forms`, and their fields a separate
//! timeout.

use std::rc::Rc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::http::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use tidegate_actors::{BucketId, ClientId, ClientTicket, IpKey, OperationClass, clock};
use tidegate_config::{Kind, LimitsConfig};
use tidegate_s3::addressing;
use tidegate_s3::form::FormRejection;
use tidegate_s3::form::fields::FormFields;
use tidegate_s3::form::multipart::{Delimiter, FieldReader, FileDecoder, FilePart, extract_file};
use tidegate_s3::form::policy::PostPolicy;
use tidegate_s3::form::success_action::{StoredObject, SuccessAction};
use tidegate_s3::request::BodyLength;
use tidegate_s3::upload::declared_body::DeclaredBody;

use crate::auth::{Operation, authenticate_form, authorize, check_form_lifetime, check_form_possible};
use crate::http::admission::{self, UpstreamCall};
use crate::http::authentication;
use crate::http::error::{GatewayError, form_reply};
use crate::http::request_validation;
use crate::request_head::Head;
use crate::upstream::body::{BodySource, REPLAY_BYTES_MAX};
use crate::upstream::bucket::Bucket;
use crate::upstream::deadline::Deadline;
use crate::upstream::header_names::REQUEST_ID;
use crate::upstream::record::Record;
use crate::upstream::{self, FormUpload, UpstreamRejection};
use crate::worker::Worker;

/// Connections without an address count as one client.
const NO_ADDRESS: ClientId = ClientId::Address(IpKey::V4(0));

/// A form before its body is read.
pub(super) struct PendingForm {
    pub(super) bucket: BucketId,
    deadline: Deadline,
    /// Its ticket for `concurrency.max_pending_forms`.
    pending: ClientTicket,
    delimiter: Delimiter,
    bytes: u64,
}

/// A form after its upload was admitted.
pub(super) struct AcceptedForm {
    pub(super) upload: Box<FormUpload>,
    pub(super) call: Box<UpstreamCall>,
    pub(super) body: BodySource,
    pub(super) reply: FormReply,
}

/// The reply to a form after the store has accepted its upload.
pub(super) struct FormReply {
    done: SuccessAction,
    bucket: String,
    key: String,
    location: String,
}

/// Whether a request without credentials in its head is a form. `rest` is the path after the bucket's name.
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
        && !bucket.accepted_auth.has_presented_auth(head)
}

impl PendingForm {
    /// Reads the boundary and the length from a form's head.
    fn read_head(head: Head<'_>, length: BodyLength) -> Result<(Delimiter, u64), FormRejection> {
        let mut kinds = head.headers.get_all(CONTENT_TYPE);
        let kind = kinds.next().and_then(|kind| kind.to_str().ok()).filter(|_| kinds.next().is_none());
        let delimiter = kind.and_then(Delimiter::from_content_type);
        let delimiter = delimiter.ok_or(FormRejection::Malformed("its content-type has no boundary"))?;
        let bytes = length.bytes().ok_or(FormRejection::MissingLength)?;
        Ok((delimiter, bytes))
    }
}

/// Steps 5 and 6 by the form's head: every refusal that the head allows comes before the body is read.
pub(super) async fn admit(
    worker: &Rc<Worker>,
    bucket: &Bucket,
    (head, length): (Head<'_>, BodyLength),
    deadline: Deadline,
    record: &mut Record,
) -> Result<PendingForm, GatewayError> {
    let actors = &worker.shared.actors;
    check_form_possible(bucket.auth(), &worker.shared.keyring)?;
    bucket.breaker.check(bucket.breaker.circuit(OperationClass::Write), clock::now())?;
    let (delimiter, bytes) = PendingForm::read_head(head, length)?;
    authentication::may_authenticate(worker, Some(bucket), record)?;
    let client = record.client_id().unwrap_or(NO_ADDRESS);
    let pending = actors.monitor.acquire_form_ticket(client).await?;
    Ok(PendingForm { bucket: bucket.id, deadline, pending, delimiter, bytes })
}

/// Reads a form up to its file, and admits the upload that it describes.
pub(super) async fn receive(
    worker: &Rc<Worker>,
    request: &HttpRequest,
    payload: &mut Payload,
    record: &mut Record,
    pending_form: PendingForm,
) -> Result<AcceptedForm, GatewayError> {
    let shared = &worker.shared;
    let PendingForm { bucket, deadline, pending, delimiter, bytes } = pending_form;
    let bucket = shared.router.bucket(bucket);
    let mut source =
        BodySource::from_payload(payload, Some(bytes), bucket, Rc::clone(&record.upload_progress));
    let FilePart { fields, file_name, offset: file_offset, first_bytes } =
        read_fields(&mut source, delimiter.clone(), fields_timeout(worker, bucket)).await?;
    source.unread(first_bytes);
    let fields = FormFields::from_parts(fields, &file_name)?;
    // Fields after the file are not read. Without this check the reply to a form with its file first would be about
    // its signature.
    let key = fields.key()?;

    // 5 auth: signature, key's limit, the form's policy, the key's policy
    let authenticated =
        authenticate_form(&fields, bucket.auth(), worker.auth_context()).await.map_err(GatewayError::from);
    let caller =
        authentication::charge(worker, Some(bucket), OperationClass::Write, authenticated, record).await?;
    let form = Head::from(request.head());
    let named = addressing::resolve(form, &shared.config.server.base_domains);
    let policy = fields.get("policy").map(PostPolicy::parse).transpose()?;
    if let Some(policy) = &policy {
        let now = clock::wall();
        policy.check(&fields, &named.bucket, now)?;
        check_form_lifetime(&caller, policy.remaining_validity(now), bucket.config.sigv2_max_lifetime)?;
    }
    let upload =
        FormUpload::new(form, &named, key, fields.headers()?).ok_or(UpstreamRejection::InvalidTarget)?;
    let head = upload.head();
    check_headers(head.headers, &shared.config.server.limits)?;
    request_validation::validate_target(head.uri, bucket.config.max_uri_length)?;
    admission::check_injection(worker, bucket, head.uri, record)?;
    let rest = addressing::resolve(head, &shared.config.server.base_domains).key;
    let operation = Operation::from_request(head, head.uri.query().unwrap_or_default(), Kind::S3, rest);
    authorize(&caller, (bucket.auth(), &named.bucket), head, &operation, shared.authorization(bucket.id))?;

    // 3 monitor: the slot, after the signature is verified
    let slot = shared.actors.monitor.acquire_slot()?;
    drop(pending);
    record.set_body_occupancy(None);

    let rest = bytes
        .checked_sub(file_offset)
        .ok_or(FormRejection::Malformed("it is longer than its content-length"))?;
    let (body, length, file) = read_file(source, delimiter, rest, (bucket, record)).await?;
    if let Some(policy) = &policy {
        policy.check_length(file.as_ref().map_or(length, FileDecoder::remaining))?;
    }
    let declared = DeclaredBody::for_form_file(head, file).map_err(UpstreamRejection::InvalidUpload)?;

    // 6 breaker's published state, pool
    let grant =
        admission::acquire_grant(worker, bucket, (operation.class(), false), deadline, record).await?;
    let scheme = upstream::client_scheme(&shared.config.server);
    let location = format!("{scheme}://{}{}", addressing::request_host(form), head.uri.path());
    let reply = FormReply {
        done: SuccessAction::from_fields(&fields),
        bucket: named.bucket.into_owned(),
        key: key.to_owned(),
        location,
    };
    let length = if length == 0 { BodyLength::Empty } else { BodyLength::Known(length) };
    let declared_body = Some(declared);
    let call = UpstreamCall {
        bucket: bucket.id,
        length,
        caller,
        declared_body,
        needs_screening: false,
        preflight: None,
        slot,
        grant,
    };
    Ok(AcceptedForm { upload: Box::new(upload), call: Box::new(call), body, reply })
}

/// Fields become the headers of the upload, so they have the same bounds as the headers of a request.
fn check_headers(headers: &HeaderMap, limits: &LimitsConfig) -> Result<(), FormRejection> {
    let (count, bytes) = request_validation::header_size(headers);
    if count > limits.max_headers {
        return Err(FormRejection::TooManyHeaders { count, limit: limits.max_headers });
    }
    if bytes > limits.max_header_size {
        return Err(FormRejection::HeadersTooLarge { bytes, limit: limits.max_header_size });
    }
    Ok(())
}

/// The timeout of the fields: that of a head, twice for their greater size, but at most that of a request.
fn fields_timeout(worker: &Worker, bucket: &Bucket) -> Duration {
    let header_timeout = worker.shared.config.server.header_timeout;
    header_timeout.saturating_mul(2).min(bucket.config.upstream.request_timeout)
}

async fn read_fields(
    source: &mut BodySource,
    delimiter: Delimiter,
    timeout: Duration,
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
    let read = tokio::time::timeout(timeout, reading).await;
    read.map_err(|_| FormRejection::Timeout)?
}

/// Reads a small file completely. For any other file it computes the length in advance, which a streamed upload
/// needs.
async fn read_file(
    source: BodySource,
    delimiter: Delimiter,
    bytes: u64,
    (bucket, record): (&Bucket, &Record),
) -> Result<(BodySource, u64, Option<FileDecoder>), GatewayError> {
    if bytes > REPLAY_BYTES_MAX {
        let scan = FileDecoder::new(delimiter, bytes)?;
        return Ok((source, scan.remaining(), Some(scan)));
    }
    let data = extract_file(source.read_unverified().await?, &delimiter)?;
    let length = data.len() as u64;
    Ok((BodySource::from_bytes(data, bucket, Rc::clone(&record.upload_progress)), length, None))
}

impl FormReply {
    /// The reply to a form after the store has accepted its upload. `headers` are the store's.
    pub(super) fn to_response(&self, headers: &HeaderMap, request_id: &HeaderValue) -> HttpResponse {
        let etag = headers.get(ETAG).and_then(|etag| etag.to_str().ok()).unwrap_or_default();
        let Self { done, bucket, key, location } = self;
        let mut response = form_reply(done, &StoredObject { location, bucket, key, etag });
        let response_headers = response.headers_mut();
        for (name, value) in headers {
            let is_object_header = name.as_str().starts_with("x-amz-") && !is_request_header(name.as_str());
            if *name == ETAG || is_object_header {
                response_headers.append(name.clone(), value.clone());
            }
        }
        response_headers.insert(REQUEST_ID, request_id.clone());
        response
    }
}

fn is_request_header(name: &str) -> bool {
    matches!(name, "x-amz-request-id" | "x-amz-id-2")
}
