//! Policies: the buckets, key prefixes and operations that a client key may use (A5).
//!
//! A policy only allows. Everything that it does not list is denied, so the order of policies, keys and buckets has no effect.
//! `buckets` and `methods` are required: if an empty list meant "all", a deleted line would become a grant. There are no deny rules,
//! conditions or variables.

use std::collections::BTreeMap;

use crate::bucket::{BucketConfig, Glob, Pattern};
use crate::hint;
use crate::schema::{Read as _, Section, key};
use crate::section::section;
use crate::setting::Raw;
use crate::value_type::{Choice, ValueError, ValueErrors, ValueType, list, quoted, toml_text};

/// The class of operations that a policy allows.
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
    /// all other operations: create and delete buckets, change their rules, ACLs and object locks, and requests with parameters
    /// that belong to no operation of S3
    Configure,
}

impl Access {
    /// All classes.
    pub const ALL: [Self; 5] = [Self::Read, Self::Write, Self::Delete, Self::List, Self::Configure];

    /// The class with this name in a configuration.
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
    /// The rights that a policy grants.
    pub struct PolicyConfig {
        /// bucket names as clients use them; `*` matches any characters except `:`
        ///
        /// A `*` therefore matches no bucket of another tenant.
        pub buckets: Vec<Pattern> = key("buckets", list(Glob), Vec::new()).default_text("required");
        /// prefixes of the object keys that it allows; listings must then be below one of them
        pub prefixes: Vec<String> = key("prefixes", list(KeyPrefix), Vec::new()).default_text("all keys");
        /// operations that it allows
        ///
        /// `read`: objects and their metadata. `write`: create and replace objects, multipart uploads included. `delete`: delete objects.
        /// `list`: list a bucket. `configure`: all other operations, such as rules, ACLs, object locks, and buckets themselves.
        pub methods: Vec<Access> = key("methods", list(ACCESS), Vec::new()).default_text("required");
    }
}

/// A prefix of object keys.
struct KeyPrefix;

impl ValueType for KeyPrefix {
    type Value = String;

    fn parse(&self, raw: &Raw) -> Result<String, ValueErrors> {
        let text = raw.text()?;
        let error = if text.is_empty() {
            ValueError::new("has an empty prefix").with_hint("remove prefixes to allow all keys")
        } else if text.starts_with('/') {
            ValueError::new(format!("{} begins with a slash", quoted(text)))
                .with_hint("object keys begin after the slash that follows the bucket")
        } else {
            return Ok(text.to_owned());
        };
        Err(error.into())
    }

    fn accepts(&self) -> String {
        "prefix such as `public/`".to_owned()
    }

    fn to_toml(&self, value: &String) -> String {
        toml_text(value)
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
        child.document(&[" a policy: the rights of the client keys that name it"]);
        let policy = PolicyConfig::read(&mut child);
        for (part, is_empty, hint) in [
            ("buckets", policy.buckets.is_empty(), "list the buckets, or * for all"),
            (
                "methods",
                policy.methods.is_empty(),
                "list the operations: read, write, delete, list, configure",
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

/// Rejects a bucket name that no bucket serves: it is a typing error. A glob may be meant for buckets of the future.
fn check_buckets(section: &mut Section<'_>, policy: &PolicyConfig, buckets: &BTreeMap<String, BucketConfig>) {
    for name in policy.buckets.iter().filter(|pattern| pattern.is_exact()).map(Pattern::as_str) {
        let mut served = buckets.values().map(|bucket| &bucket.pattern);
        if !served.any(|pattern| pattern.matches(name)) {
            let patterns = || buckets.values().map(|bucket| bucket.pattern.as_str());
            // the name of the section may differ from the name that clients use
            let of_named = || hint::nearest(name, buckets.keys()).map(|near| buckets[near].pattern.as_str());
            let near = hint::nearest(name, patterns()).or_else(of_named);
            let hint = near.map(|near| format!("did you mean {near}?"));
            section.refuse("buckets", format!("no bucket serves the name {}", quoted(name)), hint);
        }
    }
}
