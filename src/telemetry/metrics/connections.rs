//! Connections of clients and to upstreams.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use tidegate_config::Config;

/// Protocol of a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HttpProtocol {
    Http1,
    Http2,
}

/// TLS of a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsVersion {
    None,
    Tls12,
    Tls13,
}

/// The data listener's connections.
pub(crate) struct ClientConnectionMetrics {
    /// By protocol and TLS version: HTTP/1 first, without TLS first. None for what the listener does not offer.
    accepted: [[Option<IntCounter>; 3]; 2],
    open: IntGauge,
    idle: IntGauge,
}

impl ClientConnectionMetrics {
    pub(super) fn register(registry: &Registry, config: &Config) -> Result<Self, prometheus::Error> {
        let opts = Opts::new(
            "client_connections_total",
            "connections of clients that began HTTP, by protocol and TLS version",
        );
        let family = IntCounterVec::new(opts, &["protocol", "tls"])?;
        let open = IntGauge::new("client_connections_open", "open connections of clients")?;
        let idle = IntGauge::new("client_connections_idle", "open connections of clients without a request")?;
        registry.register(Box::new(family.clone()))?;
        registry.register(Box::new(open.clone()))?;
        registry.register(Box::new(idle.clone()))?;
        let has_tls = config.server.tls.files().is_some();
        let counter = |protocol: &str, version: &str, is_offered: bool| {
            is_offered.then(|| family.with_label_values(&[protocol, version]))
        };
        let accepted = [("http1", true), ("http2", has_tls)].map(|(protocol, is_offered)| {
            [("none", !has_tls), ("1.2", has_tls), ("1.3", has_tls)]
                .map(|(version, is_used)| counter(protocol, version, is_offered && is_used))
        });
        Ok(Self { accepted, open, idle })
    }

    /// Counts a connection that begins HTTP.
    pub(crate) fn count(&self, protocol: HttpProtocol, tls: TlsVersion) {
        if let Some(counter) = &self.accepted[protocol as usize][tls as usize] {
            counter.inc();
        }
    }

    /// Sets the gauges. Called for each scrape.
    pub(crate) fn observe(&self, open: usize, idle: usize) {
        self.open.set(signed(open));
        self.idle.set(signed(idle));
    }
}

/// Upstream connections per bucket.
pub(super) struct UpstreamConnectionFamilies {
    pub(super) size: IntGaugeVec,
    pub(super) active: IntGaugeVec,
    pub(super) idle: IntGaugeVec,
    pub(super) reused_closed: IntCounterVec,
}

/// The upstream connections of one bucket.
pub(crate) struct UpstreamConnectionMetrics {
    size: IntGauge,
    active: IntGauge,
    idle: IntGauge,
    /// Reused connections that the upstream had closed when a request was sent.
    pub(crate) reused_closed: IntCounter,
}

impl UpstreamConnectionFamilies {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| -> Result<IntGaugeVec, prometheus::Error> {
            let family = IntGaugeVec::new(Opts::new(name, help), &["bucket"])?;
            registry.register(Box::new(family.clone()))?;
            Ok(family)
        };
        let reused_closed = IntCounterVec::new(
            Opts::new(
                "upstream_reused_connection_closed_total",
                "requests that were sent on a kept upstream connection which the upstream had closed",
            ),
            &["bucket"],
        )?;
        registry.register(Box::new(reused_closed.clone()))?;
        Ok(Self {
            reused_closed,
            size: gauge("connection_pool_size", "maximum of upstream connections, all workers together")?,
            active: gauge("connection_pool_active", "upstream connections in use")?,
            idle: gauge("connection_pool_idle", "upstream connections kept for reuse")?,
        })
    }

    pub(super) fn bucket(&self, name: &str) -> UpstreamConnectionMetrics {
        UpstreamConnectionMetrics {
            size: self.size.with_label_values(&[name]),
            active: self.active.with_label_values(&[name]),
            idle: self.idle.with_label_values(&[name]),
            reused_closed: self.reused_closed.with_label_values(&[name]),
        }
    }
}

impl UpstreamConnectionMetrics {
    /// Sets the gauges. Called for each scrape.
    pub(crate) fn observe(&self, size: usize, open: usize, idle: usize) {
        let idle = idle.min(open);
        self.size.set(signed(size));
        self.active.set(signed(open - idle));
        self.idle.set(signed(idle));
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
