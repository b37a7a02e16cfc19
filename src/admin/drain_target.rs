//! `POST /drain`, `DELETE /drain` and `GET /drains`: an operator drains one bucket or one endpoint, ends that, and sees what is left.
//!
//! The parameters are in the query, or in a form in the body. Texts of an operator are bounded and shown without control characters.

use std::net::IpAddr;
use std::time::Duration;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{self, Bytes, ServiceConfig};
use actix_web::{Error, HttpMessage as _, HttpRequest, HttpResponse};
use serde_json::{Value, json};
use slog::info;
use tidegate_actors::{AskError, DrainOrder, DrainTarget, EndpointId, clock};
use tidegate_config::Endpoint;
use tokio::sync::MutexGuard;

use crate::admin::access::AdminConnection;
use crate::admin::decisions::parameters::{InvalidParameter, Parameters, invalid};
use crate::admin::decisions::{invalid_parameter, unexpected_query};
use crate::admin::session::StreamSession;
use crate::admin::status::drains::{ActiveDrain, BucketDrains};
use crate::admin::{drain, get_or_head};
use crate::degradation::cause::Moment;
use crate::http::error::{AdminStatus, admin_error_reply, json_reply};
use crate::http::request_id;
use crate::request_head::HeaderView;
use crate::telemetry::escape_controls;
use crate::upstream::bucket::Bucket;
use crate::worker::Worker;
use crate::worker::slot::CurrentWorker;

/// The parameters.
const OF_DRAIN: [&str; 4] = ["bucket", "endpoint", "reason", "expires"];
const OF_END: [&str; 2] = ["bucket", "endpoint"];
/// The longest form.
const BODY_BYTES_MAX: usize = 4 << 10;
/// The longest time of a drain: 30 days.
const EXPIRES_MAX: u64 = 30 * 24 * 3600;
/// The most names in a reply about an unknown one.
const NAMES_MAX: usize = 50;

/// Registers the routes.
pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .route("/drain", web::post().to(begin))
        .route("/drain", web::delete().to(end))
        .route("/drains", get_or_head().to(list));
}

/// Why a target is not drained.
enum DrainRejection {
    Parameter(InvalidParameter),
    /// The name, and those that are known.
    UnknownBucket(String, Vec<String>),
    UnknownEndpoint(String, Vec<String>),
    Unavailable(AskError),
    /// The successor of an upgrade serves the bucket.
    HandedOver,
    BodyTooLarge,
}

impl From<InvalidParameter> for DrainRejection {
    fn from(error: InvalidParameter) -> Self {
        Self::Parameter(error)
    }
}

impl DrainRejection {
    fn reply(&self, request: &HttpRequest) -> HttpResponse {
        let unknown = |code, kind: &str, name: &str, known: &[String]| {
            let shown = known.iter().take(NAMES_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = match known.len().saturating_sub(NAMES_MAX) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let message = format!("there is no {kind} `{}`; there is {shown}{more}", escape_controls(name));
            (AdminStatus::NotFound, code, message)
        };
        let (status, code, message) = match self {
            Self::Parameter(error) => return invalid_parameter(request, error),
            Self::UnknownBucket(name, known) => unknown("unknown_bucket", "bucket", name, known),
            Self::UnknownEndpoint(name, known) => unknown("unknown_endpoint", "endpoint", name, known),
            Self::Unavailable(error) => {
                let message = format!("the pool of the bucket does not answer: {error}; try again");
                (AdminStatus::Unavailable, "pool_unavailable", message)
            }
            Self::HandedOver => {
                let message = "an upgrade is done, and the new process has the drains; send the order again on a new connection";
                (AdminStatus::Conflict, "handed_over", message.to_owned())
            }
            Self::BodyTooLarge => {
                let message = format!("the body is no form of at most {BODY_BYTES_MAX} bytes");
                (AdminStatus::BadRequest, "bad_form", message)
            }
        };
        admin_error_reply(status, code, &message, &request_id::of(HeaderView::of(request.headers())))
    }
}

/// A target, with what is said about it.
struct NamedTarget<'a> {
    bucket: &'a Bucket,
    target: DrainTarget,
}

impl NamedTarget<'_> {
    /// The authority of the endpoint.
    fn endpoint(&self) -> Option<&str> {
        match &self.target {
            DrainTarget::Bucket => None,
            DrainTarget::Endpoints(endpoints) => authority(self.bucket, *endpoints.first()?),
        }
    }
}

fn authority(bucket: &Bucket, endpoint: EndpointId) -> Option<&str> {
    bucket.config.upstream.endpoints.get(endpoint.0).map(|endpoint| endpoint.authority.as_str())
}

