//! Maps every rejection to a local reply; no other folder contains status codes of local replies.
//!
//! Components define typed rejections. Here each becomes a status, an S3 code, a reason that is the same in header,
//! log and metric (O4), and a `Retry-After`. The match is exhaustive, so the compiler finds a missing case. The reply
//! to the client has no internal figures; the access log has all of them. [`upstream`] maps failures of the upstream
//! and of the body on its way there, [`pool`] those of a bucket's queue, [`form`] those of a POST form,
//! [`bucket_list`] those of the list of buckets, [`auth`] those of authentication and authorization.
//! [`figures`] has the figures of the
//! decision behind each. [`local_replies`] builds replies that are not errors, and [`retry_after`] computes `Retry-After`.

mod auth;
mod bucket_list;
pub(crate) mod figure_context;
mod figures;
mod form;
mod local_replies;
mod pool;
mod retry_after;
mod upstream;

use std::time::Duration;

use actix_web::http::StatusCode;
use tidegate_actors::{AskError, BreakerRejection, LimiterRejection, MonitorRejection, PoolRejection};
use tidegate_s3::form::FormRejection;

use crate::auth::{AuthRejection, FormAuthRejection};
use crate::http::bucket_list::BucketListRejection;
use crate::http::cors::CorsRejection;
use crate::http::error_reply::ErrorReply;
use crate::http::head_rejection::{HeadError, HeadRejection};
use crate::http::injection::InjectionFinding;
use crate::http::rate_limit_headers;
use crate::http::request_validation::RequestRejection;
use crate::http::shedding_rejection::{CursorScope, SheddingRejection};
use crate::router::RouteRejection;
use crate::upstream::UpstreamRejection;

pub(crate) use local_replies::{
    AdminStatus, admin_error_reply, encoded_json_reply, event_stream_reply, form_reply, json_reply,
    location_reply, metrics_reply, not_modified_reply, preflight_reply, session_reply, static_json_reply,
    text_reply, xml_reply,
};
pub(crate) use retry_after::{RetryAfter, whole_seconds};

macro_rules! causes {
    ($($component:ident($rejection:ty)),+ $(,)?) => {
        /// Why the gateway replies itself instead of forwarding the upstream's response.
        #[derive(Debug)]
        pub(crate) enum GatewayError {
            $($component($rejection),)+
            Panicked,
        }

        $(impl From<$rejection> for GatewayError {
            fn from(rejection: $rejection) -> Self {
                Self::$component(rejection)
            }
        })+
    };
}

causes!(
    Request(RequestRejection),
    Route(RouteRejection),
    Cors(CorsRejection),
    Monitor(MonitorRejection),
    Shedding(SheddingRejection),
    Limiter(LimiterRejection),
    Auth(AuthRejection),
    Form(FormRejection),
    BucketList(BucketListRejection),
    Pool(PoolRejection),
    Breaker(BreakerRejection),
    Upstream(UpstreamRejection),
);

impl From<FormAuthRejection> for GatewayError {
    fn from(rejection: FormAuthRejection) -> Self {
        match rejection {
            FormAuthRejection::Form(rejection) => Self::Form(rejection),
            FormAuthRejection::Auth(rejection) => Self::Auth(rejection),
        }
    }
}

impl GatewayError {
    /// The reply to the client.
    pub(crate) fn to_reply(&self) -> ErrorReply {
        match self {
            Self::Request(rejection) => request(rejection),
            Self::Route(RouteRejection::NoSuchBucket(name)) => ErrorReply::new(
                StatusCode::NOT_FOUND,
                "NoSuchBucket",
                "no_such_bucket",
                format!("no bucket of this gateway is named `{name}`"),
            ),
            Self::Route(RouteRejection::NoBucket) => ErrorReply::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "MethodNotAllowed",
                "no_bucket",
                "the path names no bucket; only GET lists the buckets",
            ),
            Self::Cors(rejection) => cors(rejection),
            Self::Monitor(rejection) => monitor(rejection),
            Self::Shedding(rejection) => shedding(rejection),
            Self::Limiter(rejection) => limiter(rejection),
            Self::Auth(rejection) => auth::error_reply(rejection),
            Self::Form(rejection) => form::error_reply(rejection),
            Self::BucketList(rejection) => bucket_list::error_reply(rejection),
            Self::Pool(rejection) => pool::error_reply(rejection),
            Self::Breaker(rejection) => breaker(rejection),
            Self::Upstream(rejection) => upstream::error_reply(rejection),
            Self::Panicked => ErrorReply::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalError",
                "panic",
                "the gateway failed with a defect during this request; the panic is in its log",
            )
            .with_close(),
        }
    }
}

