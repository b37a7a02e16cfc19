//! What would happen to a made-up request now (O6), step by step, without a token, a permit, a slot or a message that changes anything.
//!
//! The steps are those of `http/proxy.rs`, in the same order and by the same functions where these only read. Limiter and pool answer peek
//! messages, with the decision of their own state and without its application. Secrets are not verified: the explanation assumes that
//! a signature or an API key that names a known key is valid. Not predicted: the bytes of the body, the client's requests in flight,
//! the fields of a form, and the share of preflights in the gate.

mod shedding;
mod step;

use std::net::IpAddr;
use std::rc::Rc;

use actix_web::http::header::{HeaderMap, HeaderValue};
use actix_web::http::{Method, Uri, Version};
use tidegate_actors::{
    BucketId, CircuitCheck, ClientId, EndpointState, EndpointView, IpKey, LimiterRejection, OperationClass,
    PeekedLimit, PeekedPermit, clock,
};
use tidegate_config::{Priority, key_name};

use crate::auth::{Caller, PresentedCaller, presented_caller};
use crate::client_address::{AddressSource, ClientAddress};
use crate::http::authorization::authorize;
use crate::http::error::GatewayError;
use crate::http::route::{self, BucketRequest, RequestKind, Route};
use crate::http::{cors_preflight, injection, priority, probes, request_validation};
use crate::request_head::Head;
use crate::upstream::bucket::Bucket;
use crate::upstream::record::{Record, RequestInfo};
use crate::upstream::rules::deadline::Deadline;
use crate::upstream::{declared_body, is_replayable, would_wait_for_circuit};
use crate::worker::Worker;

pub(crate) use step::{Explanation, ExplanationStep, Refusal};

/// A made-up request.
pub(crate) struct MadeUpRequest {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    /// The client's address; without one the limits of addresses do not apply.
    pub(crate) client: Option<IpAddr>,
}

/// The end of an explanation before its last step.
struct Stopped;

/// Explains what would happen now.
pub(crate) async fn explain(worker: &Rc<Worker>, request: &MadeUpRequest) -> Explanation {
    let MadeUpRequest { method, uri, headers, client } = request;
    let client = client.map(|address| ClientAddress { address, source: AddressSource::Peer });
    let info = RequestInfo { method: method.clone(), uri: uri.clone(), peer: client, client };
    let id = HeaderValue::from_static("explain");
    let mut record = Record::unwritten(Rc::<Worker>::clone(worker), id, info);
    let head = Head::new(method, uri, Version::HTTP_11, headers);
    let mut explanation = Explanation::default();
    // The result is in the steps.
    let _stopped = steps(worker, head, &mut record, &mut explanation).await;
    explanation
}

async fn steps(
    worker: &Rc<Worker>,
    head: Head<'_>,
    record: &mut Record,
    explanation: &mut Explanation,
) -> Result<(), Stopped> {
    if probes::is_probe(worker, head) {
        return explanation
            .answer("probe", "the request is a probe, which the gateway answers without limits".to_owned());
    }
    let route = route::route(worker, head, record);
    let class = route.class(head.method);
    explanation.set_bucket(worker, route.bucket());
    match &route {
        Route::Bucket(request) => explanation.pass(
            "route",
            format!(
                "the request is valid and names section `{}`; its operation class is {}",
                request.bucket.name,
                class.as_str()
            ),
        ),
        Route::BucketList => explanation.pass("route", "the request asks for the list of buckets".to_owned()),
        Route::Refused(_) => {
            explanation.pass("route", "the request will be refused after the limits".to_owned())
        }
    }
    shedding::of_process(worker, &route, (head, class), record, explanation)?;
    match worker.shared.actors.monitor.peek_slot() {
        Ok((in_flight, limit)) => explanation.pass(
            "level",
            format!(
                "the level is {}, and {in_flight} of {limit} requests are in flight",
                worker.shared.actors.monitor.level().as_str()
            ),
        ),
        Err(rejection) => return explanation.refuse(worker, "level", &rejection.into()),
    }
    let client = record.request.client.map(|client| IpKey::from(client.address));
    let limits = worker.shared.actors.limiter.peek(route.bucket(), class, client, None).await;
    explain_limits(worker, "limits", limits, explanation)?;
    let request = match route {
        Route::Bucket(request) => request,
        Route::BucketList => {
            explanation.unknown(
                "authentication",
                "the list depends on the client, whom this does not authenticate".to_owned(),
            );
            return Ok(());
        }
        Route::Refused(error) => return explanation.refuse(worker, "route", &error),
    };
    if let Err(rejection) = request.bucket.pool.check_drain() {
        return explanation.refuse(worker, "drain", &rejection.into());
    }
    let deadline = explain_validation(worker, &request, record, explanation)?;
    let caller = explain_client(worker, &request, class, client, explanation).await?;
    explain_shedding(worker, &request, (class, caller), explanation)?;
    explain_body(worker, &request, caller, explanation)?;
    explain_upstream(worker, &request, (class, caller), (deadline, record), explanation).await
}