/// `POST /drain`: the process; `POST /drain?bucket=NAME[&endpoint=URL][&reason=TEXT][&expires=SECONDS]`.
async fn begin(
    request: HttpRequest,
    body: Result<Bytes, Error>,
    CurrentWorker(worker): CurrentWorker,
) -> HttpResponse {
    // An empty form is an order without its bucket, for example after an empty variable of a shell.
    let has_form = request.uri().query().is_some() || request.headers().contains_key(CONTENT_TYPE);
    if !has_form && body.as_ref().is_ok_and(Bytes::is_empty) {
        return drain::begin(&request, &worker).await;
    }
    match try_begin(&request, body, &worker).await {
        Ok(reply) => json_reply(AdminStatus::Ok, &reply),
        Err(rejection) => rejection.reply(&request),
    }
}

async fn try_begin(
    request: &HttpRequest,
    body: Result<Bytes, Error>,
    worker: &Worker,
) -> Result<Value, DrainRejection> {
    let parameters = parameters(request, body, &OF_DRAIN)?;
    let named = target(&parameters, worker)?;
    let order = DrainOrder {
        ordered_by: orderer(request),
        reason: parameters.text("reason").map(|reason| escape_controls(reason).into_owned()),
        expires: parameters.text("expires").map(parse_expires).transpose()?,
    };
    let (reason, expires) = (order.reason.clone(), order.expires);
    let by = order.ordered_by.clone();
    let _order = order_lock(worker).await?;
    let drained = named.bucket.pool.drain(named.target.clone(), order).await;
    let was_draining = drained.map_err(DrainRejection::Unavailable)?;
    info!(worker.process.log, "drain ordered by an operator"; "bucket" => &named.bucket.name,
        "endpoint" => named.endpoint(), "by" => by, "reason" => reason, "expires_in_s" => expires.map(|time| time.as_secs()),
        "was_draining" => was_draining);
    let at = Moment { now: clock::now(), wall: clock::wall() };
    let drains = BucketDrains::of(&worker.shared, named.bucket, at.now);
    let progress = match &named.target {
        DrainTarget::Bucket => drains.bucket,
        DrainTarget::Endpoints(endpoints) => {
            endpoints.iter().find_map(|endpoint| drains.endpoints.get(endpoint.0)?.clone())
        }
    };
    let mut reply = match progress {
        Some(progress) => entry(named.bucket, named.endpoint(), &progress, at),
        // It expired in the meantime.
        None => json!({ "bucket": named.bucket.name, "endpoint": named.endpoint() }),
    };
    reply["was_draining"] = was_draining.into();
    Ok(reply)
}

/// `DELETE /drain?bucket=NAME[&endpoint=URL]`.
async fn end(
    request: HttpRequest,
    body: Result<Bytes, Error>,
    CurrentWorker(worker): CurrentWorker,
) -> HttpResponse {
    match try_end(&request, body, &worker).await {
        Ok(reply) => json_reply(AdminStatus::Ok, &reply),
        Err(rejection) => rejection.reply(&request),
    }
}

async fn try_end(
    request: &HttpRequest,
    body: Result<Bytes, Error>,
    worker: &Worker,
) -> Result<Value, DrainRejection> {
    let named_parameters = parameters(request, body, &OF_END)?;
    let named = target(&named_parameters, worker)?;
    let _order = order_lock(worker).await?;
    let ended = named.bucket.pool.end_drain(named.target.clone()).await;
    let was_draining = ended.map_err(DrainRejection::Unavailable)?;
    info!(worker.process.log, "drain ended by an operator"; "bucket" => &named.bucket.name, "endpoint" => named.endpoint(),
        "by" => orderer(request), "was_draining" => was_draining);
    Ok(json!({ "bucket": named.bucket.name, "endpoint": named.endpoint(), "was_draining": was_draining }))
}

/// Waits while an upgrade hands over, and makes one wait: the state may have crossed already. The drains of a predecessor are the
/// successor's.
async fn order_lock(worker: &Worker) -> Result<MutexGuard<'_, ()>, DrainRejection> {
    let order = worker.process.hand_over_lock.lock().await;
    if worker.process.has_handed_over() { Err(DrainRejection::HandedOver) } else { Ok(order) }
}

/// `GET /drains`.
async fn list(request: HttpRequest, CurrentWorker(worker): CurrentWorker) -> HttpResponse {
    if let Some(refused) = unexpected_query(&request) {
        return refused;
    }
    let at = Moment { now: clock::now(), wall: clock::wall() };
    let mut drains = Vec::new();
    for bucket in worker.shared.router.buckets() {
        let BucketDrains { bucket: whole, endpoints } = BucketDrains::of(&worker.shared, bucket, at.now);
        drains.extend(whole.map(|progress| entry(bucket, None, &progress, at)));
        let draining =
            endpoints.iter().enumerate().filter_map(|(at, progress)| Some((at, progress.as_ref()?)));
        drains
            .extend(draining.map(|(number, progress)| {
                entry(bucket, authority(bucket, EndpointId(number)), progress, at)
            }));
    }
    json_reply(AdminStatus::Ok, &json!({ "drains": drains }))
}

/// A drain in a reply.
fn entry(bucket: &Bucket, endpoint: Option<&str>, progress: &ActiveDrain, at: Moment) -> Value {
    let mut entry = progress.to_json(at);
    entry["bucket"] = bucket.name.as_str().into();
    entry["endpoint"] = endpoint.into();
    entry
}

