//! Error replies to requests that fail authentication or authorization. Each cause has S3's own code, so SDKs react as they do to S3.
//!
//! S3 uses one code for several causes; the reason distinguishes them. The reply to a signature that does not match shows the texts
//! that the gateway computed, as S3 does (`s3/src/sigv4/mismatch.rs`).

use tidegate_config::{Access, Kind};
use tidegate_s3::delete_list::BYTES_MAX;
use tidegate_s3::error_document::shortened;
use tidegate_s3::sigv2::{SigV2Location, SigV2Rejection};
use tidegate_s3::sigv4::{SKEW_MAX, SignatureLocation, SignatureRejection, Validity};

use crate::auth::jwt::JwtRejection;
use crate::auth::{AuthRejection, ConfigureCause, DeleteListRejection};
use crate::http::error::{bad_request, forbidden, not_implemented, not_ready, unauthorized};
use crate::http::error_reply::ErrorReply;

/// The reply to a rejected request.
pub(super) fn error_reply(rejection: &AuthRejection) -> ErrorReply {
    let denied = |reason, message: String| forbidden("AccessDenied", reason, message);
    match rejection {
        AuthRejection::BucketClosed => {
            denied("bucket_closed", "this bucket has no `auth` entry and is closed".to_owned())
        }
        AuthRejection::MalformedSession => unauthorized(
            "InvalidToken",
            "session_malformed",
            "a session ID has 1 to 128 letters, digits and hyphens",
        ),
        AuthRejection::Unsigned => {
            denied(
                "not_signed",
                "this bucket accepts signed requests only, and the request has no signature".to_owned(),
            )
        }
        AuthRejection::MissingAuth(Kind::S3) => denied("unproven", MISSING_AUTH.to_owned()),
        AuthRejection::MissingAuth(Kind::Http) => {
            unauthorized("AccessDenied", "unproven", MISSING_AUTH).with_challenge("Bearer")
        }
        AuthRejection::UnknownApiKey => {
            let message = "the API key is unknown, or the request has more than one";
            unauthorized("InvalidToken", "api_key_unknown", message).with_challenge(INVALID_TOKEN)
        }
        AuthRejection::Token(rejection) => token_reply(rejection),
        AuthRejection::Signature(rejection) => signature_reply(rejection),
        AuthRejection::SignatureMismatch(mismatch) => mismatch
            .elements()
            .into_iter()
            .fold(mismatch_reply(), |reply, (element, text)| reply.with_detail(element, text)),
        AuthRejection::AnonymousDenied(access) => denied(
            "anonymous_denied",
            format!("anonymous clients may not {} in this bucket", verb(*access)),
        ),
        AuthRejection::PolicyDenied(access) => denied(
            "policy_denied",
            format!("the client's policy does not allow it to {} this", verb(*access)),
        ),
        AuthRejection::CopySourceDenied => denied(
            "copy_source",
            "x-amz-copy-source must be a percent-encoded BUCKET/KEY that you may read, in the same section as the target"
                .to_owned(),
        ),
        AuthRejection::AnonymousOverride => bad_request(
            "InvalidRequest",
            "anonymous_override",
            "Request specific response headers cannot be used for anonymous GET requests.",
        ),
        AuthRejection::InvalidDeleteList(rejection) => delete_list(rejection),
        AuthRejection::DotSegment => bad_request(
            "InvalidURI",
            "dot_segment",
            "the client's policy has prefixes, and a store could resolve a `.` or `..` segment to a key outside them",
        ),
        AuthRejection::NeedsConfigure { is_anonymous, configure_cause } => {
            let reason = if *is_anonymous { "anonymous_denied" } else { "policy_denied" };
            denied(
                reason,
                format!(
                    "{}: the request needs `configure`, which is not allowed here",
                    configure_message(configure_cause)
                ),
            )
        }
        AuthRejection::ConflictingParameters(names) => bad_request(
            "InvalidArgument",
            "conflicting_parameters",
            format!("conflicting query string parameters: {}", names.join(", ")),
        ),
    }
}

fn delete_list(rejection: &DeleteListRejection) -> ErrorReply {
    let malformed = |why: &str| {
        bad_request("MalformedXML", "delete_list", format!("the list of keys to delete is rejected: {why}"))
    };
    match rejection {
        DeleteListRejection::Malformed(why) => malformed(why),
        DeleteListRejection::Length => malformed(&format!(
            "it must have a content-length of at most {BYTES_MAX} bytes to be checked against the policy"
        )),
        DeleteListRejection::Checksum => forbidden(
            "AccessDenied",
            "policy_denied",
            "the list of keys to delete cannot be reduced: its presigned query has a checksum, and the policy denies some of \
             its keys; send the checksum as a header",
        ),
    }
}

