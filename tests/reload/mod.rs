//! Reloads of the configuration: `POST /reload`, `GET /config/diff` and `tidegate reload`.

mod bad_input;
mod buckets;
mod command;
mod keys;
mod limits;
mod overlaps;
mod settings;
mod tokens;
mod watch;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::status::schema;
use crate::support::{Gateway, Response, Upstream, request};

const OPERATOR: &str = "operator-0123456789abcdef0123456789ab";
const READER: &str = "reader-0123456789abcdef0123456789abcd";
/// Every secret of the configuration below.
const SECRETS: [&str; 2] = ["first-secret-of-a-key", "second-secret-of-a-key"];

/// A configuration with a bucket and a key with a secret in a file.
fn text(upstream: &Upstream, secret: &Path) -> String {
    format!(
        "[buckets.photos]\nauth = [\"sigv4\", \"anonymous\"]\nanonymous = [\"read\"]\n[buckets.photos.s3]\n\
         endpoints = [\"http://{}\"]\n[policies.all]\nbuckets = [\"photos\"]\nmethods = [\"read\"]\n\
         [keys.uploader]\npolicy = \"all\"\nsecret_file = {secret:?}\n",
        upstream.address()
    )
}

/// A running gateway and its files.
struct Running {
    gateway: Gateway,
    file: PathBuf,
    secret: PathBuf,
    text: String,
}

impl Running {
    async fn start(upstream: &Upstream) -> Self {
        let builder = Gateway::builder();
        let (file, secret) = (builder.directory().join("tidegate.toml"), builder.directory().join("secret"));
        write(&secret, SECRETS[0], 0o600);
        let text = text(upstream, &secret);
        let builder = builder.set("admin.token", OPERATOR).set("admin.read_token", READER);
        Self { gateway: builder.config(&text).start().await, file, secret, text }
    }

    /// Writes the file with more text at its end.
    fn append(&self, more: &str) {
        write(&self.file, &format!("{}{more}", self.text), 0o600);
    }

