//! The data listener: addresses, timeouts and limits.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;
use std::time::Duration;

use crate::network::{Cidr, Network};
use crate::schema::{Section, key, nested, nested_checked, unset};
use crate::section::section;
use crate::server_tls::ServerTlsConfig;
use crate::value_type::{
    Address, Choice, Domain, Flag, bytes, list, nonzero_size, or_unlimited, seconds, whole,
};

const MIB: u64 = 1 << 20;

/// The header with the client address that trusted proxies set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAddressHeader {
    /// a list of addresses: each proxy appends the address of its peer
    XForwardedFor,
    /// the same in the syntax of RFC 7239
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
        /// IP address on which the gateway listens for requests
        ///
        /// Set it to `0.0.0.0` or `::` to serve other machines.
        pub address: IpAddr = key("address", Address, IpAddr::V4(Ipv4Addr::LOCALHOST));
        /// port of the data listener; 0 uses any free port, which the log line at the start names
        pub port: u16 = key("port", whole(0..=65_535), 8080);
        /// domains for virtual-hosted requests: with `s3.example.com`, Host `photos.s3.example.com` names a bucket
        ///
        /// In such a request the path is the object key alone. With any other Host the first segment of the path is the bucket.
        pub base_domains: Vec<String> = key("base_domains", list(Domain), Vec::new());
        /// worker threads; 0 starts one per core
        ///
        /// Lower it if other programs need the cores. More threads than cores gain nothing.
        pub workers: usize = key("workers", whole(0..=1024), 0);
        /// total time from the request's head to the first byte of its response; it pauses while body bytes flow
        ///
        /// Includes all attempts and waits. Raise it for slow upstreams. Watch `tidegate_errors_total` with reason `timeout_total`.
        pub request_timeout: Duration =
            key("request_timeout", seconds(0.001..=86_400.0), Duration::from_secs(30))
                .default_text("30, and 60 for http buckets");
        /// how long the listeners accept connections after the stop signal, while `/readyz` answers 503
        ///
        /// Set it to the time that your load balancer needs to remove an address: 5 s is right for Kubernetes. `drain_timeout`
        /// begins after it.
        pub drain_delay: Duration = key("drain_delay", seconds(0.0..=3_600.0), Duration::ZERO);
        /// how long requests in flight may run after the listeners are closed
        ///
        /// `drain_delay` and `drain_timeout` together must be shorter than the time after which your service manager kills the
        /// process.
        pub drain_timeout: Duration = key("drain_timeout", seconds(0.0..=3_600.0), Duration::from_secs(30));
        /// how long an upgrade may take until the new process is ready; beyond it the new process is ended and the old one goes on
        ///
        /// Raise it if the start of the new process takes long, for example because of many certificates on a slow disk.
        pub upgrade_timeout: Duration =
            key("upgrade_timeout", seconds(0.001..=3_600.0), Duration::from_secs(60));
        /// how long streams of a key may go on after a reload has withdrawn the key; then they are cut
        ///
        /// A reload withdraws a key that the new configuration lacks, and one that has another access key ID, secret or session token
        /// there. Requests with a withdrawn key are refused from the reload on. Large bodies, bodies of unknown length and streamed
        /// uploads that run at that time end within this time; other requests end by themselves. 0 cuts at once.
        pub revoke_grace: Duration = key("revoke_grace", seconds(0.0..=3_600.0), Duration::from_secs(60));
        /// `/readyz` answers 200 even while resources are exhausted and new requests are refused
        ///
        /// Set it to false only if the other replicas can carry the load: a load balancer that removes one replica moves its load
        /// to the rest.
        pub ready_when_exhausted: bool = key("ready_when_exhausted", Flag, true);
        /// concurrent requests in the whole process; more get 503 at once
        ///
        /// A request holds its slot until the last byte of its response. Watch `tidegate_concurrency_limit_rejections_total`.
        pub max_concurrent_requests: NonZeroUsize =
            key("max_concurrent_requests", whole(1..=1_000_000), nonzero_size(1000));
        /// close a client connection after this idle time; 0 closes it after each response
        pub keep_alive: Duration = key("keep_alive", seconds(0.0..=86_400.0), Duration::from_secs(75));
        /// timeout for a client to send the head of a request
        ///
        /// It stops clients that send headers byte by byte. Raise it only for very slow links.
        pub header_timeout: Duration =
            key("header_timeout", seconds(0.001..=3_600.0), Duration::from_secs(5));
        /// minimum average rate, per second, at which a client must send a request body; below it 408; 0 is off
        ///
        /// Only time in which the gateway waits for the client counts, not time in which the upstream accepts no bytes. Lower it for
        /// very slow links.
        pub min_body_rate: u64 = key("min_body_rate", bytes(0..=1 << 30), 240);
        /// extra time that a body may need in total, beyond the time that `min_body_rate` allows
        pub min_body_rate_grace: Duration =
            key("min_body_rate_grace", seconds(0.001..=3_600.0), Duration::from_secs(5));
        /// close a connection if its client reads no byte of a response for this time
        pub write_stall_timeout: Duration =
            key("write_stall_timeout", seconds(0.001..=3_600.0), Duration::from_secs(60));
        /// minimum average rate, per second, at which a client must read a response; below it the transfer ends; 0 is off
        ///
        /// The reason is `slow_client_rate`. Only time in which bytes wait for the client counts. A client has an allowance of 5 s.
        /// Bytes read faster than the rate add to the allowance, up to 60 s or `write_stall_timeout`, whichever is longer. An event
        /// stream without an event to send is not timed.
        pub min_send_rate: u64 = key("min_send_rate", bytes(0..=1 << 30), 240);
        /// buffer, in the whole process, for complete upstream responses that slow clients still read
        ///
        /// A response in this buffer has released its slot of the bucket. If the buffer is full, a response keeps its slot until its
        /// client has read the last byte.
        pub send_buffer: u64 = key("send_buffer", bytes(0..=1 << 40), 32 * MIB);
        /// share of `send_buffer` that one connection may use
        pub send_buffer_per_connection: u64 = key("send_buffer_per_connection", bytes(0..=1 << 40), MIB / 2);
        /// socket buffers that fast transfers may use in total, beyond the small buffers of every transfer
        ///
        /// A transfer starts with buffers of about 80 KiB in total. They grow with the speed of the client while there is budget.
        /// 0 turns the growth off.
        pub buffer_budget: Option<u64> = unset("buffer_budget", bytes(0..=1 << 40), "a quarter of the memory limit");
        /// networks of the proxies that may set the client address; headers of all other peers are ignored
        ///
        /// List all of your proxies between the clients and the gateway. Do not list networks from which clients connect.
        pub trusted_proxies: Vec<Network> = key("trusted_proxies", list(Cidr), Vec::new());
        /// header in which trusted proxies put the client address
        ///
        /// The client is the last address in it that is not a trusted proxy. Set it to the header that your proxies write. The other
        /// headers are ignored.
        pub client_address_header: ClientAddressHeader =
            key("client_address_header", CLIENT_ADDRESS_HEADERS, ClientAddressHeader::XForwardedFor);
        /// requires a PROXY protocol header (version 1 or 2) on connections of trusted proxies
        ///
        /// A connection of a trusted proxy without the header is closed. Connections of all other peers start with HTTP.
        pub proxy_protocol: bool = key("proxy_protocol", Flag, false);
        /// refusals have the header `Proxy-Status` (RFC 9209) beside `x-tidegate-reason`
        ///
        /// Set it to false if clients must not see why the gateway refused a request.
        pub proxy_status: bool = key("proxy_status", Flag, true);
        /// TLS towards clients; without a certificate it is off
        pub tls: ServerTlsConfig = nested_checked("tls", ServerTlsConfig::checked);
        /// size limits of requests
        pub limits: LimitsConfig = nested("limits");
    }
}

