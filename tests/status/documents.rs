//! The JSON Schema of the status document and the OpenAPI document of the admin listener.
//!
//! `schema.rs` compares documents with the OpenAPI document. `tests/clients/test_status_document.py` validates live documents
//! with a validator of JSON Schema.

use std::collections::BTreeSet;

use serde_json::Value;

use super::schema;
use crate::support::{Client, Gateway, Upstream, UpstreamReply, client, request, wait_for};
use crate::tidy::sources::read;

const STREAM: &str = "/status/stream";

async fn document(gateway: &Gateway, path: &str) -> Value {
    let answer = gateway.admin(path).await;
    assert_eq!(answer.complete_status(), 200, "{path}");
    serde_json::from_slice(&answer.body).unwrap()
}

/// The paths and methods of the OpenAPI document.
fn operations(openapi: &Value) -> BTreeSet<(String, String)> {
    let paths = openapi["paths"].as_object().unwrap().iter();
    let of_path = |(path, methods): (&String, &Value)| {
        let path = path.clone();
        methods
            .as_object()
            .unwrap()
            .keys()
            .map(move |method| (path.clone(), method.to_uppercase()))
            .collect::<Vec<_>>()
    };
    paths.flat_map(of_path).collect()
}

/// The paths and methods that the code registers.
fn registered() -> BTreeSet<(String, String)> {
    let source = ["mod", "decisions/mod", "drain_target", "page/mod"]
        .map(|file| read(&format!("src/admin/{file}.rs")))
        .concat();
    let routes = source.split(".route(").skip(1).map(|rest| rest.split_once(',').unwrap());
    let of_route = |(path, handler): (&str, &str)| {
        let path = match path {
            "probes::LIVE" => "/-/livez".to_owned(),
            "probes::READY" => "/-/readyz".to_owned(),
            "SESSION" => "/session".to_owned(),
            "EXPLAIN" => "/explain".to_owned(),
            "STREAM" => "/status/stream".to_owned(),
            "UPGRADE" => "/upgrade".to_owned(),
            literal => literal.trim_matches('"').to_owned(),
        };
        let methods: &[&str] = match handler.trim_start() {
            text if text.starts_with("get_or_head()") => &["GET", "HEAD"],
            text if text.starts_with("web::get()") => &["GET"],
            text if text.starts_with("web::post()") => &["POST"],
            text if text.starts_with("web::delete()") => &["DELETE"],
            text if text.starts_with("web::route().guard(guard::fn_guard(is_plain_check))") => &["OPTIONS"],
            other => panic!("{path}: unknown method in {other:.60}"),
        };
        methods.iter().map(|method| (path.clone(), (*method).to_owned())).collect::<Vec<_>>()
    };
    routes.flat_map(of_route).collect()
}

/// X7: the OpenAPI document has exactly the registered routes
#[tokio::test]
async fn the_openapi_document_has_every_route() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let openapi = document(&gateway, "/openapi.json").await;
    assert!(openapi["openapi"].as_str().unwrap().starts_with("3.1."));
    let documented = operations(&openapi);
    assert!(documented.len() > 15, "{documented:?}");
    assert_eq!(documented, registered());
}

/// X7: every operation of the OpenAPI document answers with a status that it lists
#[tokio::test]
async fn every_operation_answers_as_documented() {
    // With the embedded origin an upgrade is refused, so that the test starts no process of its own.
    let gateway = Gateway::builder().chaos().start().await;
    let openapi = document(&gateway, "/openapi.json").await;
    // Last, because it ends the process.
    let (drain, others): (Vec<_>, Vec<_>) = operations(&openapi)
        .into_iter()
        .partition(|(path, method)| (path.as_str(), method.as_str()) == ("/drain", "POST"));
    assert_eq!(drain, [("/drain".to_owned(), "POST".to_owned())]);
    for (path, method) in others {
        let query = if path.ends_with("/stall") { "?ms=1" } else { "" };
        for target in [path.replace("{name}", "limiter") + query, path.replace("{name}", "no_such_actor")] {
            let body = (method == "POST").then_some(&b""[..]);
            let answer = if path == STREAM {
                // It does not end by itself.
                let mut client = Client::connect(gateway.admin_address()).await;
                client.send(client::message(&method, &target, &[], body)).await;
                let mut head = client.head().await;
                if head.status != 200 {
                    client.body(&mut head, &method).await;
                }
                head
            } else {
                request(gateway.admin_address(), &method, &target, &[], body).await
            };
            let status = answer.status.to_string();
            let responses = &openapi["paths"][&path][method.to_lowercase()]["responses"];
            assert!(responses[&status].is_object(), "{method} {target} answers {status}");
            let is_known = !answer.text().contains("\"not_found\"") && answer.status != 405;
            assert!(is_known, "{method} {target}: {}", answer.text());
        }
    }
    let answer = gateway.admin("/no-such-route").await;
    assert_eq!(answer.complete_status(), 404);
    let drained = gateway.post("/drain").await;
    let reply: Value = serde_json::from_slice(&drained.body).unwrap();
    let documented = &openapi["paths"]["/drain"]["post"]["responses"]["200"]["content"]["application/json"];
    assert_eq!((drained.complete_status(), &reply["result"]), (200, &"began".into()));
    assert_eq!(schema::faults(&openapi, &documented["schema"], &reply), Vec::<String>::new(), "{reply}");
}

