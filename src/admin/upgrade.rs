//! `POST /upgrade` starts the program file again and hands over to the new process (G8).
//!
//! The gateway implements [`UpgradeRequests`]. The reply comes with the result: a client that leaves before does not end the upgrade.

use std::future::Future;
use std::pin::Pin;

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;

use crate::admin::decisions::unexpected_query;
use crate::http::error::{AdminStatus, admin_error_reply, json_reply};
use crate::http::request_id;

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
}

/// `POST /upgrade`.
pub(super) async fn upgrade(request: HttpRequest, requests: Data<dyn UpgradeRequests>) -> HttpResponse {
    if let Some(refused) = unexpected_query(&request) {
        return refused;
    }
    let reply = requests.upgrade().await;
    let id = request_id::of(request.headers());
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
    }
}
