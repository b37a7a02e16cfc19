//! `GET /`: the list of buckets that a client may see (ListBuckets, S3 API reference).
//!
//! A section with an exact name is listed by that name. For a section by pattern the gateway calls the store, through
//! the section's gate, circuit and deadline, signed like this client's other requests. It keeps the names that route
//! to this section and that the client's policy allows. For an anonymous client it calls only the embedded origin, so
//! other stores' sections by pattern are missing from its list. `query.rs` reads the parameters, `page.rs` merges and
//! divides the names, `fetch.rs` makes the calls.
//!
//! A list without the buckets of one store would look complete, so the failure of one store makes the whole reply a
//! 503.
//!
//! There is no cache, because a client lists its buckets right after it has created one.

mod fetch;
mod page;
mod query;

use std::iter;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::HttpResponse;
use fetch::{ListFetch, fetch};
use futures_util::StreamExt;
use futures_util::stream;
use page::VisibleBuckets;
use query::BucketListQuery;
use tidegate_actors::BucketId;
use tidegate_config::Kind;
use tidegate_s3::bucket_list::{BucketListDocument, ListedBucket};

use crate::auth::{self, Caller};
use crate::http::error::{GatewayError, xml_reply};
use crate::http::request_validation;
use crate::request_head::Head;
use crate::upstream::bucket::Bucket;
use crate::upstream::record::Record;
use crate::upstream::rules::deadline::Deadline;
use crate::worker::Worker;

pub(crate) use fetch::{BYTES_MAX, FetchError, NAMES_MAX, PAGES_MAX};

/// The most stores that are called at a time for one list. Each may hold `fetch::BYTES_MAX` of its response in
/// memory.
const FETCHES_MAX: usize = 4;

/// Why a list of buckets could not be produced.
#[derive(Debug)]
pub(crate) enum BucketListRejection {
    /// This parameter of the query is invalid or repeated.
    Parameter(&'static str),
    /// The list of this section's store could not be fetched.
    Store {
        /// The section's name.
        section: String,
        /// The failure.
        error: FetchError,
    },
}

/// Answers `GET /` to a caller.
pub(super) async fn list_buckets(
    worker: &Rc<Worker>,
    caller: &Caller,
    head: Head<'_>,
    record: &mut Record,
) -> Result<HttpResponse, GatewayError> {
    let query = BucketListQuery::parse(head.uri.query().unwrap_or_default())
        .map_err(BucketListRejection::Parameter)?;
    let shared = &worker.shared;
    let is_requested =
        |section: &&Bucket| section.config.kind == Kind::S3 && query.matches_region(region(worker, section));
    let sections = shared.router.buckets().iter().map(Arc::as_ref).filter(is_requested);
    let (exact, patterns): (Vec<_>, Vec<_>) = sections.partition(|bucket| bucket.config.pattern.is_exact());
    let mut visible = VisibleBuckets::default();
    for section in
        exact.into_iter().filter(|bucket| auth::may_list_bucket(caller, bucket.auth(), &shared.keyring))
    {
        let name = section.config.pattern.as_str().to_owned();
        visible.add(region(worker, section), iter::once(ListedBucket { name, created: String::new() }));
    }
    let allowed =
        patterns.into_iter().filter(|bucket| auth::may_list_any(caller, bucket.auth(), &shared.keyring));
    fetch_all(worker, allowed, (caller, head), &mut visible, record).await?;
    let page = visible.page(&query);
    let document = BucketListDocument {
        buckets: &page.buckets,
        has_regions: query.has_parameters(),
        prefix: query.prefix.as_deref(),
        next: page.next_token.as_deref(),
    };
    Ok(xml_reply(document.to_xml(), &record.id))
}

/// The region of a section's buckets, the same as in the responses of its other operations.
fn region<'w>(worker: &'w Worker, section: &'w Bucket) -> &'w str {
    worker.shared.regions.advertised(Some(&section.config))
}

/// Fetches the buckets of these sections, some sections at a time.
async fn fetch_all<'w>(
    worker: &'w Rc<Worker>,
    sections: impl Iterator<Item = &'w Bucket>,
    (caller, head): (&Caller, Head<'_>),
    visible: &mut VisibleBuckets<'w>,
    record: &mut Record,
) -> Result<(), GatewayError> {
    let mut calls: Vec<(BucketId, Deadline, Box<Record>)> = Vec::new();
    for section in sections {
        let deadline = request_validation::request_deadline(head, section, record.started)?;
        calls.push((section.id, deadline, Box::new(record.sub_request(section.id))));
    }
    let fetches = calls.into_iter().map(|(id, deadline, mut part)| async move {
        let section = worker.shared.router.bucket(id);
        let found = fetch(worker, ListFetch { section, caller, head, deadline }, &mut part).await;
        (section, part.attempts, found)
    });
    let mut results = stream::iter(fetches).buffer_unordered(FETCHES_MAX);
    while let Some((section, attempts, found)) = results.next().await {
        record.attempts += attempts;
        match found {
            Ok(buckets) => visible.add(region(worker, section), buckets.into_iter()),
            Err(error) => {
                // The log line and the metrics name the section that failed.
                record.bucket = Some(section.id);
                return Err(BucketListRejection::Store { section: section.name.clone(), error }.into());
            }
        }
    }
    Ok(())
}
