//! Loads the configuration again and checks it against the current one (G3).
//!
//! It opens what a start opens, so that a certificate that cannot be used is found before anything is replaced. It runs on a thread for
//! blocking calls, because it reads files.

use std::path::PathBuf;
use std::sync::Arc;

use tidegate_config::{Config, ConfigDiff, EffectiveConfig, Loaded, Problem, Problems, SourceSet};

use super::startup_check;
use crate::admin::reload::ReloadReply;
use crate::pressure::collect::collect;
use crate::process::Shared;

/// A configuration that may replace the current one, if the reply has no problem.
pub(super) struct Checked {
    pub(super) reply: ReloadReply,
    /// With the files that were read. None if it could not be loaded.
    pub(super) loaded: Option<(Config, EffectiveConfig, Vec<PathBuf>)>,
}

impl Checked {
    /// Loads and checks the configuration of these sources.
    pub(super) async fn load(current: Arc<Shared>, sources: Arc<SourceSet>) -> Self {
        let number = current.number().get();
        let checked = tokio::task::spawn_blocking(move || {
            let checked = check(&current, &sources);
            // Otherwise a thread that serves requests returns what the load has freed.
            collect();
            checked
        });
        let checked = checked.await;
        checked.unwrap_or_else(|_| {
            let message = "the check of the configuration ended because of a defect in tidegate";
            Self::refused(number, vec![Problem::of_process("reload", message, None)])
        })
    }

    /// The successor of an upgrade has the limits, so this process keeps its configuration.
    pub(super) fn handed_over(number: u64) -> Self {
        let message = "this process has handed over to its successor and drains";
        let hint = Some("reload the successor".to_owned());
        Self::refused(number, vec![Problem::of_process("reload", message, hint)])
    }

    fn refused(number: u64, problems: Vec<Problem>) -> Self {
        Self { reply: ReloadReply { number, problems, ..ReloadReply::default() }, loaded: None }
    }

    /// Whether it may replace the current configuration and differs from it.
    pub(super) fn is_applicable(&self) -> bool {
        self.reply.problems.is_empty() && !self.reply.diff.is_empty()
    }
}

/// A problem that a start would end with.
pub(super) fn start_problem(error: &super::StartError) -> Problem {
    let text = error.to_string();
    // Most errors begin with their key.
    let (key, message) = text.split_once(": ").unwrap_or(("configuration", &text));
    Problem::of_process(key, message, None)
}

fn check(current: &Shared, sources: &SourceSet) -> Checked {
    let all = |problems: Problems| problems.iter().cloned().collect::<Vec<_>>();
    let number = current.number().get();
    let Loaded { mut config, warnings, effective, files } = match sources.reload() {
        Ok(loaded) => loaded,
        Err(problems) => return Checked::refused(number, all(problems)),
    };
    config.keep_demo(&current.config);
    let diff = ConfigDiff::of(&current.effective, &effective);
    let mut problems = diff.check().err().map(all).unwrap_or_default();
    problems.extend(startup_check::check(&config).err().as_ref().map(start_problem));
    let warnings = warnings.iter().cloned().collect();
    let reply = ReloadReply { number, diff, problems, warnings, is_applied: false };
    Checked { reply, loaded: Some((config, effective, files)) }
}
