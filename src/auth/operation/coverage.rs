//! What of a request decides its operation and a signature may leave out.

use std::borrow::Cow;

use super::table::{self, ANYWHERE};
use super::{Exception, Operation};
use crate::s3::sigv4::query::{name_of, pairs};

impl Operation<'_> {
    /// The first name that the operation rests on and that a signature does not cover: a sub-resource, or anything for which the
    /// request is not in the table of operations. `covers` is asked for the names of parameters and headers.
    pub(in crate::auth) fn uncovered<'a>(
        &'a self,
        query: &'a str,
        covers: impl Fn(&str) -> bool,
    ) -> Option<Cow<'a, str>> {
        if let Some(Exception::Header(name)) = &self.exception
            && !covers(name)
        {
            return Some(Cow::Borrowed(name));
        }
        let is_unlisted = !matches!(self.exception, None | Some(Exception::Header(_)));
        let decides =
            |name: &str| table::sub_resource(name).is_some() || (is_unlisted && !ANYWHERE.contains(&name));
        let mut names = pairs(query).filter(|pair| !pair.is_empty()).map(name_of);
        names.find(|name| decides(name) && !covers(name))
    }
}
