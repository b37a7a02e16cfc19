//! `GET /`: the buckets that a client may see (ListBuckets).
//!
//! A section with an exact name is listed under it. For a section by pattern the store is called, through the section's gate, circuit and
//! deadline, signed as the requests of this client are. Its answer is reduced to the names that lead to this section and that the
//! client's policy names. A client without a proof causes no call, but to the embedded origin: it sees exact names
//! alone. `query.rs` reads what the client asks for, `page.rs` merges and divides, `fetch.rs` makes the calls.
//!
//! A list that lacks the buckets of one store would look whole. So a store that fails makes the whole answer a 503.
//!
//! Deliberately absent: a cache, because a client lists its buckets after it has created one.

mod fetch;
mod page;
mod query;

use std::rc::Rc;

use actix_web::HttpResponse;
use actix_web::http::header::HeaderName;
use futures_util::StreamExt;
use futures_util::stream;
use tidegate_actors::BucketId;
use tidegate_config::Kind;

use crate::auth::{self, Caller};
use crate::http::answer::REQUEST_ID;
use crate::http::edge::{self, Head};
use crate::http::error::{GatewayError, xml_answer};
use crate::router::Bucket;
use crate::s3::bucket_list::{BucketListDocument, ListedBucket};
use crate::telemetry::record::Record;
use crate::upstream::deadline::Deadline;
use crate::worker::Worker;

use fetch::{Fetch, fetch};
use page::Buckets;
use query::Query;

pub(crate) use fetch::FetchError;

/// Stores that are called at a time for one list. Each may hold `fetch::BYTES_MAX` of its answer in memory.
const FETCHES_MAX: usize = 4;

/// The request's ID, as S3's own answers name it.
const AMZ_REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");

/// Why there is no list.
#[derive(Debug)]
pub(crate) enum BucketListRejection {
    /// A parameter of the query has a value that it cannot have.
    Parameter(&'static str),
    /// The store of this section gave no list.
    Store {
        /// The section's name.
        section: String,
        /// What it gave.
        error: FetchError,
    },
}

/// Answers `GET /` to a caller.
pub(super) async fn answer(
    worker: &Rc<Worker>,
    caller: &Caller,
    head: Head<'_>,
    record: &mut Record,
) -> Result<HttpResponse, GatewayError> {
    let query = Query::parse(head.uri.query().unwrap_or_default()).map_err(BucketListRejection::Parameter)?;
    let shared = &worker.shared;
    let region = shared.config.s3.region.as_str();
    let mut listed = Buckets::default();
    if query.is_of_region(region) {
        let sections = shared.router.buckets().iter().filter(|bucket| bucket.config.kind == Kind::S3);
        let (exact, patterns): (Vec<_>, Vec<_>) =
            sections.partition(|bucket| bucket.config.pattern.is_exact());
        let seen = exact.into_iter().filter(|bucket| auth::sees(caller, bucket, &shared.keyring));
        listed.add(seen.map(|bucket| ListedBucket {
            name: bucket.config.pattern.as_str().to_owned(),
            created: String::new(),
        }));
        let called = patterns.into_iter().filter(|bucket| auth::may_see_any(caller, bucket, &shared.keyring));
        fetch_all(worker, called, (caller, head), &mut listed, record).await?;
    }
    let page = listed.page(&query);
    let document = BucketListDocument {
        buckets: &page.buckets,
        region: query.names_region().then_some(region),
        prefix: query.prefix.as_deref(),
        next: page.next.as_deref(),
    };
    let mut answer = xml_answer(document.to_xml());
    for name in [REQUEST_ID, AMZ_REQUEST_ID] {
        answer.headers_mut().insert(name, record.id.clone());
    }
    Ok(answer)
}

/// Fetches the buckets of these sections, some sections at a time.
async fn fetch_all<'a>(
    worker: &Rc<Worker>,
    sections: impl Iterator<Item = &'a Bucket>,
    (caller, head): (&Caller, Head<'_>),
    listed: &mut Buckets,
    record: &mut Record,
) -> Result<(), GatewayError> {
    let mut calls: Vec<(BucketId, Deadline, Box<Record>)> = Vec::new();
    for section in sections {
        let deadline = edge::deadline(head, section, record.started)?;
        calls.push((section.id, deadline, Box::new(record.part(section.id))));
    }
    let fetches = calls.into_iter().map(|(id, deadline, mut part)| async move {
        let section = worker.shared.router.bucket(id);
        let found = fetch(worker, Fetch { section, caller, head, deadline }, &mut part).await;
        (section, part.attempts, found)
    });
    let mut answers = stream::iter(fetches).buffer_unordered(FETCHES_MAX);
    while let Some((section, attempts, found)) = answers.next().await {
        record.attempts += attempts;
        match found {
            Ok(buckets) => listed.add(buckets.into_iter()),
            Err(error) => {
                // The log line and the metrics of the failure are the section's.
                record.bucket = Some(section.id);
                return Err(BucketListRejection::Store { section: section.name.clone(), error }.into());
            }
        }
    }
    Ok(())
}
