//! Names of headers: those that the gateway sets, and those that it removes from requests. In lower case, with `-`.

use actix_web::http::header::HeaderName;

/// The header with the request's ID.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The header with the region of a bucket.
pub(crate) const BUCKET_REGION: HeaderName = HeaderName::from_static("x-amz-bucket-region");

/// Hop-by-hop headers (RFC 9110, 7.6.1; `keep-alive` and `proxy-connection` by custom).
pub(crate) const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers that the gateway writes itself, or answers itself (`expect`).
pub(crate) const WRITTEN_BY_GATEWAY: [&str; 4] = ["host", "content-length", "expect", "x-request-id"];

/// Prefix of the headers between a client and the gateway.
pub(crate) const GATEWAY_PREFIX: &str = "x-tidegate-";

/// Headers that authenticate a client in an `s3` bucket (A2).
pub(crate) const SIGNATURE: [&str; 4] =
    ["authorization", "x-amz-security-token", "x-amz-s3session-token", "x-amz-date"];

/// Prefix of the common forwarding headers: `-for`, `-proto`, `-host`, `-port`, `-prefix`, `-client-cert`, ….
pub(crate) const FORWARDED_PREFIX: &str = "x-forwarded-";

/// Headers in which proxies, load balancers, CDNs and frameworks send the client's address, protocol or host.
pub(crate) const FORWARDING: [&str; 56] = [
    "ali-cdn-real-ip",
    "cdn-src-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-ipcountry",
    "cf-pseudo-ipv4",
    "cf-visitor",
    "client-ip",
    "cloudfront-forwarded-proto",
    "cloudfront-viewer-address",
    "fastly-client",
    "fastly-client-ip",
    "fastly-ssl",
    "fly-client-ip",
    "fly-forwarded-port",
    "fly-forwarded-proto",
    "forwarded",
    "forwarded-for",
    "forwarded-for-ip",
    "front-end-https",
    "http-client-ip",
    "http-forwarded",
    "http-x-forwarded-for",
    "incap-client-ip",
    "proxy-client-ip",
    "remote-addr",
    "true-client-ip",
    "via",
    "wl-proxy-client-ip",
    "x-appengine-remote-addr",
    "x-appengine-user-ip",
    "x-arr-ssl",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-client-ip",
    "x-client-real-ip",
    "x-cluster-client-ip",
    "x-custom-ip-authorization",
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-forward-for",
    "x-forwarded",
    "x-host",
    "x-nf-client-connection-ip",
    "x-original-forwarded-for",
    "x-original-host",
    "x-original-remote-addr",
    "x-originating-ip",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-scheme",
    "x-sucuri-clientip",
    "x-url-scheme",
    "x-vercel-forwarded-for",
];

/// Headers with which a framework replaces the method or the target that the policy was checked against.
pub(crate) const METHOD_OVERRIDES: [&str; 9] = [
    "x-http-method",
    "x-http-method-override",
    "x-http-path-override",
    "x-method-override",
    "x-original-uri",
    "x-original-url",
    "x-override-url",
    "x-rewrite-uri",
    "x-rewrite-url",
];

/// Checksum headers besides `x-amz-checksum-*`. They are removed if the store gets no checksums.
pub(crate) const CHECKSUMS: [&str; 2] = ["x-amz-sdk-checksum-algorithm", "x-amz-trailer"];

/// Headers of an `s3` request that the gateway rewrites when it signs or frames a body.
pub(crate) const REWRITTEN: [&str; 4] =
    ["x-amz-content-sha256", "x-amz-copy-source", "x-amz-decoded-content-length", "x-amz-trailer"];

/// Headers of a CORS preflight that are forwarded to the store. All others are removed.
pub(crate) const PREFLIGHT: [&str; 9] = [
    "accept",
    "accept-language",
    "access-control-request-headers",
    "access-control-request-method",
    "access-control-request-private-network",
    "origin",
    "traceparent",
    "tracestate",
    "user-agent",
];
