//! Finds parameters and headers that select the operation but are not signed.

use std::borrow::Cow;

use super::table::{self, ANYWHERE};
use super::{Exception, Operation, headers};
use crate::http::edge::Head;
use crate::s3::sigv4::query::{name_of, pairs};

impl Operation<'_> {
    /// The first header that needs `configure`, or parameter that selects the operation, and that a signature does not cover. Where the
    /// request is not in the table of operations, every parameter selects. `covers` is asked for the names of parameters and headers.
    ///
    /// Every privileged header is checked: beside one that is covered, another can be added on the way.
    pub(in crate::auth) fn uncovered<'a>(
        &self,
        head: Head<'a>,
        query: &'a str,
        covers: impl Fn(&str) -> bool,
    ) -> Option<Cow<'a, str>> {
        let mut privileged = headers::privileged(head.method, head.headers, query);
        if let Some(name) = privileged.find(|name| !covers(name)) {
            return Some(name);
        }
        let is_unlisted = !matches!(self.exception, None | Some(Exception::Header(_)));
        let decides =
            |name: &str| table::sub_resource(name).is_some() || (is_unlisted && !ANYWHERE.contains(&name));
        let mut names = pairs(query).filter(|pair| !pair.is_empty()).map(name_of);
        names.find(|name| decides(name) && !covers(name))
    }
}
