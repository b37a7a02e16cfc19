//! The events of a timeline. Each kind has a maximum of its own, so that warnings, which clients can cause, displace no cause, transition
//! or refusal; and each message of warnings has one, so that a frequent warning displaces no other.

use std::collections::{BTreeMap, HashMap};

use ahash::RandomState;
use serde::Serialize;

use crate::replay::log::line::OtherFields;
use crate::replay::report::time_text;

/// Most events of one kind other than warnings.
const EVENTS_MAX: usize = 10_000;
/// Most warnings.
const WARNINGS_MAX: usize = 2_000;
/// Most warnings with the same message.
const WARNINGS_OF_MESSAGE_MAX: usize = 200;
/// The fields that an event begins with, and those that it ends with, in this order. The others are between them, by name.
const FIRST_FIELDS: [&str; 15] = [
    "code",
    "severity",
    "scope",
    "bucket",
    "endpoint",
    "credential",
    "name",
    "actor",
    "listener",
    "class",
    "id",
    "from",
    "to",
    "cause",
    "reason",
];
const LAST_FIELDS: [&str; 5] = ["detail", "error", "panic", "stack", "hint"];
/// The longest text of an event.
const TEXT_MAX: usize = 2_000;

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// A cause of degradation began, ended or passed.
    Cause,
    /// A level, a circuit, an endpoint, a credential or an actor changed.
    Transition,
    /// Requests began to be refused.
    Refusals,
    /// Another warning or error.
    Warning,
}

impl EventKind {
    /// The word in the text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cause => "cause",
            Self::Transition => "transition",
            Self::Refusals => "refusals",
            Self::Warning => "warning",
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Microseconds since 1970.
    #[serde(skip)]
    at_us: u64,
    /// When.
    pub at: String,
    /// What kind.
    pub kind: EventKind,
    /// The message with its fields.
    pub text: String,
}

/// The events that are kept.
#[derive(Debug, Default)]
pub(super) struct Events {
    events: Vec<Event>,
    kept: BTreeMap<EventKind, usize>,
    /// Kept warnings by the hash of their message: a message may be long.
    warnings: HashMap<u64, usize, RandomState>,
    pub(super) left_out: u64,
    pub(super) warnings_left_out: u64,
}

impl Events {
    /// Adds the event that a line is, if it is one.
    pub(super) fn add_line(&mut self, fields: &OtherFields<'_>, at_us: u64) {
        let Some(kind) = event_kind(fields) else { return };
        if kind == EventKind::Warning && !self.keeps_warning(&fields.message) {
            self.warnings_left_out += 1;
            return;
        }
        self.push(at_us, kind, event_text(fields));
    }

    fn keeps_warning(&mut self, message: &str) -> bool {
        if self.kept.get(&EventKind::Warning).is_some_and(|kept| *kept >= WARNINGS_MAX) {
            return false;
        }
        let hash = self.warnings.hasher().hash_one(message);
        let kept = self.warnings.entry(hash).or_default();
        *kept += 1;
        *kept <= WARNINGS_OF_MESSAGE_MAX
    }

    pub(super) fn push(&mut self, at_us: u64, kind: EventKind, text: String) {
        let kept = self.kept.entry(kind).or_default();
        if *kept >= EVENTS_MAX {
            self.left_out += 1;
            return;
        }
        *kept += 1;
        self.events.push(Event { at_us, at: time_text(at_us), kind, text });
    }

    /// The events in their order.
    pub(super) fn finish(mut self) -> Vec<Event> {
        self.events.sort_by_key(|event| event.at_us);
        self.events
    }
}

/// The kind of event that a line is; none if it is no part of a timeline.
fn event_kind(fields: &OtherFields<'_>) -> Option<EventKind> {
    const TRANSITIONS: [&str; 10] = [
        "degradation level ",
        "circuit ",
        "endpoint ",
        "all endpoints failed",
        "an endpoint succeeded again",
        "failed over ",
        "failed back ",
        "credential ",
        "actor ",
        "accepting connections ",
    ];
    let message = &*fields.message;
    let begins = |beginning: &&str| message.starts_with(beginning);
    // Decisions are counted by their access lines.
    if message == "decision" {
        return None;
    }
    if TRANSITIONS.iter().any(begins) {
        return Some(EventKind::Transition);
    }
    if message.starts_with("degradation ") {
        return Some(EventKind::Cause);
    }
    let is_severe = |level: &&str| fields.level.starts_with(level);
    ["WARN", "ERRO", "CRIT"].iter().any(is_severe).then_some(EventKind::Warning)
}

