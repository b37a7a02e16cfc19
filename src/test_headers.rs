//! Headers for unit tests.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

/// A map with these headers, in this order.
pub(crate) fn headers(pairs: &[(impl AsRef<str>, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_ref().as_bytes()).unwrap();
        map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    map
}
