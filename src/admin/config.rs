//! `GET /config`: the effective configuration of the running process as JSON (G2). `tidegate config --json` prints the same document.
//!
//! The document is made from the configuration with which the process started; no file is read again.

use std::rc::Rc;

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};
use tidegate_config::{EffectiveKey, EffectiveValue, Literal, NOT_SET, restart_reason};

use crate::admin::decisions::unexpected_query;
use crate::admin::problem::origin;
use crate::admin::status::stream::StatusFeed;
use crate::http::error::{AdminStatus, json_reply};
use crate::worker::slot::CurrentWorker;

/// Replies with every key. A limit has its last hour too.
pub(crate) async fn page(
    request: HttpRequest,
    CurrentWorker(worker): CurrentWorker,
    feed: Data<Rc<StatusFeed>>,
) -> HttpResponse {
    if let Some(refused) = unexpected_query(&request) {
        return refused;
    }
    let mut document = document(worker.shared.effective.keys());
    for key in document["keys"].as_array_mut().into_iter().flatten() {
        if let Some(hour) = key["key"].as_str().and_then(|name| feed.last_hour(name)) {
            key["last_hour"] = json!(hour);
        }
    }
    json_reply(AdminStatus::Ok, &document)
}

/// The document for these keys: one object per key.
pub fn document(keys: impl IntoIterator<Item = EffectiveKey>) -> Value {
    let keys: Vec<Value> = keys.into_iter().map(|key| object(&key)).collect();
    json!({ "version": env!("CARGO_PKG_VERSION"), "keys": keys })
}

/// The difference between the objects of a key in two documents.
pub fn change(old: Option<&Value>, new: Option<&Value>) -> Value {
    let newest = new.or(old).unwrap_or(&Value::Null);
    let value = |object: Option<&Value>| object.map_or(Value::Null, |object| object["value"].clone());
    let has_value = |object: Option<&Value>| {
        object.is_some_and(|object| !object["value"].is_null() && object["value"] != NOT_SET)
    };
    let is_hidden = |object: Option<&Value>| object.is_some_and(|object| object["is_hidden"] == true);
    let change = match (old, new) {
        (None, _) => "added",
        (_, None) => "removed",
        _ => "changed",
    };
    let key = newest["key"].as_str().unwrap_or_default();
    json!({
        "key": key,
        "change": change,
        "old": value(old),
        "new": value(new),
        "is_hidden": is_hidden(old) || is_hidden(new),
        "unit": newest["unit"],
        "origin": newest["origin"],
        "restart": restart_reason(key, has_value(old) != has_value(new)),
    })
}

/// The object of a key.
pub(super) fn object(key: &EffectiveKey) -> Value {
    let value = match &key.value {
        EffectiveValue::Hidden(text) => json!(text),
        EffectiveValue::Absent | EffectiveValue::Toml(_) => key.literal().map_or(Value::Null, to_json),
    };
    json!({
        "key": key.key,
        "value": value,
        "is_hidden": matches!(key.value, EffectiveValue::Hidden(_)),
        "unit": key.unit,
        "origin": origin(&key.origin, key.line),
        "default": key.default_literal().map(to_json),
        "default_text": key.default_text,
        "is_default": key.is_default(),
        "range": key.accepts,
        "about": key.about(),
    })
}

fn to_json(literal: Literal) -> Value {
    match literal {
        Literal::Flag(value) => json!(value),
        Literal::Integer(value) => json!(value),
        Literal::Decimal(value) => json!(value),
        Literal::Text(value) => json!(value),
        Literal::List(items) => items.into_iter().map(to_json).collect(),
    }
}
