//! Ends a call for which the gateway writes the response itself.
//!
//! For an upload the headers of a success are enough; its body is empty or not needed. The body is read to its end
//! anyway, so that the connection can be reused, but no further than 64 KiB.

use actix_web::http::header::HeaderMap;
use futures_util::StreamExt;
use tidegate_actors::{Outcome, clock};

use crate::upstream::bucket::Bucket;
use crate::upstream::response::UpstreamResponse;

const BODY_BYTES_MAX: usize = 64 << 10;

/// Ends a successful call, releases its permits, and returns its headers.
pub(crate) async fn discard_body(bucket: &Bucket, call: UpstreamResponse) -> HeaderMap {
    let UpstreamResponse { mut response, error_document: _, permit, ticket } = call;
    let headers = response.headers().clone();
    let reading = async {
        let mut bytes = 0;
        while let Some(Ok(piece)) = response.next().await {
            bytes += piece.len();
            if bytes > BODY_BYTES_MAX {
                break;
            }
        }
    };
    let began = clock::now();
    let _ = tokio::time::timeout(bucket.config.upstream.idle_timeout, reading).await;
    if let Some(ticket) = ticket {
        ticket.report(Outcome::Success);
    }
    bucket.pool.release(permit, began);
    headers
}
