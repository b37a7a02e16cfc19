//! Fuzz target `operations`: the access that a request needs, by its method and query.

use actix_web::http::header::HeaderMap;
use actix_web::http::{Method, Uri, Version};
use tidegate_config::{Access, Kind};

use crate::auth::Operation;
use crate::fuzz_input::Input;
use crate::request_head::Head;

const METHODS: [Method; 8] = [
    Method::GET,
    Method::HEAD,
    Method::PUT,
    Method::POST,
    Method::DELETE,
    Method::OPTIONS,
    Method::PATCH,
    Method::TRACE,
];
/// The maximum number of parameters in a query. More make the comparisons slow and cover nothing new.
const PAIRS_MAX: usize = 12;

/// Properties: every request has an access; it is the same for every spelling and order of the parameters; only some methods have the
/// accesses `read`, `list` and `delete`; and with an unknown parameter or two sub-resources the access is `configure`.
pub fn operations(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let method = &METHODS[usize::from(input.byte()) % METHODS.len()];
    let key = input.text(is_path);
    let query = input.rest().iter().copied().filter(is_query).map(char::from).collect::<String>();
    let pairs: Vec<&str> = query.split('&').take(PAIRS_MAX).collect();
    let query = pairs.join("&");
    let access = access(method, &query, &key);

    let spelt: Vec<String> = pairs.iter().map(|pair| respell(pair)).collect();
    assert_eq!(self::access(method, &spelt.join("&"), &key), access, "{method} ?{query} in another spelling");
    let mut reversed = pairs.clone();
    reversed.reverse();
    assert_eq!(self::access(method, &reversed.join("&"), &key), access, "{method} ?{query} in another order");
    match access {
        Access::Read => {
            assert!(matches!(*method, Method::GET | Method::HEAD | Method::POST), "{method} ?{query}")
        }
        Access::List => assert!(matches!(*method, Method::GET | Method::HEAD), "{method} ?{query}"),
        Access::Delete => assert!(matches!(*method, Method::DELETE | Method::POST), "{method} ?{query}"),
        Access::Write | Access::Configure => assert!(*method != Method::GET || access == Access::Configure),
    }
    for more in ["no-parameter-of-s3", "acl&policy"] {
        let query = format!("{query}&{more}");
        assert_eq!(self::access(method, &query, &key), Access::Configure, "{method} ?{query}");
    }
}

fn access(method: &Method, query: &str, key: &str) -> Access {
    let (uri, headers) = (Uri::from_static("/b"), HeaderMap::new());
    let head = Head::new(method, &uri, Version::HTTP_11, &headers);
    Operation::from_request(head, query, Kind::S3, key).access
}

fn is_path(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/%-._~!$&'()*+,;=:@".contains(byte)
}

fn is_query(byte: &u8) -> bool {
    is_path(byte) || *byte == b'?'
}

/// A pair with every letter of its name percent-encoded. A name with escapes is unchanged.
fn respell(pair: &str) -> String {
    let (name, rest) = pair.find('=').map_or((pair, ""), |at| pair.split_at(at));
    let has_escape = name.contains('%');
    let spell = |c: char| {
        if has_escape || !c.is_ascii_alphanumeric() { c.to_string() } else { format!("%{:02x}", c as u32) }
    };
    name.chars().map(spell).chain([rest.to_owned()]).collect()
}
