//! Reads the operation from a query: the sub-resource, and whether the operation has every other parameter.
//!
//! Stores disagree on unusual queries. A query that two stores could read differently is either conflicting or not in the table:
//! - a repeated sub-resource, or two of them: each store uses the one that it looks for first;
//! - an empty `uploadId`: RGW reads it as absent, so `DELETE ?uploadId=` deletes the object;
//! - a malformed escape: RGW drops the whole pair;
//! - a sub-resource after a raw `;`: older parsers split at `;`.

use std::borrow::Cow;
use std::iter;

use tidegate_s3::sigv4::query::{decoded_bytes, decoded_name, is_presign_parameter, pairs, value_of};

use super::table::{self, COMMON_PARAMETERS, ResourceKind, Row, UPLOAD_ID};
use super::{ConfigureCause, headers};

/// The operation that a query selects.
pub(super) enum OperationMatch {
    /// An operation of the table.
    Row(&'static Row),
    /// No operation.
    Unlisted(ConfigureCause),
}

/// Finds the operation that method, subject and query select.
pub(super) fn find_operation(method: &str, subject: ResourceKind, query: &str) -> OperationMatch {
    let mut sub_resources =
        pairs(query).filter_map(|pair| Some((table::sub_resource(&decoded_name(pair))?, pair)));
    let (sub_resource, other) = (sub_resources.next(), sub_resources.next());
    if let (Some((first, _)), Some((second, _))) = (sub_resource, other) {
        let rows = [first, second].into_iter().filter_map(|name| table::find(method, subject, Some(name)));
        let accesses = rows.map(|row| row.access).collect();
        return OperationMatch::Unlisted(ConfigureCause::ConflictingParameters([first, second], accesses));
    }
    let name = sub_resource.map(|(name, _)| name);
    let row = table::find(method, subject, name);
    let unlisted = |name: &str| {
        OperationMatch::Unlisted(ConfigureCause::Parameter {
            name: name.to_owned(),
            operation: row.map(|row| row.name),
        })
    };
    if let Some((name, pair)) = sub_resource
        && (row.is_none()
            || has_malformed_escape(pair)
            || (name == UPLOAD_ID && decoded_value(pair).is_empty()))
    {
        return unlisted(name);
    }
    let parameters = row.map_or(&[][..], |row| row.parameters);
    for pair in pairs(query).filter(|pair| !pair.is_empty() && !is_presign_parameter(pair)) {
        if let Some(sub_resource) = sub_resource_after_semicolon(pair) {
            return unlisted(sub_resource);
        }
        let parameter = decoded_name(pair);
        let is_listed = name == Some(&*parameter) || parameters.contains(&&*parameter);
        if !is_listed && !COMMON_PARAMETERS.contains(&&*parameter) && !headers::is_hoisted(&parameter) {
            return unlisted(&parameter);
        }
    }
    row.map_or(OperationMatch::Unlisted(ConfigureCause::Method), OperationMatch::Row)
}

/// The prefixes that any store could read in a listing's query. A store that drops a malformed pair lists everything, so such a pair
/// counts as the empty prefix. A store that splits at `;` reads a prefix in each piece.
pub(super) fn prefixes(query: &str) -> Vec<Vec<u8>> {
    let read =
        |pair: &str| if has_malformed_escape(pair) { Vec::new() } else { decoded_value(pair).into_owned() };
    let pieces = |pair| {
        Some(pair).filter(|pair: &&str| pair.contains(';')).into_iter().flat_map(|pair| pair.split(';'))
    };
    let all = pairs(query).flat_map(|pair| iter::once(pair).chain(pieces(pair)));
    all.filter(|piece| decoded_name(piece) == "prefix").map(read).collect()
}

/// The percent-decoded value of a pair.
pub(super) fn decoded_value(pair: &str) -> Cow<'_, [u8]> {
    decoded_bytes(value_of(pair))
}

/// Whether a `%` does not start an escape of two hexadecimal digits.
fn has_malformed_escape(pair: &str) -> bool {
    let is_escape = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    pair.split('%').skip(1).any(|rest| !is_escape(rest))
}

/// The sub-resource that a parser that splits at `;` finds in a pair.
fn sub_resource_after_semicolon(pair: &str) -> Option<&'static str> {
    pair.split(';').skip(1).find_map(|piece| table::sub_resource(&decoded_name(piece)))
}
