//! A cause as it is found at one time, without its history.

use std::borrow::Cow;
use std::time::Instant;

use serde::Serialize;

use crate::degradation::codes::{CauseCode, ScopeKind};

/// What a cause concerns. Names come from the configuration, never from clients.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(crate) struct Scope {
    pub(crate) kind: ScopeKind,
    pub(crate) bucket: Option<String>,
    /// Endpoint, credential, actor, circuit, limit, listener or log fault.
    pub(crate) name: Option<String>,
}

/// The name of the scope of the process in metrics and log lines.
const PROCESS: &str = "process";

impl Scope {
    pub(crate) fn process() -> Self {
        Self { kind: ScopeKind::Process, bucket: None, name: None }
    }

    /// A part of the process.
    pub(crate) fn of(kind: ScopeKind, name: impl Into<String>) -> Self {
        Self { kind, bucket: None, name: Some(name.into()) }
    }

    pub(crate) fn bucket(bucket: &str) -> Self {
        Self { kind: ScopeKind::Bucket, bucket: Some(bucket.to_owned()), name: None }
    }

    /// A part of a bucket.
    pub(crate) fn in_bucket(kind: ScopeKind, bucket: &str, name: impl Into<String>) -> Self {
        Self { kind, bucket: Some(bucket.to_owned()), name: Some(name.into()) }
    }

    /// An actor by its name, which ends with the bucket of an actor per bucket.
    pub(crate) fn actor(name: &str) -> Self {
        let bucket = name.split_once(':').map(|(_, bucket)| bucket.to_owned());
        Self { kind: ScopeKind::Actor, bucket, name: Some(name.to_owned()) }
    }

    /// The label of the metric: the bucket, or `process`. A bucket of that name has a label of its own.
    pub(crate) fn label(&self) -> &str {
        match self.bucket.as_deref() {
            None => PROCESS,
            Some(PROCESS) => "process (bucket)",
            Some(bucket) => bucket,
        }
    }
}

/// A measured value or a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Quantity {
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
}

impl Quantity {
    pub(crate) fn new(value: f64, unit: &'static str) -> Self {
        Self { value: (value * 1e3).round() / 1e3, unit }
    }

    /// A number of things.
    #[expect(clippy::cast_precision_loss, reason = "a number for people")]
    pub(crate) fn count(value: u64, unit: &'static str) -> Self {
        Self { value: value as f64, unit }
    }
}

/// One cause.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finding {
    pub(crate) code: CauseCode,
    pub(crate) scope: Scope,
    /// A sentence with the figures.
    pub(crate) message: String,
    /// Its start, if its source has it.
    pub(crate) since: Option<Instant>,
    pub(crate) measured: Option<Quantity>,
    pub(crate) threshold: Option<Quantity>,
    /// Its end, if that is known.
    pub(crate) until: Option<Instant>,
    pub(crate) ends_when: &'static str,
    pub(crate) effect: Cow<'static, str>,
}

impl Finding {
    pub(crate) fn new(code: CauseCode, scope: Scope, message: impl Into<String>) -> Self {
        Self {
            code,
            scope,
            message: message.into(),
            since: None,
            measured: None,
            threshold: None,
            until: None,
            ends_when: code.entry().ends_when,
            effect: Cow::Borrowed(code.entry().effect),
        }
    }

    pub(crate) fn since(self, since: Instant) -> Self {
        Self { since: Some(since), ..self }
    }

    pub(crate) fn until(self, until: Instant) -> Self {
        Self { until: Some(until), ..self }
    }

    pub(crate) fn measured(self, measured: Quantity) -> Self {
        Self { measured: Some(measured), ..self }
    }

    pub(crate) fn threshold(self, threshold: Quantity) -> Self {
        Self { threshold: Some(threshold), ..self }
    }

    /// Replaces the effect of the table.
    pub(crate) fn with_effect(self, effect: impl Into<Cow<'static, str>>) -> Self {
        Self { effect: effect.into(), ..self }
    }
}