/// The tokens of each limit. A refusal is that of the limit with the longest wait, as in the limiter.
fn explain_limits(
    worker: &Worker,
    step: &'static str,
    limits: Result<Vec<PeekedLimit>, LimiterRejection>,
    explanation: &mut Explanation,
) -> Result<(), Stopped> {
    let limits = match limits {
        Ok(limits) => limits,
        Err(rejection) => return explanation.refuse(worker, step, &rejection.into()),
    };
    if limits.is_empty() {
        explanation.pass(step, "no limit applies".to_owned());
    }
    let refusing = limits.iter().filter(|limit| !limit.fits && !limit.is_shadow);
    let refusing = refusing.max_by_key(|limit| limit.status.retry_after);
    for limit in limits.iter().filter(|limit| refusing.is_none_or(|refusing| !std::ptr::eq(*limit, refusing)))
    {
        let PeekedLimit { status, cost, fits, is_shadow } = limit;
        let shadow = if *is_shadow { ", which only counts," } else { "" };
        let end = if *fits { "the request fits" } else { "the request does not fit" };
        explanation.limit(
            step,
            limit,
            format!(
                "the {} limit{shadow} has {} of {} tokens left, the request costs {cost}: {end}",
                status.scope.as_str(),
                status.remaining,
                status.burst
            ),
        );
    }
    match refusing {
        Some(limit) => {
            let refused = explanation.refuse(worker, step, &LimiterRejection::Limited(limit.status).into());
            explanation.attach_limit(limit);
            refused
        }
        None => Ok(()),
    }
}

/// The bucket's validation, and the deadline.
fn explain_validation(
    worker: &Worker,
    request: &BucketRequest<'_>,
    record: &Record,
    explanation: &mut Explanation,
) -> Result<Deadline, Stopped> {
    let (head, bucket) = (request.head, request.bucket);
    let valid = request_validation::validate_for_bucket(head, request.bytes, &bucket.config)
        .and_then(|()| injection::check_bucket(head.uri, bucket.config.injection_patterns))
        .and_then(|_| request_validation::request_deadline(head, bucket, record.started));
    match valid {
        Ok(deadline) => {
            explanation.pass("validation", "size and target are within the limits of the bucket".to_owned());
            Ok(deadline)
        }
        Err(rejection) => {
            explanation.refuse(worker, "validation", &rejection.into())?;
            Err(Stopped)
        }
    }
}

