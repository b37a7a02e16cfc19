//! Warnings about actions of the resource levels that never act, or that leave the gateway unprotected.

use super::setting_text::{described, warn, warn_set};
use crate::action_mode::ActionMode;
use crate::actions::ActionConfig;
use crate::bucket::BucketConfig;
use crate::priority::Priority;
use crate::schema::Section;
use crate::{ActionsConfig, Config};

pub(super) fn find(root: &mut Section<'_>, config: &Config) {
    let ActionsConfig {
        idle_connections,
        idle_upstreams,
        receive_buffers,
        detailed_metrics,
        access_log_detail,
        hedges,
        retries,
        health_check_rate,
        keep_alive,
        shed_uploads,
        shed_requests,
        pause_transfers,
        cut_transfers,
    } = &config.actions;
    let actions = [
        ("idle_connections", idle_connections),
        ("idle_upstreams", idle_upstreams),
        ("receive_buffers", receive_buffers),
        ("detailed_metrics", detailed_metrics),
        ("access_log_detail", access_log_detail),
        ("hedges", hedges),
        ("retries", retries),
        ("health_check_rate", health_check_rate),
        ("keep_alive", keep_alive),
        ("shed_uploads", shed_uploads),
        ("shed_requests", shed_requests),
        ("pause_transfers", pause_transfers),
        ("cut_transfers", cut_transfers),
    ];
    for (name, action) in actions {
        let mut section = root.within(&["actions", name]);
        if action.mode == ActionMode::Off {
            let why = format!("has no effect: {} never acts", described(&section, "mode"));
            warn_set(&mut section, &["on_level"], &why, "remove it, or set the mode to enforce");
        }
    }
    shedding(root, config);
    transfers(root, pause_transfers, cut_transfers);
}

/// Cuts without pauses: only a transfer that has had its pause is cut.
fn transfers(root: &mut Section<'_>, pause: &ActionConfig, cut: &ActionConfig) {
    let pauses_less = match pause.mode {
        ActionMode::Enforce => false,
        ActionMode::Shadow => cut.mode == ActionMode::Enforce,
        ActionMode::Off => cut.mode != ActionMode::Off,
    };
    let other = root.within(&["actions", "cut_transfers"]);
    if pauses_less {
        let other = described(&other, "mode");
        let message = format!("defeats {other}: only a transfer that has been paused is cut");
        let hint = "set it to enforce, or set actions.cut_transfers.mode to the same";
        warn(&mut root.within(&["actions", "pause_transfers"]), "mode", &message, hint);
    } else if cut.mode != ActionMode::Off && cut.on_level < pause.on_level {
        let other = described(&root.within(&["actions", "pause_transfers"]), "on_level");
        let message = format!("is below {other}: at that level no transfer has been paused, so none is cut");
        let hint = "raise it, or lower actions.pause_transfers.on_level";
        let mut section = root.within(&["actions", "cut_transfers"]);
        if section.is_set("on_level") {
            warn(&mut section, "on_level", &message, hint);
        } else {
            let other = described(&section, "on_level");
            let message =
                format!("is above {other}: at that level no transfer has been paused, so none is cut");
            let mut section = root.within(&["actions", "pause_transfers"]);
            warn(&mut section, "on_level", &message, "lower it, or raise actions.cut_transfers.on_level");
        }
    }
}

/// The two actions that refuse requests: their order, and what happens without them.
fn shedding(root: &mut Section<'_>, config: &Config) {
    let (uploads, requests) = (&config.actions.shed_uploads, &config.actions.shed_requests);
    let has_low = has_low_writes(config);
    if !has_low && uploads.mode != ActionMode::Off {
        let why = "has no effect: no bucket or key gives writes the priority low";
        let hint = "remove it, or set buckets.NAME.UPSTREAM.concurrency.priority.write to low";
        warn_set(&mut root.within(&["actions", "shed_uploads"]), &["on_level", "mode"], why, hint);
    }
    if requests.mode != ActionMode::Enforce {
        let message =
            "refuses no request when memory or descriptors run out: the kernel may kill the process";
        warn(&mut root.within(&["actions", "shed_requests"]), "mode", message, "set it to enforce");
    } else if uploads.mode != ActionMode::Off && requests.on_level <= uploads.on_level {
        let other = described(&root.within(&["actions", "shed_uploads"]), "on_level");
        let message = format!("is not above {other}: every request is refused before uploads are");
        let mut section = root.within(&["actions", "shed_requests"]);
        let hint = "raise it, or lower actions.shed_uploads.on_level";
        if section.is_set("on_level") {
            warn(&mut section, "on_level", &message, hint);
        } else if has_low {
            let other = described(&section, "on_level");
            let message = format!("is not below {other}: every request is refused before uploads are");
            let mut section = root.within(&["actions", "shed_uploads"]);
            warn(&mut section, "on_level", &message, "lower it, or raise actions.shed_requests.on_level");
        }
    }
}

/// Whether a write can have the priority that `shed_uploads` refuses.
fn has_low_writes(config: &Config) -> bool {
    let is_low = |bucket: &BucketConfig| bucket.upstream.concurrency.priority.write == Priority::Low;
    let keys = config.keys.values().map(|key| key.priority);
    let mut keys = keys.chain(config.api_keys.values().map(|key| key.priority));
    config.buckets.values().any(is_low) || keys.any(|priority| priority == Some(Priority::Low))
}