/// The status and the reason of the reply to bytes that are not an HTTP/1.1 request. The reply has no body: without a
/// request there is no bucket that determines its format.
pub(crate) fn head_rejection_status(why: HeadRejection) -> (StatusCode, &'static str) {
    match why {
        HeadRejection::Head(HeadError::Malformed(_)) => (StatusCode::BAD_REQUEST, "malformed"),
        HeadRejection::Head(HeadError::TargetTooLong) => (StatusCode::URI_TOO_LONG, "head_too_large"),
        HeadRejection::Head(HeadError::TooLarge) => {
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large")
        }
        HeadRejection::Timeout => (StatusCode::REQUEST_TIMEOUT, "header_timeout"),
    }
}

fn request(rejection: &RequestRejection) -> ErrorReply {
    let bad = |reason, message: String| bad_request("InvalidRequest", reason, message);
    let too_large = (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "RequestHeaderSectionTooLarge");
    let headers = |reason, message: String| ErrorReply::new(too_large.0, too_large.1, reason, message);
    match rejection {
        RequestRejection::Host => {
            bad("host", "an HTTP/1.1 request needs exactly one valid host header".to_owned()).with_close()
        }
        RequestRejection::Framing(what) => {
            bad("framing", format!("the body's length is ambiguous: {what}")).with_close()
        }
        RequestRejection::Target => {
            bad("target", "the request target must be a path, or an http URL that names the host".to_owned())
        }
        RequestRejection::Suspicious(InjectionFinding { reason, what }) => {
            bad_request("InvalidURI", reason, format!("the request target holds {what}"))
        }
        RequestRejection::UriTooLong { bytes, limit } => ErrorReply::new(
            StatusCode::URI_TOO_LONG,
            "InvalidURI",
            "uri_too_long",
            format!("the request target has {bytes} bytes, the limit is {limit}"),
        ),
        RequestRejection::HeadersTooLarge { bytes, limit } => {
            headers("headers_too_large", format!("the headers have {bytes} bytes, the limit is {limit}"))
        }
        RequestRejection::TooManyHeaders { count, limit } => {
            headers("too_many_headers", format!("there are {count} headers, the limit is {limit}"))
        }
        RequestRejection::LengthRequired => ErrorReply::new(
            StatusCode::LENGTH_REQUIRED,
            "MissingContentLength",
            "length_required",
            "the length of the body is missing: send content-length, or transfer-encoding chunked",
        ),
        RequestRejection::BodyTooLarge { bytes, limit } => {
            let size = bytes.map_or_else(|| format!("more than {limit}"), |bytes| bytes.to_string());
            let message = format!(
                "the body has {size} bytes, the limit is {limit} (buckets.NAME.max_request_size, or \
                 server.limits.max_request_size for all buckets)"
            );
            let code = (StatusCode::PAYLOAD_TOO_LARGE, "EntityTooLarge");
            ErrorReply::new(code.0, code.1, "body_too_large", message).with_size(*bytes, *limit).with_close()
        }
        RequestRejection::Deadline => bad_request(
            "InvalidArgument",
            "deadline",
            "x-request-timeout is not a duration: send it once, in seconds as 2.5, or with ms, s, m or h as 250ms",
        ),
        RequestRejection::ProxyHeader => {
            bad("proxy_header", "the connection must begin with a PROXY header".to_owned()).with_close()
        }
        RequestRejection::Method => ErrorReply::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "method",
            "the gateway forwards GET, HEAD, PUT, POST and DELETE, and in s3 buckets OPTIONS as a CORS preflight",
        ),
    }
}

fn cors(rejection: &CorsRejection) -> ErrorReply {
    match rejection {
        CorsRejection::Missing(header) => ErrorReply::new(
            StatusCode::BAD_REQUEST,
            "BadRequest",
            "preflight",
            format!("a preflight needs exactly one {header} header"),
        ),
        CorsRejection::Body => bad_request("BadRequest", "preflight", "a preflight has no body"),
        CorsRejection::Full { limit } => slow_down(
            "too_many_preflights",
            format!(
                "{limit} preflights of this bucket wait for the store; try again, or set buckets.NAME.cors so that the gateway \
                 answers them"
            ),
        ),
        CorsRejection::NotAllowed(what) => ErrorReply::new(
            StatusCode::FORBIDDEN,
            "AccessForbidden",
            "cors",
            format!("the bucket's CORS rules do not allow this {what}"),
        ),
    }
}

