//! Builds the state of the process at the start.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use prometheus::Registry;
use slog::Logger;
use tidegate_actors::{ConfigNumber, clock};
use tidegate_config::Config;
use tokio::sync::watch;

use super::StartError;
use crate::admin::status::possible::possible;
use crate::buffers::ReservedBytes;
use crate::buffers::{BufferBudget, BufferMetrics};
use crate::chaos::Chaos;
use crate::decisions::Decisions;
use crate::degradation::published::Degradation;
use crate::live_requests::LiveRequests;
use crate::process::drain_report::{DrainReports, DrainRequests};
use crate::process::last_reload::Reloads;
use crate::process::predecessors::Predecessors;
use crate::process::{DrainPhase, Process};
use crate::server::AcceptMetrics;
use crate::server::idle_closer::IdleCloser;
use crate::server::idle_connections::IdleConnections;
use crate::server::tls::ServerTls;
use crate::server::tls_tickets::TicketKeys;
use crate::shortage::ShortageMetrics;
use crate::telemetry::log::LogControl;
use crate::telemetry::metrics::RequestMetrics;
use crate::upstream::rules::event_streams::EventStreams;

/// The certificates of both listeners, with the keys of their session tickets.
pub(super) struct ListenerTls {
    data: Option<Arc<ServerTls>>,
    admin: Option<Arc<ServerTls>>,
    ticket_keys: Arc<TicketKeys>,
}

impl ListenerTls {
    pub(super) fn load(config: &Config, ticket_keys: TicketKeys) -> Result<Self, StartError> {
        let ticket_keys = Arc::new(ticket_keys);
        let data = ServerTls::load(&config.server.tls, &ticket_keys)?;
        let admin = ServerTls::load_admin(&config.admin.tls, &ticket_keys)?;
        Ok(Self { data, admin, ticket_keys })
    }
}

/// Builds the state of the process.
pub(super) fn process_state(
    config: &Config,
    registry: &Registry,
    (tls, decisions): (ListenerTls, Arc<Decisions>),
    (log, log_control): (&Logger, &LogControl),
) -> Result<Process, StartError> {
    let metrics = RequestMetrics::register(registry, config, log)?;
    let buffer_metrics = BufferMetrics::register(registry)?;
    let log_stats = log_control.stats();
    log_stats.register(registry)?;
    Ok(Process {
        accepting: AcceptMetrics::register(registry)?,
        degradation: Degradation::new(registry, metrics.refusals(), possible(config))?,
        metrics,
        reloads: Reloads::register(registry, ConfigNumber::FIRST.get())?,
        log: log.clone(),
        access_log: log_control.access_log(),
        log_stats,
        decisions,
        live_requests: LiveRequests::new(clock::now()),
        drain: watch::Sender::new(DrainPhase::Serving),
        drain_report: DrainReports::default(),
        drain_requests: DrainRequests::default(),
        hand_over_lock: Arc::default(),
        event_streams: EventStreams::default(),
        status_streams: EventStreams::default(),
        successor: AtomicU32::new(0),
        predecessors: Predecessors::default(),
        tls: tls.data,
        admin_tls: tls.admin,
        ticket_keys: tls.ticket_keys,
        chaos: Chaos::default(),
        send_buffer: ReservedBytes::default(),
        buffer_budget: BufferBudget::new(config.server.buffer_budget),
        body_memory: Arc::default(),
        buffer_metrics,
        client_connections: IdleConnections::data(clock::now()),
        idle_closer: IdleCloser::register(registry)?,
        shortages: ShortageMetrics::register(registry)?,
    })
}