/// The method of authentication, the limits of the key, and the policy.
async fn explain_client(
    worker: &Rc<Worker>,
    request: &BucketRequest<'_>,
    class: OperationClass,
    client: Option<IpKey>,
    explanation: &mut Explanation,
) -> Result<PresentedCaller, Stopped> {
    let (bucket, limiter) = (request.bucket, &worker.shared.actors.limiter);
    match request.kind {
        RequestKind::Ordinary => {}
        RequestKind::Form => {
            explanation
                .unknown("authentication", "the fields of the form decide, which are in its body".to_owned());
            return Err(Stopped);
        }
        RequestKind::Options => {
            explain_preflight(worker, request, explanation)?;
            return Ok(PresentedCaller::Anonymous);
        }
    }
    if bucket.accepted_auth.has_presented_auth(request.head)
        && let Some(status) = client.and_then(|client| limiter.peek_auth_lockout(client, clock::now()))
    {
        let error = GatewayError::from(LimiterRejection::Limited(status));
        explanation.refuse(worker, "lockout", &error)?;
    }
    let presented = match presented_caller(request.head, bucket.auth(), &worker.shared.keyring) {
        Ok(presented) => presented,
        Err(rejection) => {
            explanation.refuse(worker, "authentication", &rejection.into())?;
            return Err(Stopped);
        }
    };
    let name = presented.key().map_or("", |key| worker.shared.keyring.name(key));
    explanation.set_key(presented.key());
    explanation.pass(
        "authentication",
        match presented {
            PresentedCaller::Anonymous => "the bucket accepts the request as anonymous".to_owned(),
            PresentedCaller::SigV4(_) => {
                format!("the request has a signature (SigV4) of key `{name}`, assumed to be valid")
            }
            PresentedCaller::SigV2(_) => {
                format!("the request has a signature (SigV2) of key `{name}`, assumed to be valid")
            }
            PresentedCaller::ApiKey(_) => format!("the request has the API key `{name}`"),
            PresentedCaller::Token => "the request has a token, which is not verified here".to_owned(),
        },
    );
    if presented.key().is_some() {
        let limits = limiter.peek(Some(bucket.id), class, None, presented.key()).await;
        explain_limits(worker, "key_limits", limits, explanation)?;
    }
    match presented.caller().map(|caller| authorize(worker, request, &caller)) {
        None => explanation.unknown("policy", "the policy is in the token".to_owned()),
        Some(Ok(_)) => explanation.pass("policy", "the client may do this".to_owned()),
        Some(Err(rejection)) => {
            explanation.refuse(worker, "policy", &rejection.into())?;
        }
    }
    Ok(presented)
}

/// The checks of a preflight, and the gateway's reply if the bucket has rules.
fn explain_preflight(
    worker: &Worker,
    request: &BucketRequest<'_>,
    explanation: &mut Explanation,
) -> Result<(), Stopped> {
    match cors_preflight::check(request) {
        Ok(None) => {
            let sentence = "a preflight has no authentication, and the store answers it by its own rules";
            explanation.pass("preflight", sentence.to_owned());
            Ok(())
        }
        Ok(Some(_)) => {
            let section = key_name(&["buckets", &request.bucket.name]);
            explanation.answer("preflight", format!("the gateway answers by `{section}.cors`"))
        }
        Err(error) => explanation.refuse(worker, "preflight", &error),
    }
}

/// Whether the level sheds uploads of this priority; no step if it sheds none.
fn explain_shedding(
    worker: &Worker,
    request: &BucketRequest<'_>,
    (class, presented): (OperationClass, PresentedCaller),
    explanation: &mut Explanation,
) -> Result<(), Stopped> {
    let caller = presented.caller().map(|caller| caller.identity);
    let priority = priority::of(caller.as_ref(), class, request.bucket, &worker.shared.keyring);
    let is_shed = class == OperationClass::Write && priority == Priority::Low;
    match worker.shared.actors.monitor.peek_upload().filter(|_| is_shed) {
        Some(refusal) => explanation.refuse(worker, "level", &refusal.into()),
        None => Ok(()),
    }
}

/// What the head declares about the body; no step if it declares nothing. Only a signature covers a payload hash, which the
/// authentication has checked; the same hash is in the head.
fn explain_body(
    worker: &Worker,
    request: &BucketRequest<'_>,
    presented: PresentedCaller,
    explanation: &mut Explanation,
) -> Result<(), Stopped> {
    let caller = presented.caller().unwrap_or(Caller::ANONYMOUS);
    match declared_body(request.head, request.length, request.bucket.config.kind, &caller) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => {
            explanation.pass("body", "the head declares a valid body, which is not verified here".to_owned());
            Ok(())
        }
        Err(rejection) => explanation.refuse(worker, "body", &rejection.into()),
    }
}

