//! The schema of the configuration: one walk over the keys reads, checks and documents them, and finds unknown ones.
//!
//! `section!` declares each section once: a field is a doc comment, a name, a type and a `Spec` that reads its key. Reading the merged
//! sources gives the values and the problems. Reading empty sources gives the defaults. Both record an `Entry` per key, from which
//! `docs/configuration.md` and `default.toml` are generated. A setting without an entry is an unknown key. So every key that is read is
//! documented, with the default and the range that the code uses.
//!
//! A walk does not stop at a problem: the default replaces an invalid value, so that one run finds all problems. The crate does not use
//! serde's derived deserializers: they stop at the first error and lose the origin of a value.

use std::marker::PhantomData;

pub(crate) use crate::entry::{DefaultValue, Docs, Entry};
use crate::entry::{EntryPath, ValueInEffect};
use crate::problem::{Origin, Problem};
use crate::section_tree::SectionId;
use crate::setting::{KeyPath, Raw, Setting};
use crate::value_type::{ValueErrors, ValueType};
pub(crate) use crate::walk::Walk;

/// A section of the tree during a walk.
pub(crate) struct Section<'w> {
    pub(crate) walk: &'w mut Walk,
    pub(crate) id: SectionId,
}

impl Section<'_> {
    /// Reads one field; `section!` calls it with the field's doc comment.
    pub(crate) fn read_field<S: Spec>(&mut self, docs: Docs, spec: S) -> S::Value {
        spec.read(docs, self)
    }

    fn path(&self) -> &KeyPath {
        self.walk.tree.path(self.id)
    }

    /// A section within this one.
    pub(crate) fn child(&mut self, name: &str) -> Section<'_> {
        self.within(&[name])
    }

    /// A section several levels within this one.
    pub(crate) fn within(&mut self, names: &[&str]) -> Section<'_> {
        let Walk { tree, settings, .. } = &mut *self.walk;
        let id = names.iter().fold(self.id, |id, name| tree.child(id, name, settings));
        Section { walk: self.walk, id }
    }

    /// Records the documentation of this section.
    pub(crate) fn document(&mut self, docs: Docs) {
        let path = self.walk.tree.path(self.id).clone();
        self.walk.sections.push((path, docs));
    }

    pub(crate) fn is_set(&self, name: &str) -> bool {
        let Walk { tree, settings, .. } = &*self.walk;
        tree.ask(self.id, name);
        tree.position(self.id, name, settings).is_some()
    }

    /// Whether a value is set anywhere below `name`.
    pub(crate) fn is_set_within(&self, name: &str) -> bool {
        self.walk.tree.ask(self.id, name);
        self.setting_within(name).is_some()
    }

    /// The origin of the first value set anywhere below `name`.
    pub(crate) fn origin_within(&self, name: &str) -> Option<Origin> {
        self.setting_within(name).map(|setting| setting.origin.clone())
    }

    fn setting_within(&self, name: &str) -> Option<&Setting> {
        let Walk { tree, settings, .. } = &*self.walk;
        tree.positions(self.id, name, settings).next().map(|at| &settings[at].1)
    }

    /// The settings anywhere in this section, in the order of their paths.
    fn settings(&self) -> impl Iterator<Item = &(KeyPath, Setting)> {
        self.walk.settings[self.walk.tree.all_positions(self.id)].iter()
    }

    /// The names of the sections directly below this one in which a key is set, in their order.
    pub(crate) fn names(&self) -> Vec<String> {
        let depth = self.path().segments().len();
        // a value is not a section
        let is_section = |(path, setting): &(KeyPath, Setting)| {
            path.segments().len() > depth + 1 || setting.raw == Raw::Empty
        };
        let mut names: Vec<String> = Vec::new();
        for (path, _) in self.settings().filter(|setting| is_section(setting)) {
            if let Some(name) = path.segments().get(depth)
                && names.last() != Some(name)
            {
                names.push(name.clone());
            }
        }
        names
    }

    /// The full name of a key of this section, such as `server.port`.
    pub(crate) fn full_key(&self, name: &str) -> String {
        self.path().child(name).to_string()
    }

    /// The entry of a key of this section, after all keys were read.
    pub(crate) fn entry(&self, name: &str) -> Option<&Entry> {
        self.walk.entry(self.id, name)
    }

    /// Marks the keys within `name` as keys without a possible effect.
    pub(crate) fn exclude(&mut self, name: &str) {
        let this = self.walk.tree.path(self.id).clone();
        let section = this.child(name);
        // the entries of this section are the last ones
        let entries =
            self.walk.entries.iter_mut().rev().take_while(|entry| entry.path.section.is_within(&this));
        let excluded = entries.filter(|entry| entry.path.section.is_within(&section));
        excluded.for_each(|entry| entry.is_applicable = false);
    }

    /// Records a problem with the value of a key.
    pub(crate) fn refuse(&mut self, name: &str, message: impl Into<String>, hint: Option<String>) {
        let problem = self.problem(name, message.into(), hint);
        self.walk.problems.push(problem);
    }

    /// Records a warning about the value of a key.
    pub(crate) fn warn(&mut self, name: &str, message: impl Into<String>, hint: impl Into<Option<String>>) {
        let problem = self.problem(name, message.into(), hint.into());
        self.walk.warnings.push(problem);
    }

    fn problem(&self, name: &str, message: String, hint: Option<String>) -> Problem {
        let setting = self.setting_within(name);
        let (source, line) =
            setting.map_or((Origin::Default, None), |setting| (setting.origin.clone(), setting.line));
        Problem { key: self.full_key(name), source, line, message, hint }
    }

    /// The names of the variables that set keys of this section; none if another source sets a key as well.
    pub(crate) fn variables(&self) -> Option<Vec<String>> {
        let variable = |(_, setting): &(KeyPath, Setting)| match &setting.origin {
            Origin::Variable(name) => Some(name.clone()),
            _ => None,
        };
        self.settings().map(variable).collect()
    }

    /// Records that `low` must be below (or at most) `high`. The problem names the key of the two that is set, not a default. It is
    /// skipped if one of the two values was invalid.
    pub(crate) fn refuse_order(&mut self, low: (&str, String), high: (&str, String), strict: bool) {
        if self.is_refused(low.0) || self.is_refused(high.0) {
            return;
        }
        let (up, down) = if strict { ("above", "below") } else { ("at least", "at most") };
        let (at, other, word) =
            if self.is_set(low.0) || !self.is_set(high.0) { (&low, &high, down) } else { (&high, &low, up) };
        let message = format!("{} must be {word} {} ({})", at.1, self.full_key(other.0), other.1);
        self.refuse(at.0, message, None);
    }

    /// Rejects two keys that both give the same value.
    pub(crate) fn refuse_both(&mut self, [first, second]: [&str; 2]) {
        if self.is_set(first) && self.is_set(second) {
            let message = format!("cannot be set together with {}", self.full_key(first));
            self.refuse(second, message, Some("set one of them".to_owned()));
        }
    }

    /// The same, and rejects that neither is set.
    pub(crate) fn refuse_unless_one(&mut self, [first, second]: [&str; 2], message: &str) {
        self.refuse_both([first, second]);
        if !self.is_set(first) && !self.is_set(second) {
            let hint = format!("set it, or {}", self.full_key(second));
            self.refuse(first, message, Some(hint));
        }
    }

    /// Rejects a secret that an attacker could guess.
    pub(crate) fn refuse_short_secret(&mut self, name: &str, bytes_min: usize) {
        let message = format!("is shorter than {bytes_min} characters and could be guessed");
        let hint = "openssl rand -hex 32 prints a strong secret".to_owned();
        self.refuse(name, message, Some(hint));
    }

    pub(crate) fn is_refused(&self, name: &str) -> bool {
        !self.walk.problems.is_empty() && {
            let key = self.full_key(name);
            self.walk.problems.iter().any(|problem| problem.key == key)
        }
    }

    /// Whether a key of this section has a problem.
    pub(crate) fn has_problem(&self) -> bool {
        let within = |problem: &Problem| problem.key.starts_with(&format!("{}.", self.path()));
        self.walk.problems.iter().any(within)
    }

    /// Records a key and parses its setting, if there is one.
    fn parse<F: ValueType>(
        &mut self,
        name: &'static str,
        docs: Docs,
        value_type: &F,
        default: DefaultValue,
    ) -> Option<F::Value> {
        let Walk { tree, settings, entries, is_survey, .. } = &mut *self.walk;
        let setting = tree.position(self.id, name, settings);
        tree.add_entry(self.id, entries.len());
        entries.push(Entry {
            section: self.id,
            path: EntryPath { section: tree.path(self.id).clone(), name },
            docs,
            accepts: if *is_survey { value_type.accepts() } else { String::new() },
            unit: value_type.unit(),
            is_secret: value_type.is_secret(),
            default,
            setting,
            value: ValueInEffect::Absent,
            fingerprint: None,
            is_applicable: true,
        });
        match value_type.parse(&settings[setting?].1.raw) {
            Ok(value) => Some(value),
            Err(ValueErrors(errors)) => {
                for error in errors {
                    self.refuse(name, error.message, error.hint);
                }
                None
            }
        }
    }

    /// Records the value in effect of a key that is read already. `default` is its fixed default.
    fn put<F: ValueType>(
        &mut self,
        name: &str,
        value_type: &F,
        value: Option<&F::Value>,
        default: Option<&F::Value>,
    ) {
        let Some(at) = self.walk.entry_position(self.id, name) else { return };
        let Walk { settings, entries, .. } = &mut *self.walk;
        let entry = &mut entries[at];
        let raw = entry.setting.map(|at| &settings[at].1.raw);
        entry.value = match value {
            None => ValueInEffect::Absent,
            // the text of a default is that of the reference
            Some(_) if raw.is_none() && value == default => ValueInEffect::Default,
            Some(value) => ValueInEffect::Own(value_type.shown(value, raw)),
        };
        entry.fingerprint = value.and_then(|value| value_type.fingerprint(value));
    }
}

