//! Pairs of a `Cookie` header (RFC 6265, 4.2).

use std::borrow::Cow;

use actix_web::http::header::HeaderValue;

/// The cookie of a session at the admin listener. A browser sends it to every port of a host, so the data listener
/// receives it too. It is never forwarded: a reader of the upstream's logs could use it.
pub(crate) const ADMIN_SESSION: &str = "tidegate_admin";

/// The value of a cookie pair, if the cookie has this name.
pub(super) fn cookie_value<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let pair = pair.trim_ascii();
    let value = pair.strip_prefix(name.as_bytes())?.trim_ascii_start().strip_prefix(b"=")?.trim_ascii();
    let inner = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    Some(inner.unwrap_or(value))
}

/// The header without the cookies of this name; none if no other cookie is left.
pub(super) fn without_cookie<'a>(value: &'a HeaderValue, name: &str) -> Option<Cow<'a, HeaderValue>> {
    let bytes = value.as_bytes();
    if memchr::memmem::find(bytes, name.as_bytes()).is_none() {
        return Some(Cow::Borrowed(value));
    }
    let all: Vec<&[u8]> = bytes.split(|byte| *byte == b';').collect();
    let kept: Vec<&[u8]> = all.iter().filter(|pair| cookie_value(pair, name).is_none()).copied().collect();
    if kept.len() == all.len() {
        return Some(Cow::Borrowed(value));
    }
    let rest = kept.join(&b';');
    HeaderValue::from_bytes(rest.trim_ascii()).ok().filter(|rest| !rest.is_empty()).map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A2, C4: only the cookies of the name are removed
    #[test]
    fn cookies_of_one_name_are_removed() {
        let left = |value: &'static str| {
            let value = HeaderValue::from_static(value);
            without_cookie(&value, ADMIN_SESSION).map(|left| left.to_str().unwrap().to_owned())
        };
        for (value, expected) in [
            ("a=1; tidegate_admin=x; b=2", Some("a=1; b=2")),
            ("tidegate_admin=x; a=1", Some("a=1")),
            ("tidegate_admin=x;tidegate_admin=\"y\"", None),
            ("a=tidegate_admin=x; tidegate_admins=1", Some("a=tidegate_admin=x; tidegate_admins=1")),
            ("a=1", Some("a=1")),
            ("", Some("")),
        ] {
            assert_eq!(left(value).as_deref(), expected, "{value}");
        }
    }
}
