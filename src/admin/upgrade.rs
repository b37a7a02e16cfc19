//! `POST /upgrade` starts the program file again and hands over to the new process (G8).
//!
//! The gateway implements [`UpgradeRequests`]. The reply comes with the result: a client that leaves before does not end the upgrade.

use std::future::Future;
use std::pin::Pin;

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;

use crate::admin::chaos_disabled;
use crate::admin::decisions::parameters::Parameters;
use crate::admin::decisions::{invalid_parameter, unexpected_query};
use crate::chaos::UpgradeCrash;
use crate::http::error::{AdminStatus, admin_error_reply, json_reply};
use crate::http::request_id;
use crate::request_head::HeaderView;
use crate::worker::slot::CurrentWorker;

/// The result of a request to upgrade.
pub(crate) type UpgradeFuture = Pin<Box<dyn Future<Output = UpgradeReply>>>;

/// Hands over to a new process.
pub(crate) trait UpgradeRequests: Send + Sync {
    fn upgrade(&self) -> UpgradeFuture;
}

/// The result of an upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UpgradeReply {
    /// This process serves the new connections.
    Done { pid: u32, version: String },
    /// No process was started, for this reason.
    Refused(String),
    /// The new process was ended, and the old one goes on.
    Failed(String),
    /// The new process was ended, and the old one drains: it was stopped.
    Stopped(String),
}

/// `POST /upgrade`.
pub(super) async fn upgrade(request: HttpRequest, requests: Data<dyn UpgradeRequests>) -> HttpResponse {
    if let Some(refused) = unexpected_query(&request) {
        return refused;
    }
    let reply = requests.upgrade().await;
    let id = request_id::of(HeaderView::of(request.headers()));
    match reply {
        UpgradeReply::Done { pid, version } => json_reply(
            AdminStatus::Ok,
            &json!({
                "result": "upgraded",
                "pid": pid,
                "version": version,
                "predecessor": { "pid": std::process::id(), "version": env!("CARGO_PKG_VERSION") },
            }),
        ),
        UpgradeReply::Refused(why) => admin_error_reply(AdminStatus::Conflict, "upgrade_refused", &why, &id),
        UpgradeReply::Failed(why) => {
            admin_error_reply(AdminStatus::Unprocessable, "upgrade_failed", &why, &id)
        }
        UpgradeReply::Stopped(why) => admin_error_reply(AdminStatus::Conflict, "upgrade_stopped", &why, &id),
    }
}

/// `POST /upgrade/crash?at=hand_over|accept`: the next upgrade panics there.
pub(super) async fn crash_upgrade(
    request: HttpRequest,
    CurrentWorker(worker): CurrentWorker,
) -> HttpResponse {
    if !worker.shared.config.admin.chaos {
        return chaos_disabled(&request);
    }
    let query = match Parameters::parse(request.query_string(), &["at"]) {
        Ok(query) => query,
        Err(error) => return invalid_parameter(&request, &error),
    };
    let Some(place) = UpgradeCrash::parse(query.text("at").unwrap_or("hand_over")) else {
        let message = "the place of a panic in an upgrade is hand_over or accept";
        let id = request_id::of(HeaderView::of(request.headers()));
        return admin_error_reply(AdminStatus::BadRequest, "unknown_place", message, &id);
    };
    worker.process.chaos.arm_upgrade(place);
    json_reply(AdminStatus::Accepted, &json!({ "crashing": 1 }))
}