const MISSING_AUTH: &str = "this bucket requires authentication, and the request has none";
/// RFC 6750, 3. It has no description: a client that guesses tokens must not learn the fault.
const INVALID_TOKEN: &str = "Bearer error=\"invalid_token\"";

/// The reply to a rejected token. The message names the fault for the owner of the token.
fn token_reply(rejection: &JwtRejection) -> ErrorReply {
    let invalid =
        |reason, message: String| unauthorized("InvalidToken", reason, message).with_challenge(INVALID_TOKEN);
    match rejection {
        JwtRejection::Repeated => invalid("token_repeated", "there is more than one token".to_owned()),
        JwtRejection::Malformed(what) => {
            invalid("token_malformed", format!("the token is malformed: {what}"))
        }
        JwtRejection::Algorithm => {
            invalid("token_algorithm", "the token's algorithm is not accepted for its key".to_owned())
        }
        JwtRejection::UnknownKey => invalid("token_key", "the token's key is unknown".to_owned()),
        JwtRejection::Signature => invalid("token_signature", "the token's signature is wrong".to_owned()),
        JwtRejection::Claim(name) => {
            invalid("token_claim", format!("the token's claim `{name}` is missing or malformed"))
        }
        JwtRejection::Issuer => invalid("token_issuer", "the token is from another issuer".to_owned()),
        JwtRejection::Audience => invalid("token_audience", "the token is for another audience".to_owned()),
        JwtRejection::Expired => invalid("token_expired", "the token has expired".to_owned()),
        JwtRejection::NotYetValid => invalid("token_early", "the token is not valid yet".to_owned()),
        JwtRejection::PolicyClaim(name) => forbidden(
            "AccessDenied",
            "token_grants",
            format!("the token allows nothing: its claim `{name}` is missing or not a list of strings"),
        ),
        JwtRejection::NoKeys => {
            not_ready("token_keys", "the keys that verify tokens have not been loaded yet")
        }
    }
}

/// Why a request needs `configure`.
fn configure_message(cause: &ConfigureCause) -> String {
    match cause {
        ConfigureCause::Parameter { name, operation: Some(operation) } => {
            format!("{operation} has no parameter `{}`", shortened(name))
        }
        ConfigureCause::Parameter { name, operation: None } => {
            format!(
                "no operation of `read`, `write`, `delete` or `list` has the parameter `{}`",
                shortened(name)
            )
        }
        ConfigureCause::Header(name) => {
            format!("the header `{}` grants access or overrides a protection", shortened(name))
        }
        ConfigureCause::Method | ConfigureCause::ConflictingParameters(..) => {
            "the request matches no operation of the gateway's table".to_owned()
        }
    }
}

fn verb(access: Access) -> &'static str {
    match access {
        Access::Read => "read",
        Access::Write => "write",
        Access::Delete => "delete",
        Access::List => "list",
        Access::Configure => "configure",
    }
}

fn signature_reply(rejection: &SignatureRejection) -> ErrorReply {
    match rejection {
        SignatureRejection::Ambiguous => bad_request(
            "InvalidArgument",
            "signature_ambiguous",
            "only one auth mechanism allowed: the Authorization header, or the parameters of one signature version, once",
        ),
        SignatureRejection::UnsupportedScheme => bad_request(
            "InvalidArgument",
            "authorization_scheme",
            "the Authorization header is of no supported type; sign with AWS4-HMAC-SHA256",
        ),
        SignatureRejection::NotImplemented(what) => not_implemented(
            "signature_not_implemented",
            format!("{what} is not implemented; sign with AWS4-HMAC-SHA256"),
        ),
        SignatureRejection::SigV2(rejection) => sigv2_reply(rejection),
        SignatureRejection::Malformed(location, what) => malformed_signature_reply(*location, what),
        // S3's code with Ceph's status: the URL is well formed but can never be valid.
        SignatureRejection::InvalidLifetime(what) => {
            forbidden("AuthorizationQueryParametersError", "presigned_malformed", *what)
        }
        SignatureRejection::WrongRegion { location, given, expected } => {
            let message = format!("the region '{given}' is wrong; expecting '{expected}'");
            malformed_signature_reply(*location, &message).with_region()
        }
        SignatureRejection::MissingContentSha256 => bad_request(
            "InvalidRequest",
            "content_sha256_missing",
            "missing required header for this request: x-amz-content-sha256",
        ),
        SignatureRejection::MalformedContentSha256 => bad_request(
            "InvalidArgument",
            "content_sha256_malformed",
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, one of the STREAMING forms, or a valid sha256 value, once",
        ),
        SignatureRejection::InvalidSessionToken => bad_request(
            "InvalidToken",
            "security_token",
            "the provided token is malformed or otherwise invalid",
        ),
        SignatureRejection::KeyExpired => {
            bad_request("ExpiredToken", "key_expired", "the provided token has expired")
        }
        other => rejected_signature_reply(other),
    }
}