fn monitor(rejection: &MonitorRejection) -> ErrorReply {
    match rejection {
        MonitorRejection::Full { .. } => slow_down(
            "too_many_requests_in_flight",
            "the gateway has reached its limit of requests in flight",
        )
        .with_log_detail(rejection.to_string()),
        MonitorRejection::ClientFull { in_flight, limit } => ErrorReply::new(
            StatusCode::TOO_MANY_REQUESTS,
            "SlowDown",
            "client_concurrency",
            format!(
                "the limit for the requests in flight of one client is {limit}, and this client has {in_flight}"
            ),
        )
        .with_retry_after(Duration::from_secs(1)),
        MonitorRejection::FormsFull { pending, limit, is_clients } => {
            let message = match is_clients {
                true => format!(
                    "the gateway reads the fields of at most {limit} forms of one client at a time, and {pending} of this one"
                ),
                false => "the gateway has reached its limit of forms that are being read".to_owned(),
            };
            slow_down("too_many_pending_forms", message).with_close().with_log_detail(rejection.to_string())
        }
        MonitorRejection::Unavailable(error) => unavailable("monitor_unavailable", *error),
        // The connection may stay open: reads of the client are still served.
        MonitorRejection::ShedUpload { reason, retry_after } => slow_down(
            "shed_upload",
            "the gateway is short of resources and refuses uploads of the lowest priority; reads are served",
        )
        .with_retry_after(*retry_after)
        .with_log_detail(reason.as_ref().map_or_else(String::new, ToString::to_string)),
        MonitorRejection::Exhausted { reason, retry_after } => {
            // A persistent connection would hold a descriptor until the client sends its next request.
            slow_down("exhausted", "the gateway is out of resources and refuses new requests")
                .with_retry_after(*retry_after)
                .with_log_detail(reason.as_ref().map_or_else(String::new, ToString::to_string))
                .with_close()
        }
    }
}

fn shedding(rejection: &SheddingRejection) -> ErrorReply {
    let message = match rejection.scope {
        CursorScope::Process => "the gateway is overloaded and refuses requests of lower weight",
        CursorScope::Bucket => "this bucket is overloaded and refuses requests of lower weight",
    };
    slow_down(rejection.reason(), message)
        .with_retry_after(rejection.shed.retry_after)
        .with_log_detail(rejection.detail())
}

fn limiter(rejection: &LimiterRejection) -> ErrorReply {
    match rejection {
        LimiterRejection::Limited(limited) => {
            let scope = limited.scope.as_str();
            let reply = ErrorReply::new(
                StatusCode::TOO_MANY_REQUESTS,
                "SlowDown",
                rate_limit_headers::reason(limited.scope),
                format!(
                    "the {scope} limit of {} requests per second is used up",
                    limited.requests_per_second
                ),
            );
            reply.with_limit(limited)
        }
        LimiterRejection::Unavailable(error) => unavailable("limiter_unavailable", *error),
    }
}

/// A 400 for a request that a component rejects.
pub(crate) fn bad_request(
    code: &'static str,
    reason: &'static str,
    message: impl Into<String>,
) -> ErrorReply {
    ErrorReply::new(StatusCode::BAD_REQUEST, code, reason, message)
}

pub(crate) fn unauthorized(
    code: &'static str,
    reason: &'static str,
    message: impl Into<String>,
) -> ErrorReply {
    ErrorReply::new(StatusCode::UNAUTHORIZED, code, reason, message)
}

pub(crate) fn forbidden(code: &'static str, reason: &'static str, message: impl Into<String>) -> ErrorReply {
    ErrorReply::new(StatusCode::FORBIDDEN, code, reason, message)
}

/// A 503 for a request that the gateway cannot decide yet, because it is still loading something.
pub(crate) fn not_ready(reason: &'static str, message: impl Into<String>) -> ErrorReply {
    ErrorReply::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", reason, message)
        .with_retry_after(Duration::from_secs(1))
}

pub(crate) fn not_implemented(reason: &'static str, message: impl Into<String>) -> ErrorReply {
    ErrorReply::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", reason, message)
}

fn breaker(rejection: &BreakerRejection) -> ErrorReply {
    let reason = rejection.reason();
    let refused = |message: String, after: Duration| {
        ErrorReply::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", reason, message)
            .with_retry_after(after)
    };
    match rejection {
        BreakerRejection::Open { retry_after, cause, .. } => {
            refused(format!("the circuit of the upstream is open after failures ({cause})"), *retry_after)
        }
        BreakerRejection::HalfOpenFull { retry_after } => {
            let message = "the circuit of the upstream is half-open: trial requests test it";
            refused(message.to_owned(), *retry_after)
        }
        BreakerRejection::Forced { retry_after } => {
            let message = "the circuit of the upstream is forced open by the configuration";
            refused(message.to_owned(), *retry_after)
        }
        BreakerRejection::Unavailable(error) => unavailable(reason, *error),
    }
}

fn slow_down(reason: &'static str, message: impl Into<String>) -> ErrorReply {
    ErrorReply::new(StatusCode::SERVICE_UNAVAILABLE, "SlowDown", reason, message)
        .with_retry_after(Duration::from_secs(1))
}

fn unavailable(reason: &'static str, error: AskError) -> ErrorReply {
    let message = format!("a component of the gateway is unavailable: {error}");
    let reply = ErrorReply::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", reason, message);
    match error {
        AskError::Crashed => reply.with_exact_retry_after(error.retry_after()),
        _ => reply.with_retry_after(error.retry_after()),
    }
}
