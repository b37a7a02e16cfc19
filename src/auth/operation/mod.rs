//! Reads the operation of a request from its head, as far as policies distinguish operations (A5, V11).
//!
//! ```text
//! method, path, query ── query.rs ──> a row of table.rs: access and keys
//!                                 ├─> no row: needs `configure`, and the error names the parameter
//!                                 └─> two sub-resources: rejected
//! headers ────────────── headers.rs ─> ACLs, grants and overrides need `configure` as well
//! ```
//!
//! It does not model what an operation does at the store, and does not read the body, except for the keys of a multi-delete
//! (`auth/multi_delete.rs`). A request to an `http` bucket has no sub-resources: its method alone determines the access.

mod coverage;
mod headers;
mod query;
mod table;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use actix_web::http::Method;
use query::OperationMatch;
use table::{KeyScope, ResourceKind, Row};
use tidegate_actors::OperationClass;
use tidegate_config::{Access, Kind};
use tidegate_s3::percent::percent_decode;

use crate::request_head::Head;

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation<'a> {
    pub(crate) access: Access,
    pub(crate) resource: Resource<'a>,
    /// Why the request is not an operation of the table; none if it is one.
    pub(super) configure_cause: Option<ConfigureCause>,
    class: OperationClass,
}

/// The keys that an operation applies to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resource<'a> {
    /// One object.
    Key(Cow<'a, [u8]>),
    /// The keys with any of these prefixes; all keys if there is no prefix.
    Listing(Vec<Vec<u8>>),
    /// The keys that the body lists.
    Keys,
    /// The bucket itself, or keys that the head does not name.
    Bucket,
}

/// Why a request is not an operation of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConfigureCause {
    /// A parameter that the operation does not have.
    Parameter {
        /// The parameter's percent-decoded name.
        name: String,
        /// S3's name of the operation; none if no operation with this method has the parameter.
        operation: Option<&'static str>,
    },
    /// This header needs `configure`.
    Header(String),
    /// No operation has this method.
    Method,
    /// Two sub-resources select two operations. The second field has the accesses that these operations need.
    ConflictingParameters([&'static str; 2], Vec<Access>),
}

impl<'a> Operation<'a> {
    /// Reads an operation. `query` is the query without authentication parameters, `rest` the path after the bucket's name, with its
    /// slash.
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
            OperationMatch::Unlisted(cause) => Self::unlisted(method, key, cause),
        };
        if operation.configure_cause.is_none()
            && let Some(name) = headers::privileged_header(method, head.headers, query).next()
        {
            operation.access = Access::Configure;
            operation.configure_cause = Some(ConfigureCause::Header(name.into_owned()));
        }
        operation
    }

    /// An operation of the table. `access` determines its class.
    pub(super) fn new(access: Access, resource: Resource<'a>) -> Self {
        Self { access, resource, configure_cause: None, class: class_of_access(access) }
    }

    /// The read of a copy source.
    pub(crate) fn get_object(key: &'a [u8]) -> Self {
        Self::new(Access::Read, Resource::Key(key.into()))
    }

    /// The operation class of the store's circuit.
    pub(crate) fn class(&self) -> OperationClass {
        self.class
    }

    /// The same keys with another access.
    pub(super) fn with_access(&self, access: Access) -> Self {
        Self::new(access, self.resource.clone())
    }

    fn from_row(row: &Row, key: Cow<'a, [u8]>, query: &str) -> Self {
        let resource = match row.scope {
            KeyScope::Key => Resource::Key(key),
            KeyScope::Prefix => Resource::Listing(query::prefixes(query)),
            KeyScope::Body => Resource::Keys,
            KeyScope::Bucket => Resource::Bucket,
        };
        Self::new(row.access, resource)
    }

    fn unlisted(method: &Method, key: Cow<'a, [u8]>, cause: ConfigureCause) -> Self {
        // A store may handle any POST as a form, and a form's fields name its key.
        let names_key = !key.is_empty() && *method != Method::POST;
        let class = if names_key { class_of_access(access_of_method(method)) } else { OperationClass::Write };
        let resource = if names_key { Resource::Key(key) } else { Resource::Bucket };
        Self { access: Access::Configure, resource, configure_cause: Some(cause), class }
    }
}

/// The access that a method needs if the method alone determines it.
fn access_of_method(method: &Method) -> Access {
    match *method {
        Method::GET | Method::HEAD => Access::Read,
        Method::DELETE => Access::Delete,
        _ => Access::Write,
    }
}

/// Everything except reading and listing uses a store's write path.
fn class_of_access(access: Access) -> OperationClass {
    match access {
        Access::Read => OperationClass::Read,
        Access::List => OperationClass::List,
        Access::Write | Access::Delete | Access::Configure => OperationClass::Write,
    }
}
