//! An upload by POST form: reads its fields, and translates it to the upload that it describes.
//!
//! A form passes the steps of `proxy.rs` like any request. Its authentication and the headers of the upload are in its
//! body, so step 5 reads the fields first (`receive`), authorizes the upload (`into_upload`) and reads the file last
//! (`read_file`). A form holds no permit of a bucket's gate while its fields arrive, nor while a file of up to 64 KiB
//! arrives.
//!
//! A form acquires its in-flight slot only after its signature is verified (V10). It is refused by its head if that
//! suffices: no form can succeed in the bucket, the circuit is open, the level is exhausted, or a limit is used up.
//! Forms that are being read have a separate bound, `concurrency.max_pending_forms`, and their fields a separate
//! timeout.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderValue};
use tidegate_actors::{ClientId, ClientTicket, IpKey, OperationClass, clock};
use tidegate_config::{Kind, LimitsConfig};
use tidegate_s3::addressing;
use tidegate_s3::form::FormRejection;
use tidegate_s3::form::fields::FormFields;
use tidegate_s3::form::multipart::{Delimiter, FieldReader, FileDecoder, FilePart, extract_file};
use tidegate_s3::form::policy::PostPolicy;
use tidegate_s3::form::success_action::{StoredObject, SuccessAction};
use tidegate_s3::request::BodyLength;
use tidegate_s3::upload::declared_body::DeclaredBody;

use crate::auth::{Caller, Operation, check_form_lifetime, check_form_possible};
use crate::http::authentication;
use crate::http::error::{GatewayError, form_reply};
use crate::http::route::BucketRequest;
use crate::http::{injection, request_validation};
use crate::request_head::Head;
use crate::upstream::body::{BodySource, REPLAY_BYTES_MAX};
use crate::upstream::bucket::Bucket;
use crate::upstream::headers::names::REQUEST_ID;
use crate::upstream::record::Record;
use crate::upstream::{self, FormUpload, UpstreamRejection};
use crate::worker::Worker;

/// Connections without an address count as one client.
const NO_ADDRESS: ClientId = ClientId::Address(IpKey::V4(0));

/// A form that was read up to its file.
pub(super) struct ReceivedForm {
    pub(super) fields: FormFields,
    file: UnreadFile,
}

/// The file of a form, before it is read.
struct UnreadFile {
    source: BodySource,
    delimiter: Delimiter,
    /// The bytes from the beginning of the file to the end of the form.
    bytes: Option<u64>,
    /// The form's ticket for `concurrency.max_pending_forms`.
    pending: ClientTicket,
}

/// The upload that a form describes, before the file is read.
pub(super) struct PendingUpload {
    upload: Box<FormUpload>,
    policy: Option<PostPolicy>,
    reply: Box<FormReply>,
    file: UnreadFile,
}

/// An upload by form that may be sent to the store.
pub(super) struct AcceptedForm {
    pub(super) upload: Box<FormUpload>,
    pub(super) body: BodySource,
    pub(super) reply: Box<FormReply>,
}

/// The reply to a form after the store has accepted its upload.
pub(super) struct FormReply {
    done: SuccessAction,
    bucket: String,
    key: String,
    location: String,
}

/// Refuses a form by its head if that suffices, else reads it up to its file.
pub(super) async fn receive(
    worker: &Worker,
    request: &BucketRequest<'_>,
    payload: &mut Payload,
    record: &mut Record,
) -> Result<Box<ReceivedForm>, GatewayError> {
    let bucket = request.bucket;
    check_form_possible(bucket.auth(), &worker.shared.keyring)?;
    bucket.breaker.check(bucket.breaker.circuit(OperationClass::Write), clock::now())?;
    let (delimiter, bytes) = parse_head(request.head, request.length)?;
    authentication::check_lockout(worker, Some(bucket), record)?;
    let client = record.client_id().unwrap_or(NO_ADDRESS);
    let pending = worker.shared.actors.monitor.acquire_form_ticket(client).await?;

    let mut source =
        BodySource::from_payload(payload, Some(bytes), &bucket.config, Rc::clone(&record.upload_progress));
    let FilePart { fields, file_name, offset, first_bytes } =
        read_fields(&mut source, delimiter.clone(), fields_timeout(worker, bucket)).await?;
    source.unread(first_bytes);
    let fields = FormFields::from_parts(fields, &file_name)?;
    // Fields after the file are not read. Without this check the reply to a form with its file first would be about
    // its signature.
    fields.key()?;
    let file = UnreadFile { source, delimiter, bytes: bytes.checked_sub(offset), pending };
    Ok(Box::new(ReceivedForm { fields, file }))
}

