//! A part of JSON Schema: enough for the schemas of the OpenAPI document.

use serde_json::Value;

/// Where a value differs from a schema.
pub(crate) fn faults(openapi: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare(openapi, schema, value, "$", &mut found);
    found
}

fn compare(openapi: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let target = openapi.pointer(name.strip_prefix('#').unwrap()).unwrap_or_else(|| panic!("{name}"));
        return compare(openapi, target, value, at, found);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let all: Vec<_> = any.iter().map(|one| faults(openapi, one, value)).collect();
        if !all.iter().any(Vec::is_empty) {
            found.extend(all.into_iter().flatten().map(|fault| format!("{at}: {fault}")));
        }
        return;
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        // Any value.
        _ => return,
    };
    let is_of = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("unknown type {other}"),
    };
    if !types.iter().any(|name| is_of(name)) {
        return found.push(format!("{at}: {value} is none of {types:?}"));
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        found.push(format!("{at}: {value} is none of {}", schema["enum"]));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        compare(openapi, &schema["items"], item, &format!("{at}[{index}]"), found);
    }
    let Some(fields) = value.as_object() else { return };
    if schema["additionalProperties"].is_object() {
        let members = fields.iter().map(|(name, member)| (format!("{at}.{name}"), member));
        return members.for_each(|(at, member)| {
            compare(openapi, &schema["additionalProperties"], member, &at, found);
        });
    }
    let properties = schema["properties"].as_object().unwrap_or_else(|| panic!("{at}: no properties"));
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(required) {
            found.push(format!("{at}: no field {required}"));
        }
    }
    for (name, field) in fields {
        match properties.get(name) {
            Some(property) => compare(openapi, property, field, &format!("{at}.{name}"), found),
            None => found.push(format!("{at}: there is a field {name}")),
        }
    }
}
