//! Orders that are refused or changed, and who may give them.

use serde_json::{Value, json};

use super::{at, drain, drains, end, get};
use crate::status::schema;
use crate::support::{Gateway, Response, Upstream, request};

const OPERATOR: &str = "operator-0123456789abcdef0123456789ab";
const READER: &str = "reader-0123456789abcdef0123456789abcd";

async fn send(gateway: &Gateway, method: &str, target: &str, token: &str, body: &str) -> Response {
    let authorization = format!("Bearer {token}");
    let headers =
        [("authorization", authorization.as_str()), ("content-type", "application/x-www-form-urlencoded")];
    let body = (method == "POST").then_some(body.as_bytes());
    request(gateway.admin_address(), method, target, &headers, body).await
}

fn error(answer: &Response) -> (u16, String, String) {
    let document: Value = serde_json::from_slice(&answer.body).unwrap();
    let text = |name: &str| document["error"][name].as_str().unwrap_or_default().to_owned();
    (answer.complete_status(), text("code"), text("message"))
}

/// O7, G4: an order needs the token of operators, the list does not; each order is logged with who, why and how long
#[tokio::test]
async fn an_order_needs_an_operator() {
    let upstream = Upstream::ok("x");
    let builder = at(&[&upstream]).set("admin.token", OPERATOR).set("admin.read_token", READER);
    let gateway = builder.start().await;
    for method in ["POST", "DELETE"] {
        let answer = send(&gateway, method, "/drain?bucket=b", READER, "").await;
        assert_eq!((answer.complete_status(), error(&answer).1.as_str()), (403, "read_only"));
    }
    assert_eq!(get(&gateway, "/b/k").await.0, 200);
    let answer =
        send(&gateway, "POST", "/drain", OPERATOR, "bucket=b&reason=a+%1b%5bm+move&expires=60").await;
    let reply: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.complete_status(), &reply["reason"]), (200, &json!("a \\u001b[m move")), "{reply}");
    assert_eq!(reply["ordered_by"], "an operator's token from 127.0.0.1");
    let line = gateway.wait_for_log_line("drain ordered by an operator", |line| line["bucket"] == "b").await;
    assert_eq!((&line["by"], &line["expires_in_s"]), (&reply["ordered_by"], &json!(60)), "{line}");
    assert_eq!((&line["reason"], &line["was_draining"]), (&reply["reason"], &json!(false)), "{line}");
    let listed = send(&gateway, "GET", "/drains", READER, "").await;
    let listed: Value = serde_json::from_slice(&listed.body).unwrap();
    assert_eq!(listed["drains"][0]["reason"], reply["reason"]);
    let ended = send(&gateway, "DELETE", "/drain?bucket=b", OPERATOR, "").await;
    assert_eq!(ended.complete_status(), 200);
    let line = gateway.wait_for_log_line("drain ended by an operator", |line| line["bucket"] == "b").await;
    assert_eq!((&line["by"], &line["was_draining"]), (&reply["ordered_by"], &json!(true)), "{line}");
}