    async fn ask(&self, method: &str, path: &str, token: &str) -> Response {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str())];
        let body = (method == "POST").then_some(&b""[..]);
        request(self.gateway.admin_address(), method, path, &headers, body).await
    }

    /// The reply to a reload, which has this status and no secret.
    async fn reload(&self, status: u16) -> Value {
        let answer = self.ask("POST", "/reload", OPERATOR).await;
        assert_eq!(answer.complete_status(), status, "{}", answer.text());
        assert!(!SECRETS.iter().any(|secret| answer.text().contains(secret)), "{}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    async fn diff(&self) -> Value {
        let answer = self.ask("GET", "/config/diff", READER).await;
        assert_eq!(answer.complete_status(), 200, "{}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The file of a gateway that was started with `Builder::config`.
fn file_of(gateway: &Gateway) -> PathBuf {
    gateway.directory().join("tidegate.toml")
}

/// Writes the file of the gateway anew and reloads it; returns the reply with this result.
async fn reload_as(gateway: &Gateway, text: &str, result: &str) -> Value {
    write(&file_of(gateway), text, 0o600);
    let answer = gateway.post("/reload").await;
    let reply: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((&reply["result"], &reply["problems"]), (&json!(result), &json!([])), "{reply}");
    assert_eq!(answer.complete_status(), 200);
    reply
}

/// Applies a changed configuration.
async fn apply(gateway: &Gateway, text: &str) -> Value {
    reload_as(gateway, text, "applied").await
}

/// Waits until this configuration is retired.
async fn wait_until_retired(gateway: &Gateway, number: u64) {
    let message = "configuration retired: its last request has ended";
    gateway.wait_for_log_line(message, |line| line["number"] == number).await;
}

/// An anonymous bucket of kind `s3`; `more` are keys relative to its section `s3`.
fn open_bucket(name: &str, upstreams: &[&Upstream], more: &str) -> String {
    let urls: Vec<String> =
        upstreams.iter().map(|upstream| format!("\"http://{}\"", upstream.address())).collect();
    format!(
        "[buckets.{name}]\nauth = [\"anonymous\"]\n[buckets.{name}.s3]\nendpoints = [{}]\n{more}\n",
        urls.join(", ")
    )
}

/// The keys of the problems of a reply.
fn problem_keys(reply: &Value) -> Vec<&str> {
    reply["problems"].as_array().unwrap().iter().map(|problem| problem["key"].as_str().unwrap()).collect()
}

/// G3: the same configuration is no change, and the variables of the start hold
#[tokio::test]
async fn the_same_configuration_is_unchanged() {
    let upstream = Upstream::ok("x");
    let running = Running::start(&upstream).await;
    for reply in [running.reload(200).await, running.diff().await] {
        let expected = json!({ "version": env!("CARGO_PKG_VERSION"), "result": "unchanged", "configuration": 1,
            "changes": [], "problems": [], "warnings": [] });
        assert_eq!(reply, expected);
    }
    assert_eq!(running.gateway.get("/photos/k").await.complete_status(), 200);
}

/// G3, C4: every change is shown with both values and its origin, and a secret only as changed
#[tokio::test]
async fn the_difference_shows_every_change() {
    let upstream = Upstream::ok("x");
    let running = Running::start(&upstream).await;
    write(&running.secret, SECRETS[1], 0o600);
    running
        .append("[server]\nkeep_alive = 7\n[policies.more]\nbuckets = [\"photos\"]\nmethods = [\"list\"]\n");
    let diff = running.diff().await;
    assert_eq!(diff["result"], "applicable", "{diff}");
    let changes = diff["changes"].as_array().unwrap();
    let names: Vec<_> = changes.iter().map(|change| change["key"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["server.keep_alive", "policies.more.buckets", "policies.more.methods", "keys.uploader.secret_file"]
    );
    let origin = json!({ "kind": "file", "name": running.file, "line": 13 });
    let keep_alive = json!({ "key": "server.keep_alive", "change": "changed", "old": 75, "new": 7, "is_hidden": false,
        "unit": "s", "origin": origin, "restart": null });
    assert_eq!(changes[0], keep_alive);
    assert_eq!((&changes[1]["change"], &changes[1]["old"]), (&json!("added"), &Value::Null));
    assert_eq!((&changes[3]["change"], &changes[3]["old"]), (&json!("changed"), &changes[3]["new"]));
    // nothing was applied
    let config: Value = serde_json::from_slice(&running.ask("GET", "/config", READER).await.body).unwrap();
    let keys = config["keys"].as_array().unwrap();
    let running_value = keys.iter().find(|key| key["key"] == "server.keep_alive").unwrap();
    assert_eq!(running_value["value"], 75);
}

/// G3: all problems are in one reply with their keys, and the old configuration stays
#[tokio::test]
async fn a_bad_configuration_is_refused_with_all_problems() {
    let upstream = Upstream::ok("x");
    let running = Running::start(&upstream).await;
    running.append("[server]\nkeep_alive = \"soon\"\nprot = 1\n");
    let reply = running.reload(422).await;
    assert_eq!((&reply["result"], &reply["error"]["code"]), (&json!("refused"), &json!("reload_refused")));
    let mut keys = problem_keys(&reply);
    keys.sort_unstable();
    assert_eq!(keys, ["server.keep_alive", "server.prot"], "{reply}");
    let lines: Vec<_> =
        reply["problems"].as_array().unwrap().iter().map(|one| one["origin"]["line"].as_u64()).collect();
    assert!(lines.contains(&Some(13)) && lines.contains(&Some(14)), "{reply}");
    assert_eq!(running.diff().await["result"], "refused");
    assert_eq!(running.gateway.get("/photos/k").await.complete_status(), 200);

    running.append(
        "[server]\naddress = \"127.0.0.2\"\nbuffer_budget = \"64MiB\"\n[supervision]\nmax_restarts = 9\n",
    );
    let reply = running.reload(422).await;
    assert_eq!(problem_keys(&reply), ["server.address", "server.buffer_budget", "supervision.max_restarts"]);
    let message = "cannot change while the gateway runs (\"127.0.0.1\" → \"127.0.0.2\"): the listening sockets are opened once";
    assert_eq!(reply["problems"][0]["message"], message);

    write(&running.file, &running.text.replace("policy = \"all\"", "policy = \"none\""), 0o600);
    assert_eq!(problem_keys(&running.reload(422).await), ["keys.uploader.policy"]);
    running.append("");
    assert_eq!(running.reload(200).await["result"], "unchanged");
}

/// G3, C5: a file that is cut off or that others can write, and a missing secret, are refused with the file and the fix
#[tokio::test]
async fn a_bad_file_is_refused() {
    let upstream = Upstream::ok("x");
    let running = Running::start(&upstream).await;
    let problem = |reply: &Value| {
        assert_eq!(reply["problems"].as_array().unwrap().len(), 1, "{reply}");
        let problem = &reply["problems"][0];
        (problem["key"].as_str().unwrap().to_owned(), problem["message"].as_str().unwrap().to_owned())
    };
    let file = running.file.display().to_string();
    for (content, mode, message) in [
        (&running.text[..running.text.find("http://").unwrap()], 0o600, "cannot be parsed: line 5: "),
        ("", 0o600, "is empty"),
        (running.text.as_str(), 0o666, "can be written by other users (mode 0666), so a running gateway"),
    ] {
        write(&running.file, content, mode);
        let (key, found) = problem(&running.reload(422).await);
        assert!(key == file && found.starts_with(message), "{key}: {found}");
    }
    write(&running.file, "[server]\nkeep_alive = 75\n", 0o600);
    let (key, found) = problem(&running.reload(422).await);
    assert!(key == "buckets" && found.starts_with("none is configured"), "{key}: {found}");
    running.append("");
    fs::remove_file(&running.secret).unwrap();
    let reply = running.reload(422).await;
    assert!(problem_keys(&reply).contains(&"keys.uploader.secret_file"), "{reply}");
    write(&running.secret, SECRETS[0], 0o600);
    assert_eq!(running.reload(200).await["result"], "unchanged");
    assert_eq!(running.gateway.get("/photos/k").await.complete_status(), 200);
}

/// G3, X7: the replies have the fields of the OpenAPI document, with changes, problems and warnings
#[tokio::test]
async fn replies_have_the_fields_of_their_schema() {
    let upstream = Upstream::ok("x");
    let running = Running::start(&upstream).await;
    let openapi: Value =
        serde_json::from_slice(&running.ask("GET", "/openapi.json", READER).await.body).unwrap();
    let faults = |path: &str, method: &str, status: &str, reply: &Value| {
        let content = &openapi["paths"][path][method]["responses"][status]["content"];
        schema::faults(&openapi, &content["application/json"]["schema"], reply)
    };
    assert_eq!(faults("/reload", "post", "200", &running.reload(200).await), [""; 0]);
    running.append("[server]\naddress = \"127.0.0.2\"\ntrusted_proxies = [\"0.0.0.0/0\"]\n");
    let (diff, refused) = (running.diff().await, running.reload(422).await);
    for list in ["changes", "warnings"] {
        assert!(!diff[list].as_array().unwrap().is_empty(), "{list}: {diff}");
    }
    assert_eq!(faults("/config/diff", "get", "200", &diff), [""; 0], "{diff}");
    assert!(!refused["problems"].as_array().unwrap().is_empty(), "{refused}");
    assert_eq!(faults("/reload", "post", "422", &refused), [""; 0], "{refused}");
}

/// G3: a certificate that cannot be used is found before anything changes
#[tokio::test]
async fn what_a_start_opens_is_opened() {
    let upstream = Upstream::ok("x");
    let running = Running::start(&upstream).await;
    let authority = running.file.with_file_name("ca.pem");
    write(&authority, "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n", 0o600);
    running.append(&format!(
        "[buckets.other.s3]\nendpoints = [\"https://127.0.0.1:9\"]\ntls.ca_file = {authority:?}\n"
    ));
    let reply = running.reload(422).await;
    assert_eq!(problem_keys(&reply), ["buckets.other"], "{reply}");
}

/// G3, O5: only operators reload, readers see the difference
#[tokio::test]
async fn only_operators_reload() {
    let upstream = Upstream::ok("x");
    let running = Running::start(&upstream).await;
    let answer = running.ask("POST", "/reload", READER).await;
    assert_eq!((answer.complete_status(), answer.text().contains("read_only")), (403, true));
    assert_eq!(
        running.ask("POST", "/reload", "wrong-0123456789abcdef0123456789abc").await.complete_status(),
        401
    );
    assert_eq!(running.ask("GET", "/reload", OPERATOR).await.complete_status(), 405);
    for (method, path) in [("POST", "/reload?now=1"), ("GET", "/config/diff?all=1")] {
        assert_eq!(running.ask(method, path, OPERATOR).await.complete_status(), 400, "{path}");
    }
}
