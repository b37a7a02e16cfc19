//! The data listener: where it listens, how long it waits, how much it takes.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;
use std::time::Duration;

use crate::form::{Address, Choice, Domain, Flag, bytes, list, nonzero_size, or_unlimited, seconds, whole};
use crate::network::{Cidr, Network};
use crate::section::section;
use crate::server_tls::ServerTlsConfig;
use crate::walk::{Section, key, nested, nested_checked, unset};

const MIB: u64 = 1 << 20;

/// The header in which trusted proxies name the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAddressHeader {
    /// a list of addresses, to which each proxy appends the one it was called from
    XForwardedFor,
    /// the same in the words of RFC 7239
    Forwarded,
    /// one address, set by Cloudflare
    CfConnectingIp,
}

const CLIENT_ADDRESS_HEADERS: Choice<ClientAddressHeader> = Choice(&[
    ("x-forwarded-for", ClientAddressHeader::XForwardedFor),
    ("forwarded", ClientAddressHeader::Forwarded),
    ("cf-connecting-ip", ClientAddressHeader::CfConnectingIp),
]);

section! {
    /// The data listener.
    pub struct ServerConfig {
        /// address the data listener binds
        ///
        /// Change it to `0.0.0.0` or `::` to serve other machines.
        pub address: IpAddr = key("address", Address, IpAddr::V4(Ipv4Addr::LOCALHOST));
        /// port of the data listener; 0 takes any free one, which the start-up line names
        pub port: u16 = key("port", whole(0..=65_535), 8080);
        /// names under which clients put the bucket into the Host, as in `photos.s3.example.com`
        ///
        /// A Host right below one of them names a bucket, and the path is the key alone. Any other Host changes nothing: the
        /// path's first segment is the bucket.
        pub base_domains: Vec<String> = key("base_domains", list(Domain), Vec::new());
        /// worker threads; 0 starts one per core
        ///
        /// Lower it where the gateway shares its machine; more than the cores gains nothing.
        pub workers: usize = key("workers", whole(0..=1024), 0);
        /// total time from the request's head to the first byte of its answer, paused while body bytes flow
        ///
        /// Raise it for upstreams that think long; `errors_total` with reason `timeout` counts who met it.
        pub request_timeout: Duration =
            key("request_timeout", seconds(0.001..=86_400.0), Duration::from_secs(30))
                .yielding("30, and 60 for http buckets");
        /// how long the listeners still accept connections after the signal to stop, while `/readyz` answers 503
        ///
        /// Set it to the time in which your load balancer takes an address out: 5 s suits Kubernetes. `drain_timeout` begins after it.
        pub drain_delay: Duration = key("drain_delay", seconds(0.0..=3_600.0), Duration::ZERO);
        /// how long requests in flight may go on after the listeners have closed
        ///
        /// Keep `drain_delay` and it together below the time your supervisor waits before it kills.
        pub drain_timeout: Duration = key("drain_timeout", seconds(0.0..=3_600.0), Duration::from_secs(30));
        /// whether `/readyz` answers 200 while resources are exhausted and new requests are refused
        ///
        /// Turn it off only where other replicas can take the load: a load balancer that takes one replica out moves its load to the rest.
        pub ready_when_exhausted: bool = key("ready_when_exhausted", Flag, true);
        /// requests in flight in the whole process; one more is answered 503 at once
        ///
        /// A slot is held to the last body byte. Watch `concurrency_limit_rejections_total`.
        pub max_concurrent_requests: NonZeroUsize =
            key("max_concurrent_requests", whole(1..=1_000_000), nonzero_size(1000));
        /// how long an idle client connection is kept; 0 closes after each answer
        pub keep_alive: Duration = key("keep_alive", seconds(0.0..=86_400.0), Duration::from_secs(75));
        /// how long a client may take to send a request's head
        ///
        /// It ends clients that trickle headers; raise it only for very slow links.
        pub header_timeout: Duration =
            key("header_timeout", seconds(0.001..=3_600.0), Duration::from_secs(5));
        /// bytes per second that a client must send of a request's body, on average while it is waited for; slower, 408; 0 is off
        ///
        /// Time in which the upstream does not take what came is not the client's. Lower it for very slow links.
        pub min_body_rate: u64 = key("min_body_rate", bytes(0..=1 << 30), 240);
        /// how much longer than at `min_body_rate` a body may take in all
        pub min_body_rate_grace: Duration =
            key("min_body_rate_grace", seconds(0.001..=3_600.0), Duration::from_secs(5));
        /// how long a client may take no byte of an answer before its connection is closed
        pub write_stall_timeout: Duration =
            key("write_stall_timeout", seconds(0.001..=3_600.0), Duration::from_secs(60));
        /// bytes per second that a client must take of an answer, on average while bytes wait for it; slower, the transfer is broken
        /// (`slow_client_rate`); 0 is off
        ///
        /// A client has 5 s in advance. Bytes that it takes faster count for later, for at most 60 s or `write_stall_timeout`, whichever is
        /// longer. An event stream without an event to send is not timed.
        pub min_send_rate: u64 = key("min_send_rate", bytes(0..=1 << 30), 240);
        /// bytes of finished answers that may wait for clients in the whole process, without a place in any bucket
        ///
        /// Beyond it an answer keeps its place until its client takes the last byte.
        pub send_buffer: u64 = key("send_buffer", bytes(0..=1 << 40), 32 * MIB);
        /// the same, for one connection
        pub send_buffer_per_connection: u64 = key("send_buffer_per_connection", bytes(0..=1 << 40), MIB / 2);
        /// bytes of socket buffers that fast transfers may have beyond the small buffers that every transfer has
        ///
        /// A transfer starts with small buffers, about 80 KiB in all, and grows with its client's pace. Without budget it stays as it is.
        pub buffer_budget: Option<u64> = unset("buffer_budget", bytes(0..=1 << 40), "a quarter of the memory limit");
        /// proxies that are trusted to name the client; no other peer is
        ///
        /// List every proxy of yours between the clients and the gateway, and nothing that clients connect from.
        pub trusted_proxies: Vec<Network> = key("trusted_proxies", list(Cidr), Vec::new());
        /// header in which trusted proxies name the client, read from its end to the first address that is not theirs
        ///
        /// Set the one that your proxies write; the others then say nothing.
        pub client_address_header: ClientAddressHeader =
            key("client_address_header", CLIENT_ADDRESS_HEADERS, ClientAddressHeader::XForwardedFor);
        /// whether connections of trusted proxies begin with a PROXY header (version 1 or 2); those without are closed
        ///
        /// Connections of everybody else begin with HTTP, as without it.
        pub proxy_protocol: bool = key("proxy_protocol", Flag, false);
        /// TLS towards clients; off without a certificate
        pub tls: ServerTlsConfig = nested_checked("tls", ServerTlsConfig::checked);
        /// what a request may be made of; anything larger is refused before it costs anything
        pub limits: LimitsConfig = nested("limits");
    }
}