section! {
    /// Size limits of requests.
    pub struct LimitsConfig {
        /// maximum size of a request body; beyond it 413
        ///
        /// Each part of a multipart upload is one request. A value set here applies to buckets of both kinds;
        /// `buckets.NAME.max_request_size` has precedence. Bodies are streamed and counted as they pass, so memory does not grow with
        /// this limit.
        pub max_request_size: Option<Option<u64>> =
            unset("max_request_size", or_unlimited(0..=1 << 50), "5GiB, and 100MiB for http buckets");
        /// maximum size of all request headers together; beyond it 431
        pub max_header_size: u64 = key("max_header_size", bytes(256..=MIB), 8192);
        /// maximum number of request headers; beyond it 431; the HTTP parser itself stops at 96
        pub max_headers: usize = key("max_headers", whole(1..=90), 90);
        /// maximum length of the request target; beyond it 414
        ///
        /// The default of s3 buckets is higher because encoded keys and presigned URLs are long.
        pub max_uri_length: Option<u64> =
            unset("max_uri_length", bytes(64..=65_536), "2048, and 8192 for s3 buckets");
    }
}

impl ServerConfig {
    /// Rejects the PROXY protocol without a trusted proxy: no peer could send the header.
    pub(crate) fn checked(self, section: &mut Section<'_>) -> Self {
        if self.proxy_protocol && self.trusted_proxies.is_empty() && !section.is_refused("trusted_proxies") {
            let proxies = section.full_key("trusted_proxies");
            let hint = format!("list the networks of the proxies in {proxies}");
            section.refuse("proxy_protocol", format!("has no effect: {proxies} is empty"), Some(hint));
        }
        self
    }
}
