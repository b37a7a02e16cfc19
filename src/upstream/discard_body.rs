//! The end of a call whose answer the gateway tells in words of its own.
//!
//! What a success says of an upload is in its head; its body is empty, or of no interest. It is read to its end all the same,
//! so that the connection can be used again, but no further than this.

use actix_web::http::header::HeaderMap;
use futures_util::StreamExt;
use tidegate_actors::{Outcome, clock};

use crate::router::Bucket;
use crate::upstream::call::UpstreamResponse;

const BODY_BYTES_MAX: usize = 64 << 10;

/// Ends a call that succeeded, gives back what it held, and returns its headers.
pub(crate) async fn discard_body(bucket: &Bucket, called: UpstreamResponse) -> HeaderMap {
    let UpstreamResponse { mut response, error_document: _, permit, ticket, socket: _ } = called;
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