fn malformed_signature_reply(location: SignatureLocation, what: &str) -> ErrorReply {
    match location {
        SignatureLocation::Header => bad_request(
            "AuthorizationHeaderMalformed",
            "authorization_malformed",
            format!("the authorization header is malformed; {what}"),
        ),
        SignatureLocation::Query => bad_request(
            "AuthorizationQueryParametersError",
            "presigned_malformed",
            format!("error parsing the query's signature: {what}"),
        ),
        SignatureLocation::Form => bad_request(
            "InvalidArgument",
            "form_signature_malformed",
            format!("error parsing the form's signature: {what}"),
        ),
    }
}

/// The reply to a signature that is well formed and not accepted.
fn rejected_signature_reply(rejection: &SignatureRejection) -> ErrorReply {
    match rejection {
        SignatureRejection::UnknownKey => forbidden(
            "InvalidAccessKeyId",
            "unknown_key",
            "the access key ID you provided does not exist in our records",
        ),
        SignatureRejection::ClockSkewed { signed, now } => forbidden(
            "RequestTimeTooSkewed",
            "clock_skewed",
            "the difference between the request time and the current time is too large",
        )
        .with_detail("RequestTime", signed)
        .with_detail("ServerTime", now)
        .with_detail("MaxAllowedSkewMilliseconds", SKEW_MAX.as_millis().to_string()),
        SignatureRejection::Expired(validity) => {
            outside_validity("presigned_expired", "Request has expired", validity)
        }
        SignatureRejection::NotYetValid(validity) => {
            outside_validity("presigned_early", "Request is not yet valid", validity)
        }
        SignatureRejection::MissingDate => forbidden(
            "AccessDenied",
            "date_missing",
            "AWS authentication requires a valid Date or x-amz-date header, once",
        ),
        SignatureRejection::HeaderNotSigned(name) => forbidden(
            "AccessDenied",
            "header_not_signed",
            format!("there were headers present in the request which were not signed: {name}"),
        )
        .with_detail("HeadersNotSigned", name),
        _ => mismatch_reply(),
    }
}

/// S3 shows the lifetime, its end and the server's time, so the client can detect a wrong clock.
fn outside_validity(reason: &'static str, message: &'static str, validity: &Validity) -> ErrorReply {
    forbidden("AccessDenied", reason, message)
        .with_detail("X-Amz-Expires", validity.lifetime.as_secs().to_string())
        .with_detail("Expires", &validity.expires)
        .with_detail("ServerTime", &validity.now)
}

fn mismatch_reply() -> ErrorReply {
    forbidden(
        "SignatureDoesNotMatch",
        "signature_mismatch",
        "the request signature we calculated does not match the signature you provided; check your key and signing method",
    )
}

/// The reply to a rejected SigV2 signature.
fn sigv2_reply(rejection: &SigV2Rejection) -> ErrorReply {
    match rejection {
        SigV2Rejection::Disabled => not_implemented(
            "signature_not_implemented",
            "SigV2 (AWSAccessKeyId) is disabled for this bucket; sign with AWS4-HMAC-SHA256, or ask the operator to add sigv2 \
             to buckets.NAME.auth",
        ),
        SigV2Rejection::Malformed(SigV2Location::Header, what) => bad_request(
            "InvalidArgument",
            "sigv2_malformed",
            format!("AWS authorization header is invalid: {what}"),
        ),
        SigV2Rejection::Malformed(SigV2Location::Query, what) => forbidden(
            "AccessDenied",
            "sigv2_malformed",
            format!("error parsing the query's SigV2 signature: {what}"),
        ),
        SigV2Rejection::ChunkedBody => bad_request(
            "InvalidRequest",
            "sigv2_chunks",
            "a body in chunks (aws-chunked, STREAMING-…) needs SigV4; with SigV2 send the body without chunk framing",
        ),
        SigV2Rejection::Uncovered(name) => forbidden(
            "AccessDenied",
            "sigv2_uncovered",
            format!(
                "a SigV2 signature does not cover `{name}`, so it cannot authorize this request; sign with SigV4"
            ),
        ),
        SigV2Rejection::Expired { expires, now } => {
            forbidden("AccessDenied", "presigned_expired", "Request has expired")
                .with_detail("Expires", expires)
                .with_detail("ServerTime", now)
        }
        SigV2Rejection::TooFarAhead { max } => forbidden(
            "AccessDenied",
            "sigv2_lifetime",
            format!(
                "a SigV2 URL or form may be valid for at most {} seconds; use an earlier expiry, or ask the operator to raise \
                 buckets.NAME.sigv2_max_lifetime",
                max.as_secs()
            ),
        ),
    }
}
