//! Answers to requests for a list of buckets that fail.

use std::time::Duration;

use actix_web::http::StatusCode;

use crate::http::bucket_list::{BYTES_MAX, BucketListRejection, FetchError, NAMES_MAX, PAGES_MAX};
use crate::http::error::bad_request;
use crate::http::error_reply::ErrorReply;

/// The answer to the client.
pub(super) fn error_reply(rejection: &BucketListRejection) -> ErrorReply {
    let (section, error) = match rejection {
        BucketListRejection::Parameter(name) => {
            let message = format!("`{name}` has no value that it can have, or is there twice");
            return bad_request("InvalidArgument", "bucket_list_parameter", message);
        }
        BucketListRejection::Store { section, error } => (section, error),
    };
    let incomplete = |why: &str| {
        let message = format!("the list would lack the buckets of section `{section}`: {why}");
        ErrorReply::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            "bucket_list_incomplete",
            message,
        )
        .with_retry_after(Duration::from_secs(1))
    };
    match error {
        FetchError::Gateway(error) => {
            let cause = error.to_reply();
            let figures = cause.log_detail.as_ref().map_or_else(String::new, |detail| format!(": {detail}"));
            let answer = incomplete(&cause.message).with_log_detail(format!("{}{figures}", cause.reason));
            ErrorReply { retry_after: cause.retry_after.or(answer.retry_after), ..answer }
        }
        FetchError::Status(status, code) => {
            let code = code.as_ref().map_or_else(String::new, |code| format!(" {code}"));
            let why = match *status {
                StatusCode::FORBIDDEN => "; its credentials may not list buckets (s3:ListAllMyBuckets)",
                _ => "",
            };
            incomplete(&format!("its store answered {}{code}{why}", status.as_u16()))
        }
        FetchError::Body(error) => incomplete(&format!("no whole list came from its store: {error}")),
        FetchError::TooManyBytes => {
            incomplete(&format!("the store's answer has more than {BYTES_MAX} bytes in all its pages"))
        }
        FetchError::Document(why) => incomplete(&format!("its store's answer is no list of buckets: {why}")),
        FetchError::TooMany => incomplete(&format!(
            "its store lists more than {NAMES_MAX} buckets of the section, or has more than {PAGES_MAX} pages"
        )),
    }
}
