//! Fetches the buckets of a section by pattern from its store.
//!
//! A call is like any other of the section: it waits for a permit of the gate, needs a closed circuit, is retried
//! within the budget, ends with the deadline, and reports its outcome. A store may send several pages; one bound of
//! bytes, of names and of pages applies to all of them together. A name is kept if it routes to this section, if the
//! client's policy allows it, and if the section does not send all names to one other bucket of the store.
//!
//! A response that is not a list, or exceeds a bound, is not a failure of the store, because the store still serves
//! objects.

use std::collections::BTreeMap;
use std::rc::Rc;

use actix_web::http::{Method, StatusCode};
use bytes::BytesMut;
use tidegate_actors::OperationClass;
use tidegate_s3::bucket_list::{ListedBucket, parse};
use tidegate_s3::request::BodyLength;

use crate::auth::{self, Caller};
use crate::http::error::GatewayError;
use crate::http::grant::acquire_grant;
use crate::request_head::Head;
use crate::upstream::bucket::Bucket;
use crate::upstream::record::Record;
use crate::upstream::rules::deadline::Deadline;
use crate::upstream::{self, BucketListPage, CollectError, CollectLimits, UpstreamRejection, error_code};
use crate::worker::Worker;

/// The most bytes of all pages of one store's list (E6).
pub(crate) const BYTES_MAX: usize = 4 << 20;
/// The most names of one store that route to one section: S3's quota of an account.
pub(crate) const NAMES_MAX: usize = 10_000;
/// The most pages of one store's list.
pub(crate) const PAGES_MAX: usize = 100;
/// The longest name that S3 has ever allowed.
const NAME_BYTES_MAX: usize = 255;
/// The most bytes that are read of an error document. AWS sends some of more than 8 KiB.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// Why a store's list could not be fetched.
#[derive(Debug)]
pub(crate) enum FetchError {
    /// The store was not called, or sent no response.
    Gateway(Box<GatewayError>),
    /// The store responded with this status and this error code.
    Status(StatusCode, Option<String>),
    /// The body is not complete.
    Body(CollectError),
    /// Its pages together are larger than `BYTES_MAX`.
    TooManyBytes,
    /// The body is not a list.
    Document(&'static str),
    /// It has more than `NAMES_MAX` buckets of the section, or more than `PAGES_MAX` pages.
    TooMany,
}

impl From<&'static str> for FetchError {
    fn from(why: &'static str) -> Self {
        Self::Document(why)
    }
}

impl From<UpstreamRejection> for FetchError {
    fn from(rejection: UpstreamRejection) -> Self {
        Self::Gateway(Box::new(rejection.into()))
    }
}

impl From<GatewayError> for FetchError {
    fn from(error: GatewayError) -> Self {
        Self::Gateway(Box::new(error))
    }
}

/// A section, and the client's request for the list.
#[derive(Clone, Copy)]
pub(super) struct ListFetch<'a> {
    pub(super) section: &'a Bucket,
    pub(super) caller: &'a Caller,
    pub(super) head: Head<'a>,
    pub(super) deadline: Deadline,
}

/// Fetches all buckets of the section's store and keeps those that the caller may see.
pub(super) async fn fetch(
    worker: &Rc<Worker>,
    fetch: ListFetch<'_>,
    record: &mut Record,
) -> Result<Vec<ListedBucket>, FetchError> {
    fetch.section.pool.check_drain().map_err(GatewayError::from)?;
    record.set_live(fetch.section.id);
    let mut kept = BTreeMap::new();
    let mut token: Option<String> = None;
    let mut bytes_left = BYTES_MAX;
    for _ in 0..PAGES_MAX {
        let document = fetch_page(worker, fetch, token.as_deref(), bytes_left, record).await?;
        bytes_left = bytes_left.checked_sub(document.len()).ok_or(FetchError::TooManyBytes)?;
        let next = parse(&document, &mut |bucket| {
            let name = client_name(fetch.section, bucket.name);
            if is_visible(worker, fetch, &name) {
                kept.entry(name).or_insert(bucket.created);
            }
            if kept.len() > NAMES_MAX { Err(FetchError::TooMany) } else { Ok(()) }
        })?;
        match next {
            None => {
                return Ok(kept.into_iter().map(|(name, created)| ListedBucket { name, created }).collect());
            }
            same if same == token => return Err(FetchError::Document("its pages repeat their token")),
            next => token = next,
        }
    }
    Err(FetchError::TooMany)
}

/// The name by which clients address a bucket of the store's list. Ceph lists the buckets of a tenant's user without the tenant.
fn client_name(section: &Bucket, name: String) -> String {
    match section.config.pattern.tenant() {
        Some(tenant) if !name.contains(':') => format!("{tenant}:{name}"),
        _ => name,
    }
}

/// Whether a bucket of the store belongs to the section and the caller may see it.
fn is_visible(worker: &Worker, ListFetch { section, caller, .. }: ListFetch<'_>, name: &str) -> bool {
    let shared = &worker.shared;
    let is_only = section.config.upstream.bucket.as_deref().is_none_or(|only| only == name);
    name.len() <= NAME_BYTES_MAX
        && is_only
        && shared.router.routes_to(name, section.id)
        && auth::may_list_name(caller, section.auth(), name, &shared.keyring)
}

/// One page of the store's list.
async fn fetch_page(
    worker: &Rc<Worker>,
    ListFetch { section, caller, head, deadline }: ListFetch<'_>,
    token: Option<&str>,
    bytes_max: usize,
    record: &mut Record,
) -> Result<BytesMut, FetchError> {
    let is_replayable = upstream::is_replayable(&Method::GET, BodyLength::Empty);
    let grant =
        acquire_grant(worker, section, (OperationClass::List, is_replayable), deadline, record).await?;
    let page = BucketListPage::new(head, token).ok_or(UpstreamRejection::InvalidTarget)?;
    let server = &worker.shared.config.server;
    let request = upstream::prepare_bucket_list(page, (section, caller.key()), server, record)?;
    let response = upstream::call(worker.call_resources(), section, request, grant, record).await?;
    let status = response.status();
    let is_success = status.is_success();
    let code = response.error_code();
    let limits = CollectLimits {
        bytes_max: if is_success { bytes_max } else { ERROR_BYTES_MAX },
        deadline: deadline.total,
        is_client_deadline: deadline.is_client_deadline,
    };
    let body = upstream::collect(section, response, limits).await;
    match (is_success, body) {
        // The bound of this page is the rest that the pages before have left.
        (true, Err(CollectError::TooLarge(_))) => Err(FetchError::TooManyBytes),
        (true, body) => body.map_err(FetchError::Body),
        (false, body) => {
            let code = code.or_else(|| body.ok().and_then(|body| error_code(&body)));
            Err(FetchError::Status(status, code))
        }
    }
}
