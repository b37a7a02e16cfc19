//! Response body of a reduced multi-delete. The errors of the denied objects are appended to it
//! (`s3/src/delete_result.rs`).

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::HeaderValue;
use bytes::Bytes;
use slog::{Logger, warn};
use tidegate_s3::delete_result::{ErrorAppender, NotDeleteResult};

use crate::upstream::response::proxy_body::ProxyBody;

/// The errors to append to a response.
pub(crate) struct DeniedErrors {
    pub(crate) appender: ErrorAppender,
    /// Logs a response to which the errors cannot be appended.
    pub(crate) log: Logger,
    /// The request ID.
    pub(crate) id: HeaderValue,
}

/// A body with errors appended.
pub(crate) struct AppendedBody {
    body: ProxyBody,
    errors: DeniedErrors,
}

impl ProxyBody {
    /// The same body with errors appended, if there are some.
    pub(crate) fn with_denied_errors(self, errors: Option<Box<DeniedErrors>>) -> Self {
        match errors {
            Some(errors) => Self::Appended(Box::new(AppendedBody { body: self, errors: *errors })),
            None => self,
        }
    }
}

impl DeniedErrors {
    /// Breaks the transfer. Otherwise the client would take the denied objects for deleted.
    fn fail(&self, error: NotDeleteResult) -> Poll<Option<Result<Bytes, Box<dyn Error>>>> {
        warn!(self.log, "transfer broken"; "id" => self.id.to_str().unwrap_or_default(),
            "error" => error.to_string());
        Poll::Ready(Some(Err(error.into())))
    }
}

impl MessageBody for AppendedBody {
    type Error = Box<dyn Error>;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Box<dyn Error>>>> {
        let this = self.get_mut();
        loop {
            let piece = match ready!(Pin::new(&mut this.body).poll_next(cx)) {
                Some(Ok(piece)) => piece,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    return match this.errors.appender.finish() {
                        Ok(()) => Poll::Ready(None),
                        Err(error) => this.errors.fail(error),
                    };
                }
            };
            match this.errors.appender.push(piece) {
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => return Poll::Ready(Some(Ok(piece))),
                Err(error) => return this.errors.fail(error),
            }
        }
    }
}