/// Reads the boundary and the length from a form's head.
fn parse_head(head: Head<'_>, length: BodyLength) -> Result<(Delimiter, u64), FormRejection> {
    let mut kinds = head.headers.get_all(CONTENT_TYPE);
    let kind = kinds.next().and_then(|kind| kind.to_str().ok()).filter(|_| kinds.next().is_none());
    let delimiter = kind.and_then(Delimiter::from_content_type);
    let delimiter = delimiter.ok_or(FormRejection::Malformed("its content-type has no boundary"))?;
    let bytes = length.bytes().ok_or(FormRejection::MissingLength)?;
    Ok((delimiter, bytes))
}

impl ReceivedForm {
    /// Translates the form to its upload, which must obey the form's policy and the limits of a request. `form` is the
    /// form's own request.
    pub(super) fn into_upload(
        self,
        worker: &Worker,
        form: &BucketRequest<'_>,
        caller: &Caller,
        record: &Record,
    ) -> Result<Box<PendingUpload>, GatewayError> {
        let Self { fields, file } = self;
        let (server, bucket) = (&worker.shared.config.server, form.bucket);
        let key = fields.key()?;
        let policy = fields.get("policy").map(PostPolicy::parse).transpose()?;
        if let Some(policy) = &policy {
            let now = clock::wall();
            policy.check(&fields, &form.name, now)?;
            check_form_lifetime(caller, policy.remaining_validity(now), bucket.config.sigv2_max_lifetime)?;
        }
        let named = addressing::resolve(form.head, &server.base_domains);
        let upload = FormUpload::new(form.head, &named, key, fields.headers()?)
            .ok_or(UpstreamRejection::InvalidTarget)?;
        let Head { uri, headers, .. } = upload.head();
        check_headers(headers, &server.limits)?;
        request_validation::validate_target(uri, bucket.config.max_uri_length)?;
        injection::check_and_log(&worker.process.log, bucket, uri, record)?;
        let (scheme, host) = (upstream::client_scheme(server), addressing::request_host(form.head));
        let reply = FormReply {
            done: SuccessAction::from_fields(&fields),
            bucket: named.bucket.into_owned(),
            key: key.to_owned(),
            location: format!("{scheme}://{host}{}", uri.path()),
        };
        Ok(Box::new(PendingUpload { upload: Box::new(upload), policy, reply: Box::new(reply), file }))
    }
}

impl PendingUpload {
    /// The upload as a request to the form's bucket.
    pub(super) fn request<'a>(&'a self, worker: &Worker, form: &BucketRequest<'a>) -> BucketRequest<'a> {
        let head = self.upload.head();
        let rest = addressing::resolve(head, &worker.shared.config.server.base_domains).key;
        let operation = Operation::from_request(head, head.uri.query().unwrap_or_default(), Kind::S3, rest);
        let BucketRequest { kind, bucket, ref name, length, .. } = *form;
        BucketRequest {
            kind,
            bucket,
            name: name.clone(),
            head,
            length,
            bytes: None,
            query: Cow::Borrowed(""),
            operation,
        }
    }

    /// Reads a small file whole, and computes the length of any other. The upload has its slot, so the form is no
    /// longer pending.
    pub(super) async fn read_file(
        self: Box<Self>,
        bucket: &Bucket,
        record: &Record,
    ) -> Result<(Box<AcceptedForm>, BodyLength, DeclaredBody), GatewayError> {
        let Self { upload, policy, reply, file: UnreadFile { source, delimiter, bytes, pending } } = *self;
        drop(pending);
        record.set_body_occupancy(None);
        let bytes = bytes.ok_or(FormRejection::Malformed("it is longer than its content-length"))?;
        let (body, length, file) = read_file(source, delimiter, bytes, (bucket, record)).await?;
        if let Some(policy) = &policy {
            policy.check_length(file.as_ref().map_or(length, FileDecoder::remaining))?;
        }
        let declared =
            DeclaredBody::for_form_file(upload.head(), file).map_err(UpstreamRejection::InvalidUpload)?;
        let length = if length == 0 { BodyLength::Empty } else { BodyLength::Known(length) };
        Ok((Box::new(AcceptedForm { upload, body, reply }), length, declared))
    }
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
    Ok((BodySource::from_bytes(data, &bucket.config, Rc::clone(&record.upload_progress)), length, None))
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