section! {
    /// What a request may be made of.
    pub struct LimitsConfig {
        /// largest body of a request, counted as it streams; beyond it 413 (a multipart part is a request of its own)
        ///
        /// A value that is set here applies to buckets of both kinds; `buckets.NAME.max_request_size` takes precedence. Bodies are
        /// streamed, so memory does not grow with this limit.
        pub max_request_size: Option<Option<u64>> =
            unset("max_request_size", or_unlimited(0..=1 << 50), "5GiB, and 100MiB for http buckets");
        /// bytes of all request headers together; beyond it 431
        pub max_header_size: u64 = key("max_header_size", bytes(256..=MIB), 8192);
        /// number of request headers; beyond it 431 (the HTTP parser itself ends at 96)
        pub max_headers: usize = key("max_headers", whole(1..=90), 90);
        /// bytes of the request target; beyond it 414
        ///
        /// Unset, s3 buckets take 8192 because encoded keys and presigned URLs are long.
        pub max_uri_length: Option<u64> =
            unset("max_uri_length", bytes(64..=65_536), "2048, and 8192 for s3 buckets");
    }
}

impl ServerConfig {
    /// A PROXY header that nobody may send is a mistake.
    pub(crate) fn checked(self, section: &mut Section<'_>) -> Self {
        if self.proxy_protocol && self.trusted_proxies.is_empty() && !section.is_refused("trusted_proxies") {
            let hint = format!("name the proxies in {}", section.spell("trusted_proxies"));
            section.refuse("proxy_protocol", "is on, but no proxy is trusted", Some(hint));
        }
        self
    }
}
