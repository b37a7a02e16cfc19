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

use crate::http::request_validation::{Head, percent_decode};
use query::OperationMatch;
use table::{KeyScope, ResourceKind, Row};

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation<'a> {
    pub(crate) access: Access,
    pub(crate) resource: Resource<'a>,
    /// Why it is not an operation of the table.
    pub(super) configure_cause: Option<ConfigureCause>,
    class: OperationClass,
}

/// What an operation is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resource<'a> {
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
pub(crate) enum ConfigureCause {
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
    ConflictingParameters([&'static str; 2], Vec<Access>),
}

impl<'a> Operation<'a> {
    /// Reads an operation; `query` is without what proves an identity here, `rest` the path behind the bucket's name, with
    /// its slash.
    pub(crate) fn from_request(head: Head<'_>, query: &str, kind: Kind, rest: &'a str) -> Self {
        let key = rest.strip_prefix('/').unwrap_or(rest);
        let key = match key.contains('%') {
            true => Cow::Owned(percent_decode(key.as_bytes())),
            false => Cow::Borrowed(key.as_bytes()),
        };
        let method = head.method;
        if kind == Kind::Http {
            return Self::new(access_of_method(method), Resource::Key(key));
        }
        let subject = if key.is_empty() { ResourceKind::Bucket } else { ResourceKind::Object };
        let mut operation = match query::find_operation(method.as_str(), subject, query) {
            OperationMatch::Row(row) => Self::from_row(row, key, query),
            OperationMatch::Unlisted(exception) => Self::unlisted(method, key, exception),
        };
        if operation.configure_cause.is_none()
            && let Some(name) = headers::privileged_header(method, head.headers, query).next()
        {
            operation.access = Access::Configure;
            operation.configure_cause = Some(ConfigureCause::Header(name.into_owned()));
        }
        operation
    }

    /// An operation of the table. `class` follows from `access`.
    pub(super) fn new(access: Access, resource: Resource<'a>) -> Self {
        Self { access, resource, configure_cause: None, class: class_of_access(access) }
    }

    /// The read of a copy's source.
    pub(crate) fn get_object(key: &'a [u8]) -> Self {
        Self::new(Access::Read, Resource::Key(key.into()))
    }

    /// Which of a store's circuits it belongs to.
    pub(crate) fn class(&self) -> OperationClass {
        self.class
    }

    /// The same keys with another access.
    pub(super) fn with_access(&self, access: Access) -> Self {
        Self::new(access, self.resource.clone())
    }

    fn from_row(row: &Row, key: Cow<'a, [u8]>, query: &str) -> Self {
        let on = match row.scope {
            KeyScope::Key => Resource::Key(key),
            KeyScope::Prefix => Resource::Listing(query::prefixes(query)),
            KeyScope::Body => Resource::Keys,
            KeyScope::Bucket => Resource::Bucket,
        };
        Self::new(row.access, on)
    }

    fn unlisted(method: &Method, key: Cow<'a, [u8]>, exception: ConfigureCause) -> Self {
        // A store may take any POST for a form, and the fields of a form name its key.
        let names_key = !key.is_empty() && *method != Method::POST;
        let class = if names_key { class_of_access(access_of_method(method)) } else { OperationClass::Write };
        let resource = if names_key { Resource::Key(key) } else { Resource::Bucket };
        Self { access: Access::Configure, resource, configure_cause: Some(exception), class }
    }
}

/// What a method does where it alone decides.
fn access_of_method(method: &Method) -> Access {
    match *method {
        Method::GET | Method::HEAD => Access::Read,
        Method::DELETE => Access::Delete,
        _ => Access::Write,
    }
}

/// Everything but reading and listing is work of a store's write path.
fn class_of_access(access: Access) -> OperationClass {
    match access {
        Access::Read => OperationClass::Read,
        Access::List => OperationClass::List,
        Access::Write | Access::Delete | Access::Configure => OperationClass::Write,
    }
}
