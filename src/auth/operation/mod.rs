//! The operation of a request, as far as policies distinguish operations, read from the head.
//!
//! ```text
//! method, path, query ── query.rs ──> a row of table.rs: access and keys
//!                                 ├─> no row: needs `configure`, and the refusal names the parameter
//!                                 └─> two sub-resources: refused
//! headers ────────────── headers.rs ─> ACLs, grants and overrides need `configure` as well
//! ```
//!
//! Deliberately absent: a model of what an operation does at the store, and its body, apart from the keys of a multi-delete
//! (`multi_delete.rs`). A request to an `http` bucket has no sub-resources: its method decides.

mod coverage;
mod headers;
mod query;
mod table;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use actix_web::http::Method;
use tidegate_actors::OperationClass;
use tidegate_config::{Access, Kind};

use crate::http::edge::{Head, decode};
use query::Selected;
use table::{Row, Scope, Subject};

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation<'a> {
    pub(crate) access: Access,
    pub(crate) on: On<'a>,
    /// Why it is not an operation of the table.
    pub(super) exception: Option<Exception>,
    class: OperationClass,
}

/// What an operation is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum On<'a> {
    /// One object.
    Key(Cow<'a, [u8]>),
    /// The keys that begin with each of these; with none, all keys.
    Listing(Vec<Vec<u8>>),
    /// Keys that the body lists.
    Keys,
    /// The bucket itself, or keys that the head does not name.
    Bucket,
}

/// Why a request is not an operation of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Exception {
    /// A parameter that the operation does not have.
    Parameter {
        /// The parameter's name, as it decodes.
        name: String,
        /// S3's name of the operation; none where the parameter belongs to none with this method.
        operation: Option<&'static str>,
    },
    /// This header needs `configure`.
    Header(String),
    /// No operation has this method.
    Method,
    /// Two sub-resources select two operations, which need these accesses.
    Contradiction([&'static str; 2], Vec<Access>),
}

impl<'a> Operation<'a> {
    /// Reads an operation; `query` is without what proves an identity here, `rest` the path behind the bucket's name, with
    /// its slash.
    pub(crate) fn of(head: Head<'_>, query: &str, kind: Kind, rest: &'a str) -> Self {
        let key = rest.strip_prefix('/').unwrap_or(rest);
        let key = match key.contains('%') {
            true => Cow::Owned(decode(key.as_bytes())),
            false => Cow::Borrowed(key.as_bytes()),
        };
        let method = head.method;
        if kind == Kind::Http {
            return Self::new(plain(method), On::Key(key));
        }
        let subject = if key.is_empty() { Subject::Bucket } else { Subject::Object };
        let mut operation = match query::select(method.as_str(), subject, query) {
            Selected::Row(row) => Self::listed(row, key, query),
            Selected::Unlisted(exception) => Self::unlisted(method, key, exception),
        };
        if operation.exception.is_none()
            && let Some(name) = headers::privileged(method, head.headers, query).next()
        {
            operation.access = Access::Configure;
            operation.exception = Some(Exception::Header(name.into_owned()));
        }
        operation
    }

    /// An operation of the table. `class` follows from `access`.
    pub(super) fn new(access: Access, on: On<'a>) -> Self {
        Self { access, on, exception: None, class: class(access) }
    }

    /// The read of a copy's source.
    pub(crate) fn read(key: &'a [u8]) -> Self {
        Self::new(Access::Read, On::Key(key.into()))
    }

    /// Which of a store's circuits it belongs to.
    pub(crate) fn class(&self) -> OperationClass {
        self.class
    }

    /// The same keys with another access.
    pub(super) fn with_access(&self, access: Access) -> Self {
        Self::new(access, self.on.clone())
    }

    fn listed(row: &Row, key: Cow<'a, [u8]>, query: &str) -> Self {
        let on = match row.scope {
            Scope::Key => On::Key(key),
            Scope::Prefix => On::Listing(query::prefixes(query)),
            Scope::Body => On::Keys,
            Scope::Bucket => On::Bucket,
        };
        Self::new(row.access, on)
    }

    fn unlisted(method: &Method, key: Cow<'a, [u8]>, exception: Exception) -> Self {
        // A store may take any POST for a form, and the fields of a form name its key.
        let names_key = !key.is_empty() && *method != Method::POST;
        let class = if names_key { class(plain(method)) } else { OperationClass::Write };
        let on = if names_key { On::Key(key) } else { On::Bucket };
        Self { access: Access::Configure, on, exception: Some(exception), class }
    }
}

/// What a method does where it alone decides.
fn plain(method: &Method) -> Access {
    match *method {
        Method::GET | Method::HEAD => Access::Read,
        Method::DELETE => Access::Delete,
        _ => Access::Write,
    }
}

/// Everything but reading and listing is work of a store's write path.
fn class(access: Access) -> OperationClass {
    match access {
        Access::Read => OperationClass::Read,
        Access::List => OperationClass::List,
        Access::Write | Access::Delete | Access::Configure => OperationClass::Write,
    }
}