/// Circuit, gate and endpoint.
async fn explain_upstream(
    worker: &Rc<Worker>,
    request: &BucketRequest<'_>,
    (class, presented): (OperationClass, PresentedCaller),
    (deadline, record): (Deadline, &Record),
    explanation: &mut Explanation,
) -> Result<(), Stopped> {
    let (bucket, now) = (request.bucket, clock::now());
    explanation.deadline = deadline.source();
    let circuit = bucket.breaker.circuit(class);
    match bucket.breaker.check(circuit, now) {
        Ok(CircuitCheck::Closed { .. }) => explanation.pass("circuit", "the circuit is closed".to_owned()),
        Ok(CircuitCheck::Trial) => {
            explanation.unknown(
                "circuit",
                "the circuit admits a few trials; whether this is one is not known".to_owned(),
            );
        }
        Ok(CircuitCheck::Shadowed(_)) => {
            explanation.pass("circuit", "the circuit is open, and its mode only counts".to_owned());
        }
        Err(refusal)
            if is_replayable(request.head.method, request.length)
                && would_wait_for_circuit(worker.call_resources(), bucket, circuit, &refusal) =>
        {
            explanation
                .wait("circuit", "the circuit is open, and the request waits for it (hold_ms)".to_owned());
        }
        Err(refusal) => return explanation.refuse(worker, "circuit", &refusal.into()),
    }
    let caller = presented.caller().map(|caller| caller.identity);
    let priority = priority::of(caller.as_ref(), class, bucket, &worker.shared.keyring);
    let address = record.request.client.map(|client| ClientId::Address(IpKey::from(client.address)));
    let client = (presented.key().map(ClientId::Key).or(address), priority);
    shedding::of_bucket(worker, bucket, client, explanation)?;
    let permit = bucket.pool.peek(priority, deadline.total).await;
    let view = bucket.pool.view(now);
    let gate = format!(
        "{} of {} permits are in use, and {} of {} places in the queue",
        view.in_flight, view.concurrent_max, view.queued, view.queued_max
    );
    match permit {
        Ok(PeekedPermit::Granted) => explanation.pass("gate", format!("a permit is free: {gate}")),
        Ok(PeekedPermit::Queued) => {
            explanation.wait("gate", format!("the request waits for a permit: {gate}"))
        }
        Err(rejection) => return explanation.refuse(worker, "gate", &rejection.into()),
    }
    explanation.pass("endpoint", endpoints(bucket));
    Ok(())
}

/// The endpoints that the load balancer chooses from.
fn endpoints(bucket: &Bucket) -> String {
    let view = bucket.pool.view(clock::now());
    let configured = bucket.config.upstream.endpoints.iter().zip(&view.endpoints).enumerate();
    let is_in_rotation = |view: &EndpointView| view.state == EndpointState::InRotation && !view.is_draining;
    if view.serving.is_panicking || !view.endpoints.iter().any(is_in_rotation) {
        return "no endpoint is usable, so all that do not drain are called".to_owned();
    }
    let serving: Vec<&str> = configured
        .filter(|(at, (_, of_endpoint))| view.serving.endpoints.contains(at) && is_in_rotation(of_endpoint))
        .map(|(_, (endpoint, _))| endpoint.authority.as_str())
        .collect();
    let tier = if view.serving.failover.is_some() { ", because the standby endpoints serve" } else { "" };
    match serving.as_slice() {
        [one] => format!("the request goes to {one}{tier}"),
        several => format!("the request goes to the cheaper one of two of {}{tier}", several.join(", ")),
    }
}

impl Explanation {
    fn set_bucket(&mut self, worker: &Worker, bucket: Option<BucketId>) {
        self.bucket = bucket;
        self.bucket_name = bucket.map(|id| worker.shared.router.bucket(id).name.clone());
    }
}
