//! What a client key may do: buckets, prefixes, methods (A5).
//!
//! A policy only ever allows, and what it does not name is denied; so the order of policies, keys and buckets means
//! nothing. Every part but the prefixes must be written out: an empty list that meant "all" would turn a deleted line
//! into a grant. Deliberately absent: denials, conditions and variables.

use std::collections::BTreeMap;

use crate::bucket::{BucketConfig, Glob, Pattern};
use crate::form::{Choice, Fault, Faults, Form, list, shown};
use crate::hint;
use crate::section::section;
use crate::setting::Raw;
use crate::walk::{Read as _, Section, key};

/// What a request does, as far as a policy tells requests apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// objects and their metadata
    Read,
    /// create and replace objects, multipart uploads included
    Write,
    /// delete objects
    Delete,
    /// list a bucket
    List,
    /// everything else: create and delete buckets, change their rules, ACLs and object locks, and parameters that belong to no
    /// operation of S3
    Configure,
}

impl Access {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Read, Self::Write, Self::Delete, Self::List, Self::Configure];

    /// What this word of a configuration means.
    pub fn parse(word: &str) -> Option<Self> {
        ACCESS.0.iter().find(|(known, _)| *known == word).map(|(_, access)| *access)
    }
}

pub(crate) const ACCESS: Choice<Access> = Choice(&[
    ("read", Access::Read),
    ("write", Access::Write),
    ("delete", Access::Delete),
    ("list", Access::List),
    ("configure", Access::Configure),
]);

section! {
    /// What those who have this policy may do.
    pub struct PolicyConfig {
        /// bucket names, as clients use them; `*` stands for any run of characters but `:`, so that it reaches no other tenant
        pub buckets: Vec<Pattern> = key("buckets", list(Glob), Vec::new()).yielding("required");
        /// beginnings of the keys that it is about; with any, buckets are listed only below one of them
        pub prefixes: Vec<String> = key("prefixes", list(KeyPrefix), Vec::new()).yielding("all keys");
        /// what may be done
        pub methods: Vec<Access> = key("methods", list(ACCESS), Vec::new()).yielding("required");
    }
}

/// The beginning of an object's key.
struct KeyPrefix;

impl Form for KeyPrefix {
    type Value = String;

    fn parse(&self, raw: &Raw) -> Result<String, Faults> {
        let text = raw.text()?;
        let fault = if text.is_empty() {
            Fault::new("holds an empty prefix").hinting("leave prefixes out to allow all keys")
        } else if text.starts_with('/') {
            Fault::new(format!("{} begins with a slash", shown(text)))
                .hinting("keys begin after the bucket's slash")
        } else {
            return Ok(text.to_owned());
        };
        Err(fault.into())
    }

    fn accepts(&self) -> String {
        "beginning of a key, such as `public/`".to_owned()
    }

    fn show(&self, value: &String) -> String {
        shown(value)
    }
}

/// Reads the map of policies.
pub(crate) fn read(
    section: &mut Section<'_>,
    buckets: &BTreeMap<String, BucketConfig>,
) -> BTreeMap<String, PolicyConfig> {
    let mut policies = BTreeMap::new();
    for name in section.names() {
        let mut child = section.child(&name);
        child.introduce(&[" what client keys may do; a key names its policy"]);
        let policy = PolicyConfig::read(&mut child);
        for (part, is_empty, hint) in [
            ("buckets", policy.buckets.is_empty(), "name buckets, or * for all"),
            (
                "methods",
                policy.methods.is_empty(),
                "name what may be done: read, write, delete, list, configure",
            ),
        ] {
            if is_empty && !child.is_refused(part) {
                child.refuse(part, "a policy without it allows nothing", Some(hint.to_owned()));
            }
        }
        check_buckets(&mut child, &policy, buckets);
        policies.insert(name, policy);
    }
    policies
}

/// A name that no bucket has is a slip of the pen; a glob may be for buckets to come.
fn check_buckets(section: &mut Section<'_>, policy: &PolicyConfig, buckets: &BTreeMap<String, BucketConfig>) {
    for name in policy.buckets.iter().filter(|pattern| pattern.is_exact()).map(Pattern::as_str) {
        let mut served = buckets.values().map(|bucket| &bucket.pattern);
        if !served.any(|pattern| pattern.matches(name)) {
            let patterns = || buckets.values().map(|bucket| bucket.pattern.as_str());
            // a bucket's name in the configuration is not what clients call it
            let of_named = || hint::nearest(name, buckets.keys()).map(|near| buckets[near].pattern.as_str());
            let near = hint::nearest(name, patterns()).or_else(of_named);
            let hint = near.map(|near| format!("did you mean {near}?"));
            section.refuse("buckets", format!("no bucket serves the name {}", shown(name)), hint);
        }
    }
}
