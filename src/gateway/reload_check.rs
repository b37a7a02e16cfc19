//! Loads the configuration again for the admin listener, and checks it against the one in use (G3).
//!
//! It opens what a start opens, so that a certificate that cannot be used is found here. It runs beside the requests of the admin
//! listener, because it reads files.

use std::sync::Arc;

use tidegate_config::{ConfigDiff, Loaded, Problem, Problems, SourceSet};

use super::startup_check;
use crate::admin::reload::{ReloadFuture, ReloadReply, ReloadRequests};
use crate::worker::Shared;

/// The number of the configuration of the start.
const FIRST: u64 = 1;

/// Checks configurations and applies none.
pub(super) struct ReloadCheck {
    shared: Arc<Shared>,
    sources: Arc<SourceSet>,
}

impl ReloadCheck {
    pub(super) fn new(shared: &Arc<Shared>, sources: SourceSet) -> Arc<Self> {
        Arc::new(Self { shared: Arc::clone(shared), sources: Arc::new(sources) })
    }

    fn check(&self, applies: bool) -> ReloadFuture {
        let (shared, sources) = (Arc::clone(&self.shared), Arc::clone(&self.sources));
        Box::pin(async move {
            let checked = tokio::task::spawn_blocking(move || check(&shared, &sources)).await;
            let mut reply = checked.unwrap_or_else(|_| {
                let message = "the check of the configuration ended because of a defect in tidegate";
                let problems = vec![Problem::of_process("reload", message, None)];
                ReloadReply { number: FIRST, problems, ..ReloadReply::default() }
            });
            if applies && !reply.diff.is_empty() && reply.problems.is_empty() {
                let hint = Some("restart the gateway to apply it".to_owned());
                let message = "this version checks a changed configuration, and applies it only at a start";
                reply.problems.push(Problem::of_process("reload", message, hint));
            }
            reply
        })
    }
}

impl ReloadRequests for ReloadCheck {
    fn reload(&self) -> ReloadFuture {
        self.check(true)
    }

    fn preview(&self) -> ReloadFuture {
        self.check(false)
    }
}

/// Loads the configuration and collects all problems with it.
fn check(shared: &Shared, sources: &SourceSet) -> ReloadReply {
    let all = |problems: Problems| problems.iter().cloned().collect::<Vec<_>>();
    let Loaded { config, warnings, effective, .. } = match sources.reload() {
        Ok(loaded) => loaded,
        Err(problems) => {
            return ReloadReply { number: FIRST, problems: all(problems), ..ReloadReply::default() };
        }
    };
    let diff = ConfigDiff::of(&shared.effective, &effective);
    let mut problems = diff.check().err().map(all).unwrap_or_default();
    problems.extend(startup_check::check(&config).err().map(|error| {
        let text = error.to_string();
        // Most errors begin with their key.
        let (key, message) = text.split_once(": ").unwrap_or(("configuration", &text));
        Problem::of_process(key, message, None)
    }));
    let warnings = warnings.iter().cloned().collect();
    ReloadReply { number: FIRST, diff, problems, warnings, is_applied: false }
}
