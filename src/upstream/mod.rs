//! The upstream call: attempts, timeouts, classification of responses, and the forwarding of the response body.
//!
//! `attempt/call.rs` implements the policy: breaker ticket, attempt, classification, and possibly a retry. `Drop`
//! releases permits and tickets on every path. Actors, authentication and local responses are not part of this module.
//! Its folders are layers; their order is in `ARCHITECTURE.md`.
//!
//! Design: `docs/design/retries-and-hedging.md`, `uploads.md`, `connections.md` and `failure-attribution.md`.

pub(crate) mod attempt;
pub(crate) mod body;
pub(crate) mod bucket;
pub(crate) mod connect;
pub(crate) mod credentials;
pub(crate) mod exchange;
pub(crate) mod headers;
pub(crate) mod health;
pub(crate) mod record;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod rules;

pub(crate) use attempt::call::{UpstreamGrant, call};
pub(crate) use attempt::circuit_wait::{is_replayable, may_wait_for_circuit, would_wait_for_circuit};
pub(crate) use bucket::call_resources::CallResources;
pub(crate) use bucket::region::RegionHeader;
pub(crate) use headers::filter::interim_headers;
pub(crate) use headers::forwarded::client_scheme;
pub(crate) use record::request_host::RequestHost;
pub(crate) use request::body_plan::{BodyPlan, declared_body};
pub(crate) use request::proxied_request::{BucketListPage, FormUpload, PresignedQuery, ProxiedRequest};
pub(crate) use request::{UpstreamRequest, prepare, prepare_bucket_list};
pub(crate) use response::appended_errors::DeniedErrors;
pub(crate) use response::body::{ResponseForward, forward_response};
pub(crate) use response::collect::{CollectError, CollectLimits, collect};
pub(crate) use response::discard_body::discard_body;
pub(crate) use response::error_document::error_code;
pub(crate) use response::proxy_body::ProxyBody;
pub(crate) use response::rename_plan::rename_plan;
pub(crate) use rules::rejection::{ExpiredTimeout, TimeoutKind, UpstreamRejection};