/// How a walk reads a field.
pub(crate) trait Spec: Sized {
    type Value;

    fn read(self, docs: Docs, section: &mut Section<'_>) -> Self::Value;

    /// Records the value in effect, if a check has changed it since it was read.
    fn write(self, _: &Self::Value, _: &mut Section<'_>) {}
}

/// A section that can be read.
pub(crate) trait Read {
    fn read(section: &mut Section<'_>) -> Self;

    /// Records the values in effect.
    fn write(&self, section: &mut Section<'_>);
}

/// The documented defaults of a section.
pub(crate) fn defaults<R: Read>() -> R {
    R::read(&mut Walk::default().root())
}

/// A key with a default.
pub(crate) struct Key<F: ValueType> {
    name: &'static str,
    value_type: F,
    default: F::Value,
    words: Option<&'static str>,
}

pub(crate) fn key<F: ValueType>(name: &'static str, value_type: F, default: F::Value) -> Key<F> {
    Key { name, value_type, default, words: None }
}

impl<F: ValueType> Key<F> {
    /// Describes a default that depends on other keys.
    pub(crate) fn default_text(self, words: &'static str) -> Self {
        Self { words: Some(words), ..self }
    }
}

impl<F: ValueType> Spec for Key<F> {
    type Value = F::Value;

    fn read(self, docs: Docs, section: &mut Section<'_>) -> F::Value {
        let Self { name, value_type, default, words } = self;
        let text = section.walk.is_survey.then(|| value_type.to_toml(&default));
        let parsed = section.parse(name, docs, &value_type, DefaultValue { value: text, words });
        section.put(name, &value_type, Some(parsed.as_ref().unwrap_or(&default)), Some(&default));
        parsed.unwrap_or(default)
    }

    fn write(self, value: &F::Value, section: &mut Section<'_>) {
        section.put(self.name, &self.value_type, Some(value), Some(&self.default));
    }
}

/// A key without a default.
pub(crate) struct Unset<F>(&'static str, F, &'static str);

/// A key without a default; `absent` describes the behaviour while it is not set.
pub(crate) fn unset<F: ValueType>(name: &'static str, value_type: F, absent: &'static str) -> Unset<F> {
    Unset(name, value_type, absent)
}

impl<F: ValueType> Spec for Unset<F> {
    type Value = Option<F::Value>;

    fn read(self, docs: Docs, section: &mut Section<'_>) -> Self::Value {
        let Self(name, value_type, absent) = self;
        let value = section.parse(name, docs, &value_type, DefaultValue { value: None, words: Some(absent) });
        section.put(name, &value_type, value.as_ref(), None);
        value
    }

    fn write(self, value: &Self::Value, section: &mut Section<'_>) {
        section.put(self.0, &self.1, value.as_ref(), None);
    }
}

/// A section within a section, and the check of its keys against each other.
pub(crate) struct Nested<R>(&'static str, fn(R, &mut Section<'_>) -> R);

pub(crate) fn nested<R: Read>(name: &'static str) -> Nested<R> {
    Nested(name, |value, _| value)
}

/// A section with keys that depend on each other; `check` adjusts defaults and rejects contradictions.
pub(crate) fn nested_checked<R: Read>(name: &'static str, check: fn(R, &mut Section<'_>) -> R) -> Nested<R> {
    Nested(name, check)
}

impl<R: Read> Spec for Nested<R> {
    type Value = R;

    fn read(self, docs: Docs, section: &mut Section<'_>) -> R {
        let mut child = section.child(self.0);
        child.document(docs);
        let value = (self.1)(R::read(&mut child), &mut child);
        value.write(&mut child);
        value
    }

    fn write(self, value: &R, section: &mut Section<'_>) {
        value.write(&mut section.child(self.0));
    }
}

/// Keys that several sections share, read as keys of each of them.
pub(crate) struct Shared<R>(PhantomData<R>);

pub(crate) fn shared<R: Read>() -> Shared<R> {
    Shared(PhantomData)
}

impl<R: Read> Spec for Shared<R> {
    type Value = R;

    fn read(self, _: Docs, section: &mut Section<'_>) -> R {
        R::read(section)
    }

    fn write(self, value: &R, section: &mut Section<'_>) {
        value.write(section);
    }
}
