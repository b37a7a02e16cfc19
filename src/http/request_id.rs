//! The request's ID (O1): the client's if it is valid, else a random one.

use std::cell::RefCell;

use actix_web::http::header::HeaderValue;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::request_head::HeaderView;
use crate::upstream::headers::names::REQUEST_ID;

const LENGTH_MAX: usize = 128;

thread_local! {
    static RANDOM: RefCell<SmallRng> = RefCell::new(SmallRng::from_os_rng());
}

/// Keeps a client's ID of letters, digits, `-`, `_` and `.`, or generates one of 16 hexadecimal digits.
pub(crate) fn of(headers: HeaderView<'_>) -> HeaderValue {
    if let Some(given) = headers.values(&REQUEST_ID).next()
        && is_valid(given.as_bytes())
    {
        return given.clone();
    }
    generate()
}

/// Whether an ID has 1 to 128 letters, digits, `-`, `_` and `.`.
pub(crate) fn is_valid(id: &[u8]) -> bool {
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !id.is_empty() && id.len() <= LENGTH_MAX && id.iter().all(legal)
}

fn generate() -> HeaderValue {
    let random: u64 = RANDOM.with_borrow_mut(Rng::random);
    let mut digits = [0; 16];
    // Eight bytes need exactly 16 digits.
    let encoded = hex::encode_to_slice(random.to_be_bytes(), &mut digits).is_ok();
    let value = if encoded { HeaderValue::from_bytes(&digits).ok() } else { None };
    value.unwrap_or_else(|| HeaderValue::from_static("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// O1
    #[test]
    fn only_a_valid_id_is_kept() {
        let of_given = |given: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_static(given));
            of(HeaderView::of(&headers)).to_str().unwrap().to_owned()
        };
        assert_eq!(of_given("abc-1_2.X"), "abc-1_2.X");
        for bad in ["", "a b", "a\"b", "a,b"] {
            let generated = of_given(bad);
            assert!(generated != bad && generated.len() == 16, "{bad} -> {generated}");
        }
        assert_ne!(generate(), generate());
    }
}
