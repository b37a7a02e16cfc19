//! One walk over the keys serves four purposes: reading, checking, documenting and finding what is unknown.
//!
//! A section is declared once, by `section!`: each field is a doc comment, a name, a type and how its key is
//! read. Reading the merged sources gives the values and the problems; the same read over empty sources gives
//! the defaults; the entries it leaves behind are the table of keys and the reference file; and a setting the
//! walk never asked for is an unknown key. A key can therefore not be read but undocumented, documented with
//! another default than it has, or documented but unknown.
//!
//! A walk never stops at a problem: the default stands in, so that everything wrong is found in one round.
//! Deliberately absent: serde. A derived deserializer stops at the first error and forgets the origin.

use std::collections::BTreeSet;
use std::marker::PhantomData;

use crate::form::{Faults, Form};
use crate::problem::{Origin, Problem};
use crate::setting::{KeyPath, Raw, Setting, Settings};

/// The lines of a doc comment, each with its leading blank.
pub(crate) type Docs = &'static [&'static str];

/// What a key means and accepts, for the reference.
pub(crate) struct Entry {
    pub(crate) path: KeyPath,
    pub(crate) docs: Docs,
    pub(crate) accepts: String,
    pub(crate) is_secret: bool,
    pub(crate) preset: Preset,
}

/// What holds while nobody sets a key. Where `words` say so, that is not the same as setting any value.
pub(crate) struct Preset {
    /// the default, as a TOML file would spell it
    pub(crate) value: Option<String>,
    pub(crate) words: Option<&'static str>,
}

/// The state of one walk.
#[derive(Default)]
pub(crate) struct Walk {
    pub(crate) settings: Settings,
    pub(crate) entries: Vec<Entry>,
    pub(crate) sections: Vec<(KeyPath, Docs)>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
}

impl Walk {
    pub(crate) fn over(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    pub(crate) fn root(&mut self) -> Section<'_> {
        Section { walk: self, path: KeyPath::default() }
    }
}

/// A section of the tree during a walk.
pub(crate) struct Section<'w> {
    walk: &'w mut Walk,
    path: KeyPath,
}

impl Section<'_> {
    /// Reads one field; `section!` calls it with the field's doc comment.
    pub(crate) fn take<S: Spec>(&mut self, docs: Docs, spec: S) -> S::Value {
        spec.take(docs, self)
    }

    /// A section within this one.
    pub(crate) fn child(&mut self, name: &str) -> Section<'_> {
        Section { path: self.path.child(name), walk: self.walk }
    }

    /// A section several levels within this one.
    pub(crate) fn within(&mut self, names: &[&str]) -> Section<'_> {
        let path = names.iter().fold(self.path.clone(), |path, name| path.child(name));
        Section { path, walk: self.walk }
    }

    /// Keeps the words that introduce this section in the reference.
    pub(crate) fn introduce(&mut self, docs: Docs) {
        self.walk.sections.push((self.path.clone(), docs));
    }

    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.walk.settings.contains_key(&self.path.child(name))
    }

    /// The origin of the first value set anywhere below `name`.
    pub(crate) fn origin_within(&self, name: &str) -> Option<Origin> {
        let section = self.path.child(name);
        let found = self.walk.settings.iter().find(|(path, _)| path.is_within(&section));
        found.map(|(_, setting)| setting.origin.clone())
    }

    /// The names of the sections directly below this one that anything is set in.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        let depth = self.path.segments().len();
        // a value where a section should be is no section
        let is_section = |(path, setting): &(&KeyPath, &Setting)| {
            path.is_within(&self.path) && (path.segments().len() > depth + 1 || setting.raw == Raw::Empty)
        };
        let within = self.walk.settings.iter().filter(is_section);
        within.filter_map(|(path, _)| path.segments().get(depth).cloned()).collect()
    }

    /// The full spelling of a key of this section.
    pub(crate) fn spell(&self, name: &str) -> String {
        self.path.child(name).to_string()
    }

    /// Records that the value of a key cannot stand.
    pub(crate) fn refuse(&mut self, name: &str, message: impl Into<String>, hint: Option<String>) {
        let source = self.origin_within(name).unwrap_or(Origin::Default);
        let key = self.spell(name);
        self.walk.problems.push(Problem { key, source, message: message.into(), hint });
    }

    /// Records that the value of a key has probably not the effect that its writer expects.
    pub(crate) fn warn(&mut self, name: &str, message: impl Into<String>, hint: impl Into<Option<String>>) {
        let source = self.origin_within(name).unwrap_or(Origin::Default);
        let key = self.spell(name);
        self.walk.warnings.push(Problem { key, source, message: message.into(), hint: hint.into() });
    }

    /// The names of the variables that set anything in this section; none if another source sets something as well.
    pub(crate) fn variables(&self) -> Option<Vec<String>> {
        let within = self.walk.settings.iter().filter(|(path, _)| path.is_within(&self.path));
        within
            .map(|(_, setting)| match &setting.origin {
                Origin::Variable(name) => Some(name.clone()),
                _ => None,
            })
            .collect()
    }

    /// Records that `low` should have been below (or at most) `high`, at whichever of the two
    /// somebody set: a complaint about a default nobody wrote would send the reader to the wrong place.
    /// A value that could not be read is in no order.
    pub(crate) fn refuse_order(&mut self, low: (&str, String), high: (&str, String), strict: bool) {
        if self.is_refused(low.0) || self.is_refused(high.0) {
            return;
        }
        let (up, down) = if strict { ("above", "below") } else { ("at least", "at most") };
        let (at, other, word) =
            if self.is_set(low.0) || !self.is_set(high.0) { (&low, &high, down) } else { (&high, &low, up) };
        let message = format!("{} must be {word} {} ({})", at.1, self.spell(other.0), other.1);
        self.refuse(at.0, message, None);
    }

    pub(crate) fn is_refused(&self, name: &str) -> bool {
        let key = self.spell(name);
        self.walk.problems.iter().any(|problem| problem.key == key)
    }

    /// Whether anything in this section was refused.
    pub(crate) fn has_problem(&self) -> bool {
        let within = |problem: &Problem| problem.key.starts_with(&format!("{}.", self.path));
        self.walk.problems.iter().any(within)
    }

    fn read<F: Form>(&mut self, name: &str, form: &F) -> Option<F::Value> {
        let setting = self.walk.settings.get(&self.path.child(name))?;
        match form.parse(&setting.raw) {
            Ok(value) => Some(value),
            Err(Faults(faults)) => {
                for fault in faults {
                    self.refuse(name, fault.message, fault.hint);
                }
                None
            }
        }
    }

    fn note<F: Form>(&mut self, name: &str, docs: Docs, form: &F, preset: Preset) {
        let path = self.path.child(name);
        self.walk.entries.push(Entry {
            path,
            docs,
            accepts: form.accepts(),
            is_secret: form.is_secret(),
            preset,
        });
    }
}