/// The parameters of the query, or of the form if the query has none.
fn parameters(
    request: &HttpRequest,
    body: Result<Bytes, Error>,
    known: &[&'static str],
) -> Result<Parameters, DrainRejection> {
    let body = body.map_err(|_| DrainRejection::BodyTooLarge)?;
    if body.len() > BODY_BYTES_MAX {
        return Err(DrainRejection::BodyTooLarge);
    }
    let form = std::str::from_utf8(&body).map_err(|_| DrainRejection::BodyTooLarge)?;
    let query = request.query_string();
    // A form has `+` for a space. A parameter that is in both is a repeated one.
    let form = form.replace('+', "%20");
    let both = match (query.is_empty(), form.is_empty()) {
        (_, true) => query.to_owned(),
        (true, false) => form,
        (false, false) => format!("{query}&{form}"),
    };
    Ok(Parameters::parse(&both, known)?)
}

/// The bucket, and the endpoints that the URL or the authority names.
fn target<'w>(parameters: &Parameters, worker: &'w Worker) -> Result<NamedTarget<'w>, DrainRejection> {
    let buckets = worker.shared.router.buckets();
    let name = parameters.text("bucket").ok_or(InvalidParameter::Missing("bucket"))?;
    let Some(bucket) = buckets.iter().find(|bucket| bucket.name == name) else {
        let known = buckets.iter().map(|bucket| bucket.name.clone()).collect();
        return Err(DrainRejection::UnknownBucket(name.to_owned(), known));
    };
    let Some(given) = parameters.text("endpoint") else {
        return Ok(NamedTarget { bucket, target: DrainTarget::Bucket });
    };
    let endpoints = &bucket.config.upstream.endpoints;
    let named: Vec<EndpointId> =
        (0..endpoints.len()).filter(|at| is_named(&endpoints[*at], given)).map(EndpointId).collect();
    if named.is_empty() {
        let known = endpoints.iter().map(url).collect();
        return Err(DrainRejection::UnknownEndpoint(given.to_owned(), known));
    }
    Ok(NamedTarget { bucket, target: DrainTarget::Endpoints(named) })
}

fn url(endpoint: &Endpoint) -> String {
    let scheme = if endpoint.is_tls() { "https" } else { "http" };
    format!("{scheme}://{}{}", endpoint.authority, endpoint.path_prefix)
}

/// Whether an operator's text names an endpoint: by its authority, or by its URL with or without the path.
fn is_named(endpoint: &Endpoint, given: &str) -> bool {
    let is_same = |other: &Endpoint| {
        (other.scheme, &other.host, other.port) == (endpoint.scheme, &endpoint.host, endpoint.port)
            && (other.path_prefix.is_empty() || other.path_prefix == endpoint.path_prefix)
    };
    given == endpoint.authority || Endpoint::parse(given).is_ok_and(|other| is_same(&other))
}

fn parse_expires(text: &str) -> Result<Duration, InvalidParameter> {
    match text.parse::<u64>() {
        Ok(seconds) if (1..=EXPIRES_MAX).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err(invalid("expires", format!("not a whole number of seconds from 1 to {EXPIRES_MAX}"))),
    }
}

/// Who sends an order: the proof of the client and its address.
fn orderer(request: &HttpRequest) -> String {
    let extensions = request.extensions();
    let connection = extensions.get::<AdminConnection>().copied().unwrap_or_default();
    let proof = if extensions.get::<StreamSession>().is_some() {
        "an operator's session"
    } else if request.headers().contains_key(actix_web::http::header::AUTHORIZATION) {
        "an operator's token"
    } else if connection.has_certificate {
        "a client certificate"
    } else {
        "a client"
    };
    match request.peer_addr().map(|peer| peer.ip().to_canonical()) {
        Some(address @ (IpAddr::V4(_) | IpAddr::V6(_))) => format!("{proof} from {address}"),
        None => proof.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// O6: an endpoint is named by its authority or by its URL
    #[test]
    fn an_endpoint_has_several_names() {
        let endpoint = Endpoint::parse("http://store:9000/base").unwrap();
        for name in ["store:9000", "http://store:9000", "http://store:9000/", "http://store:9000/base"] {
            assert!(is_named(&endpoint, name), "{name}");
        }
        for name in ["store", "https://store:9000", "http://store:9001", "http://store:9000/other", ""] {
            assert!(!is_named(&endpoint, name), "{name}");
        }
        assert!(is_named(&Endpoint::parse("http://store").unwrap(), "http://store:80"));
        assert_eq!(url(&endpoint), "http://store:9000/base");
    }

    /// O6: the time of a drain is bounded
    #[test]
    fn the_time_is_bounded() {
        assert_eq!(parse_expires("90"), Ok(Duration::from_secs(90)));
        for text in ["0", "-1", "1.5", "2592001", "1h", "18446744073709551616"] {
            assert!(parse_expires(text).is_err(), "{text}");
        }
    }
}
