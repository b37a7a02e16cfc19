//! Finds unsigned parameters and headers that select the operation (A8).

use std::borrow::Cow;

use tidegate_s3::sigv4::query::{decoded_name, pairs};

use super::table::{self, COMMON_PARAMETERS};
use super::{ConfigureCause, Operation, headers};
use crate::request_head::Head;

impl Operation<'_> {
    /// The first header that needs `configure`, or parameter that selects the operation, that the signature does not cover. If the request
    /// is not in the table of operations, every parameter counts as selecting. `covers` takes the name of a parameter or header.
    ///
    /// Every privileged header is checked: a proxy could add an unsigned one to a request with a signed one.
    pub(in crate::auth) fn first_unsigned<'a>(
        &self,
        head: Head<'a>,
        query: &'a str,
        covers: impl Fn(&str) -> bool,
    ) -> Option<Cow<'a, str>> {
        let mut privileged = headers::privileged_header(head.method, head.headers, query);
        if let Some(name) = privileged.find(|name| !covers(name)) {
            return Some(name);
        }
        let is_unlisted = !matches!(self.configure_cause, None | Some(ConfigureCause::Header(_)));
        let selects = |name: &str| {
            table::sub_resource(name).is_some() || (is_unlisted && !COMMON_PARAMETERS.contains(&name))
        };
        let mut names = pairs(query).filter(|pair| !pair.is_empty()).map(decoded_name);
        names.find(|name| selects(name) && !covers(name))
    }
}
