//! Answers to requests that no route of the admin listener serves: 405 for a known path, 404 for any other.
//!
//! The known paths and their methods are those of the OpenAPI document. A test compares it with the routes.

use std::sync::LazyLock;

use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::Value;

use crate::http::error::{AdminStatus, admin_error_reply};
use crate::http::request_id;
use crate::request_head::HeaderView;

/// A path of the OpenAPI document, with its methods as the value of `Allow`.
struct KnownPath {
    path: String,
    methods: String,
}

static KNOWN_PATHS: LazyLock<Vec<KnownPath>> = LazyLock::new(|| known_paths(super::OPENAPI));

fn known_paths(document: &str) -> Vec<KnownPath> {
    // A malformed document only turns 405 into 404; a test parses it.
    let document: Value = serde_json::from_str(document).unwrap_or_default();
    let paths = document["paths"].as_object().into_iter().flatten();
    let known = |(path, operations): (&String, &Value)| {
        let methods = operations.as_object().into_iter().flatten().map(|(method, _)| method.to_uppercase());
        KnownPath { path: path.clone(), methods: methods.collect::<Vec<_>>().join(", ") }
    };
    paths.map(known).collect()
}

/// Whether a path has the segments of a template, in which `{name}` stands for any segment.
fn fits(template: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(wanted), Some(given))
                if wanted == given || (wanted.starts_with('{') && !given.is_empty()) => {}
            _ => return false,
        }
    }
}

/// The answer.
pub(super) async fn reply(request: HttpRequest) -> HttpResponse {
    let id = request_id::of(HeaderView::of(request.headers()));
    let known = KNOWN_PATHS.iter().find(|known| fits(&known.path, request.path()));
    if let Some(KnownPath { path, methods }) = known {
        let message = format!("{path} accepts {methods}");
        let mut reply = admin_error_reply(AdminStatus::MethodNotAllowed, "method", &message, &id);
        if let Ok(methods) = HeaderValue::from_str(methods) {
            reply.headers_mut().insert(ALLOW, methods);
        }
        return reply;
    }
    let paths: Vec<_> = KNOWN_PATHS.iter().map(|known| known.path.as_str()).collect();
    let message = format!("the admin listener has no such path; it answers {}", paths.join(", "));
    admin_error_reply(AdminStatus::NotFound, "not_found", &message, &id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// O7: each path of the document is known, and a segment in braces stands for any name
    #[test]
    fn paths_and_methods_are_those_of_the_document() {
        let methods = |path: &str| {
            let known = KNOWN_PATHS.iter().find(|known| fits(&known.path, path));
            known.map(|known| known.methods.as_str())
        };
        assert_eq!(methods("/status"), Some("GET, HEAD"));
        assert_eq!(methods("/actors/pool:b/crash"), Some("POST"));
        for path in ["/status/", "/actors//crash", "/actors/a/b/crash", "/nowhere", ""] {
            assert_eq!(methods(path), None, "{path}");
        }
        assert!(KNOWN_PATHS.len() > 15);
    }
}