/// The probes, and the documents of the page: they accept any query, so that health checks and browsers may add one.
const ANY_QUERY: [&str; 8] =
    ["/livez", "/readyz", "/-/livez", "/-/readyz", "/", "/page.css", "/page.js", "/docs/causes.md"];

/// X7, Bad input: every other operation answers 400 to a parameter that it does not have, and names it
#[tokio::test]
async fn an_unknown_parameter_is_refused_everywhere() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).chaos().start().await;
    let openapi = document(&gateway, "/openapi.json").await;
    let documented = operations(&openapi);
    let generation = gateway.generation("limiter").await;
    for (path, method) in &documented {
        let target = path.replace("{name}", "limiter") + "?colour=red";
        let body = (method == "POST").then_some(&b""[..]);
        let answer = request(gateway.admin_address(), method, &target, &[], body).await;
        if ANY_QUERY.contains(&path.as_str()) {
            assert_eq!(answer.complete_status(), 200, "{method} {target}");
            continue;
        }
        assert_eq!(answer.complete_status(), 400, "{method} {target}: {}", answer.text());
        assert!(
            openapi["paths"][path][method.to_lowercase()]["responses"]["400"].is_object(),
            "{method} {path}"
        );
        if method != "HEAD" {
            let error: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(error["error"]["code"], "invalid_parameter", "{method} {target}");
            assert!(error["error"]["message"].as_str().unwrap().contains("`colour`"), "{method} {target}");
        }
    }
    for path in ANY_QUERY {
        assert!(documented.iter().any(|(known, _)| known == path), "{path}");
    }
    assert_eq!(gateway.generation("limiter").await, generation, "a refused command has no effect");
}

/// X7, X10: the schema has exactly the codes that docs/causes.md has, and the fields of the live document
#[tokio::test]
async fn the_schema_has_the_fields_and_codes() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let schema = document(&gateway, "/status.schema.json").await;
    let words = |of: &Value| -> BTreeSet<String> {
        of.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let page = read("docs/causes.md");
    let documented: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`').map(str::to_owned))
        .collect();
    assert!(documented.len() > 30, "{documented:?}");
    assert_eq!(words(&schema["$defs"]["code"]["enum"]), documented);
    let status = gateway.status().await;
    let fields: BTreeSet<String> = status.as_object().unwrap().keys().cloned().collect();
    assert_eq!(words(&schema["required"]), fields);
}

/// G2, O4, O6: decisions, explanations and the configuration have exactly the fields of their schemas
#[tokio::test]
async fn documents_have_the_fields_of_their_schemas() {
    let upstream = Upstream::start(|request| {
        UpstreamReply::status(if request.target.contains("bad") { 503 } else { 200 })
    });
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("rate_limit.per_ip.requests_per_second", "0.001")
        .set("rate_limit.per_ip.burst", "3")
        .start()
        .await;
    let openapi = document(&gateway, "/openapi.json").await;
    let id = [("x-request-id", "the-request")];
    request(gateway.address(), "GET", "/b/bad", &id, None).await;
    for _ in 0..4 {
        request(gateway.address(), "GET", "/b/k", &[], None).await;
    }
    let expect = |path: &str, method: &str, body: &Value| {
        let content = &openapi["paths"][path][method]["responses"]["200"]["content"];
        let faults = schema::faults(&openapi, &content["application/json"]["schema"], body);
        assert_eq!(faults, Vec::<String>::new(), "{method} {path}: {body}");
    };
    // The record of a request is written after its answer.
    let decisions = wait_for("the refusals are recorded", || async {
        let decisions = document(&gateway, "/decisions").await;
        let all = decisions["decisions"].as_array().unwrap();
        let has = |reason: &str| all.iter().any(|one| one["reason"] == reason);
        (has("rate_limit_ip") && all.iter().any(|one| one["kind"] == "retry")).then_some(decisions)
    })
    .await;
    expect("/decisions", "get", &decisions);
    let story = document(&gateway, "/explain?request_id=the-request").await;
    assert!(story["end"].is_object(), "{story}");
    expect("/explain", "get", &story);
    for url in ["/b/k", "/none/k"] {
        let body = format!("{{\"url\": \"{url}\", \"client\": \"127.0.0.1\"}}");
        let answer = request(gateway.admin_address(), "POST", "/explain", &[], Some(body.as_bytes())).await;
        let explanation: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(explanation["outcome"], "refused", "{explanation}");
        expect("/explain", "post", &explanation);
    }
    let config = document(&gateway, "/config").await;
    assert!(config["keys"].as_array().unwrap().iter().any(|key| key["last_hour"].is_object()));
    expect("/config", "get", &config);
    let mut wrong = config.clone();
    wrong["keys"][0]["unit"] = 7.into();
    wrong["more"] = 1.into();
    let schema = &openapi["components"]["schemas"]["EffectiveConfig"];
    assert_eq!(schema::faults(&openapi, schema, &wrong).len(), 2);
}
