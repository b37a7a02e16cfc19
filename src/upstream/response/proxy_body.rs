//! The body of any response on the data listener.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;

use crate::upstream::record::Record;
use crate::upstream::response::appended_errors::AppendedBody;
use crate::upstream::response::body::ResponseBody;
use crate::upstream::response::rename_plan::RenamedBody;

/// A response body.
pub(crate) enum ProxyBody {
    /// The upstream's body, unchanged.
    Upstream(Box<ResponseBody>),
    /// The upstream's body, with the bucket's name replaced by the client's.
    Renamed(Box<RenamedBody>),
    /// The store's response to a multi-delete, with the errors of denied objects.
    Appended(Box<AppendedBody>),
    /// A body of the gateway, with the record that ends with it.
    Local(BoxBody, Option<Box<Record>>),
}

impl MessageBody for ProxyBody {
    type Error = Box<dyn Error>;

    fn size(&self) -> BodySize {
        match self {
            Self::Upstream(body) => body.size(),
            Self::Renamed(body) => body.size(),
            Self::Appended(body) => body.size(),
            Self::Local(body, _) => body.size(),
        }
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Box<dyn Error>>>> {
        match self.get_mut() {
            Self::Upstream(body) => Pin::new(&mut **body).poll_next(cx).map_err(Into::into),
            Self::Renamed(body) => Pin::new(&mut **body).poll_next(cx).map_err(Into::into),
            Self::Appended(body) => Pin::new(&mut **body).poll_next(cx),
            Self::Local(body, record) => {
                let polled = Pin::new(body).poll_next(cx);
                if let (Poll::Ready(Some(Ok(chunk))), Some(record)) = (&polled, record) {
                    record.sent_bytes += chunk.len() as u64;
                }
                polled
            }
        }
    }
}