/// How a field gets its value during a walk.
pub(crate) trait Spec {
    type Value;

    fn take(self, docs: Docs, section: &mut Section<'_>) -> Self::Value;
}

/// A section that can be read.
pub(crate) trait Read {
    fn read(section: &mut Section<'_>) -> Self;
}

/// The documented defaults of a section.
pub(crate) fn defaults<R: Read>() -> R {
    R::read(&mut Walk::default().root())
}

/// A key with a default.
pub(crate) struct Key<F: Form> {
    name: &'static str,
    form: F,
    default: F::Value,
    words: Option<&'static str>,
}

pub(crate) fn key<F: Form>(name: &'static str, form: F, default: F::Value) -> Key<F> {
    Key { name, form, default, words: None }
}

impl<F: Form> Key<F> {
    /// Marks a default that gives way to other keys; `words` say how.
    pub(crate) fn yielding(self, words: &'static str) -> Self {
        Self { words: Some(words), ..self }
    }
}

impl<F: Form> Spec for Key<F> {
    type Value = F::Value;

    fn take(self, docs: Docs, section: &mut Section<'_>) -> F::Value {
        let Self { name, form, default, words } = self;
        section.note(name, docs, &form, Preset { value: Some(form.show(&default)), words });
        section.read(name, &form).unwrap_or(default)
    }
}

/// A key that nothing stands in for.
pub(crate) struct Unset<F>(&'static str, F, &'static str);

/// A key without a default; `absent` says in a few words what holds while it is not set.
pub(crate) fn unset<F: Form>(name: &'static str, form: F, absent: &'static str) -> Unset<F> {
    Unset(name, form, absent)
}

impl<F: Form> Spec for Unset<F> {
    type Value = Option<F::Value>;

    fn take(self, docs: Docs, section: &mut Section<'_>) -> Self::Value {
        let Self(name, form, absent) = self;
        section.note(name, docs, &form, Preset { value: None, words: Some(absent) });
        section.read(name, &form)
    }
}

/// A section within a section, and the check of its relations.
pub(crate) struct Nested<R>(&'static str, fn(R, &mut Section<'_>) -> R);

pub(crate) fn nested<R: Read>(name: &'static str) -> Nested<R> {
    Nested(name, |value, _| value)
}

/// A section whose keys depend on one another; `check` settles or refuses what they say together.
pub(crate) fn nested_checked<R: Read>(name: &'static str, check: fn(R, &mut Section<'_>) -> R) -> Nested<R> {
    Nested(name, check)
}

impl<R: Read> Spec for Nested<R> {
    type Value = R;

    fn take(self, docs: Docs, section: &mut Section<'_>) -> R {
        let mut child = section.child(self.0);
        child.introduce(docs);
        let value = R::read(&mut child);
        (self.1)(value, &mut child)
    }
}

/// Fields that several sections share, read as if they were written in each of them.
pub(crate) struct Shared<R>(PhantomData<R>);

pub(crate) fn shared<R: Read>() -> Shared<R> {
    Shared(PhantomData)
}

impl<R: Read> Spec for Shared<R> {
    type Value = R;

    fn take(self, _: Docs, section: &mut Section<'_>) -> R {
        R::read(section)
    }
}
