//! Error replies for the list of buckets.

use std::time::Duration;

use actix_web::http::StatusCode;

use crate::http::bucket_list::{BYTES_MAX, BucketListRejection, FetchError, NAMES_MAX, PAGES_MAX};
use crate::http::error::bad_request;
use crate::http::error_reply::ErrorReply;

pub(super) fn error_reply(rejection: &BucketListRejection) -> ErrorReply {
    let (section, error) = match rejection {
        BucketListRejection::Parameter(name) => {
            let message = format!("the parameter `{name}` is invalid or repeated");
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
            let reply = incomplete(&cause.message).with_log_detail(format!("{}{figures}", cause.reason));
            ErrorReply { retry_after: cause.retry_after.or(reply.retry_after), ..reply }
        }
        FetchError::Status(status, code) => {
            let code = code.as_ref().map_or_else(String::new, |code| format!(" {code}"));
            let why = match *status {
                StatusCode::FORBIDDEN => "; its credentials may not list buckets (s3:ListAllMyBuckets)",
                _ => "",
            };
            incomplete(&format!("its store responded with {}{code}{why}", status.as_u16()))
        }
        FetchError::Body(error) => incomplete(&format!("the response of its store is incomplete: {error}")),
        FetchError::TooManyBytes => {
            incomplete(&format!("the pages of its store have more than {BYTES_MAX} bytes together"))
        }
        FetchError::Document(why) => {
            incomplete(&format!("the response of its store is not a list of buckets: {why}"))
        }
        FetchError::TooMany => incomplete(&format!(
            "its store lists more than {NAMES_MAX} buckets of the section, or has more than {PAGES_MAX} pages"
        )),
    }
}