/// O7, Bad input: an unknown name gets 404 with the known ones, a wrong parameter 400 with its name, and nothing drains
#[tokio::test]
async fn a_wrong_order_changes_nothing() {
    let (first, second) = (Upstream::ok("x"), Upstream::ok("y"));
    let gateway = at(&[&first, &second]).bucket("other", &first).start().await;
    let (long, known) = ("x".repeat(257), format!("http://{}", second.address()));
    let form = "z".repeat(5000);
    for (query, body, status, code, named) in [
        ("?bucket=none", "", 404, "unknown_bucket", "there is no bucket `none`; there is b, other"),
        ("?bucket=b&endpoint=http://127.0.0.1:1", "", 404, "unknown_endpoint", known.as_str()),
        ("?bucket=b&endpoint=nowhere%1b", "", 404, "unknown_endpoint", "`nowhere\\u001b`"),
        ("?", "", 400, "invalid_parameter", "`bucket` is missing"),
        ("?reason=disk", "", 400, "invalid_parameter", "`bucket` is missing"),
        ("", "reason=disk", 400, "invalid_parameter", "`bucket` is missing"),
        ("?bucket=b&expires=0", "", 400, "invalid_parameter", "`expires` is not a whole number"),
        ("?bucket=b&expires=soon", "", 400, "invalid_parameter", "`expires` is not a whole number"),
        (
            &format!("?bucket=b&reason={long}"),
            "",
            400,
            "invalid_parameter",
            "`reason` is longer than 256 bytes",
        ),
        ("?bucket=b&colour=red", "", 400, "invalid_parameter", "`colour`"),
        ("?bucket=b", "bucket=other", 400, "invalid_parameter", "`bucket` occurs twice"),
        ("?bucket=b", form.as_str(), 400, "bad_form", "4096 bytes"),
    ] {
        let answer = send(&gateway, "POST", &format!("/drain{query}"), OPERATOR, body).await;
        let (found, name, message) = error(&answer);
        assert_eq!((found, name.as_str()), (status, code), "{query}: {message}");
        assert!(message.contains(named), "{query}: {message}");
    }
    let answer = send(&gateway, "DELETE", "/drain?bucket=none", OPERATOR, "").await;
    assert_eq!(error(&answer).1, "unknown_bucket");
    assert!(drains(&gateway).await.is_empty());
    assert_eq!(end(&gateway, "bucket=b").await["was_draining"], false);
}

/// G4: an order for a draining target replaces reason and expiry; drains of a bucket and of its endpoints are independent
#[tokio::test]
async fn a_further_order_replaces_reason_and_expiry() {
    let (first, second) = (Upstream::ok("x"), Upstream::ok("y"));
    let gateway = at(&[&first, &second]).start().await;
    let once = drain(&gateway, "bucket=b&reason=disk&expires=600").await;
    let twice = drain(&gateway, "bucket=b").await;
    assert_eq!((&once["was_draining"], &twice["was_draining"]), (&json!(false), &json!(true)));
    assert_eq!((&twice["reason"], &twice["expires_in_ms"]), (&Value::Null, &Value::Null));
    assert_eq!(once["since"].as_str().unwrap()[..19], twice["since"].as_str().unwrap()[..19]);
    let authority = second.address().to_string();
    assert_eq!(
        drain(&gateway, &format!("bucket=b&endpoint={authority}")).await["endpoint"],
        json!(authority)
    );
    let all = drains(&gateway).await;
    let targets: Vec<_> = all.iter().map(|drain| &drain["endpoint"]).collect();
    assert_eq!(targets, [&Value::Null, &json!(authority)]);
    end(&gateway, "bucket=b").await;
    assert_eq!(drains(&gateway).await.len(), 1);
    assert_eq!(get(&gateway, "/b/k").await, (200, "x".to_owned()));
}

/// X7: the replies have the fields of their schemas
#[tokio::test]
async fn the_replies_have_the_fields_of_their_schemas() {
    let (first, second) = (Upstream::ok("x"), Upstream::ok("y"));
    let gateway = at(&[&first, &second]).start().await;
    let openapi: Value = serde_json::from_slice(&gateway.admin("/openapi.json").await.body).unwrap();
    let expect = |path: &str, method: &str, body: &Value| {
        let content = &openapi["paths"][path][method]["responses"]["200"]["content"];
        let faults = schema::faults(&openapi, &content["application/json"]["schema"], body);
        assert_eq!(faults, Vec::<String>::new(), "{method} {path}: {body}");
    };
    let endpoint = format!("bucket=b&endpoint=http://{}&expires=60&reason=x", first.address());
    expect("/drain", "post", &drain(&gateway, &endpoint).await);
    expect("/drain", "post", &drain(&gateway, "bucket=b").await);
    let list: Value = serde_json::from_slice(&gateway.admin("/drains").await.body).unwrap();
    assert_eq!(list["drains"].as_array().unwrap().len(), 2);
    expect("/drains", "get", &list);
    expect("/drain", "delete", &end(&gateway, "bucket=b").await);
}