/// The message with its fields.
fn event_text(fields: &OtherFields<'_>) -> String {
    let mut text = fields.message.clone().into_owned();
    // The order of a log depends on the code that wrote the line.
    let mut known: Vec<_> = fields.fields.iter().filter(|(_, value)| !value.is_empty()).collect();
    known.sort_by_key(|(key, _)| field_position(key));
    for (at, (key, value)) in known.into_iter().enumerate() {
        text.push_str(if at == 0 { ": " } else { ", " });
        text.push_str(key);
        text.push(' ');
        text.push_str(value);
        if text.len() > TEXT_MAX {
            break;
        }
    }
    if text.len() > TEXT_MAX {
        text.truncate(text.floor_char_boundary(TEXT_MAX));
        text.push('…');
        text.shrink_to_fit();
    }
    text
}

/// Where a field is in the text of an event.
fn field_position(key: &str) -> (usize, usize, &str) {
    let of = |list: &[&str]| list.iter().position(|one| *one == key);
    match (of(&FIRST_FIELDS), of(&LAST_FIELDS)) {
        (Some(at), _) => (0, at, key),
        (None, None) => (1, 0, key),
        (None, Some(at)) => (2, at, key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other(level: &'static str, message: &'static str) -> OtherFields<'static> {
        OtherFields {
            level: level.into(),
            message: message.into(),
            fields: vec![("bucket".into(), "b".into())],
        }
    }

    /// Each line of a timeline has its kind; ordinary lines and decisions are no events.
    #[test]
    fn events_have_kinds() {
        for (level, message, kind) in [
            ("INFO", "degradation began", Some(EventKind::Cause)),
            ("WARN", "degradation level rose", Some(EventKind::Transition)),
            ("INFO", "circuit half-open", Some(EventKind::Transition)),
            ("WARN", "transfer broken", Some(EventKind::Warning)),
            ("ERRO", "panic", Some(EventKind::Warning)),
            ("INFO", "listening", None),
            ("WARN", "decision", None),
        ] {
            assert_eq!(event_kind(&other(level, message)), kind, "{message}");
        }
        assert_eq!(event_text(&other("INFO", "circuit closed")), "circuit closed: bucket b");
    }

    /// The text has the fields in one order, whatever the order of the log is.
    #[test]
    fn fields_have_one_order() {
        let fields = ["stale", "refused", "hint", "detail", "bucket", "code", "empty"];
        let line = |order: &mut dyn Iterator<Item = &'static str>| OtherFields {
            fields: order.map(|key| (key.into(), if key == "empty" { "" } else { "x" }.into())).collect(),
            ..other("WARN", "degradation ended")
        };
        let text = event_text(&line(&mut fields.into_iter()));
        assert_eq!(text, "degradation ended: code x, bucket x, refused x, stale x, detail x, hint x");
        assert_eq!(event_text(&line(&mut fields.into_iter().rev())), text);
    }

    /// A frequent warning displaces no other warning, and warnings displace no other event.
    #[test]
    fn warnings_have_a_share() {
        let mut events = Events::default();
        for at in 0..20_000 {
            events.add_line(&other("WARN", "transfer broken"), at);
        }
        events.add_line(&other("ERRO", "panic"), 20_000);
        assert_eq!((events.events.len(), events.warnings_left_out), (WARNINGS_OF_MESSAGE_MAX + 1, 19_800));
        for at in 0..20_000 {
            let message = format!("made up {at}");
            events.add_line(&OtherFields { message: message.into(), ..other("WARN", "") }, at);
        }
        assert_eq!((events.events.len(), events.warnings.len()), (WARNINGS_MAX, WARNINGS_MAX - 199));
        events.add_line(&other("INFO", "circuit opened"), 30_000);
        for at in 0..20_000 {
            events.push(at, EventKind::Refusals, String::new());
        }
        assert_eq!((events.kept[&EventKind::Transition], events.left_out), (1, 10_000));
        assert_eq!(events.finish().last().map(|event| event.kind), Some(EventKind::Transition));
    }

    /// A long text is cut at a character.
    #[test]
    fn a_long_text_is_cut() {
        let fields =
            OtherFields { fields: vec![("x".into(), "é".repeat(5_000).into())], ..other("WARN", "m") };
        assert!(event_text(&fields).len() <= TEXT_MAX + 3);
        let fields = OtherFields { message: "é".repeat(5_000).into(), ..OtherFields::default() };
        assert!(event_text(&fields).len() <= TEXT_MAX + 3);
    }
}
