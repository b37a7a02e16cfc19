//! The effective configuration: `tidegate config` and `GET /config`.

use std::fs::File;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::gateway::{Builder, ExitReport};
use crate::support::{Gateway, Upstream};

/// Every secret of the configuration below.
const SECRETS: [&str; 6] = [
    "first-secret-1",
    "second-secret-2",
    "third-secret-3",
    "fourth-secret-4",
    "fifth-secret-5",
    "sixth-secret-6",
];

/// A configuration with a file, variables, and secrets in both.
fn builder(upstream: &Upstream) -> Builder {
    let [store, client, api, header, token, query] = SECRETS;
    let file = format!(
        "[buckets.photos]\nauth = [\"sigv4\"]\n[buckets.photos.s3]\nendpoints = [\"http://{address}\"]\n\
         access_key_id = \"ID\"\nsecret_access_key = \"{store}\"\nconcurrency.max_queued = 7\n\
         connection_pool.receive_buffer = \"64KiB\"\n\
         [buckets.models]\nkind = \"http\"\nauth = [\"api_key\"]\n[buckets.models.http]\nendpoints = [\"http://{address}\"]\n\
         health_check.path = \"/ready?key={query}\"\ncredentials.one.value = \"Bearer {header}\"\n\
         [keys.uploader]\nsecret = \"{client}\"\nsession_token = \"{token}\"\npolicy = \"all\"\n[api_keys.app]\npolicy = \"all\"\n\
         [policies.all]\nbuckets = [\"photos\", \"models\"]\nmethods = [\"read\"]\n",
        address = upstream.address()
    );
    Gateway::builder()
        .config(&file)
        .set("api_keys.app.secret", &format!("{api}-of-an-api-key"))
        .set("buckets.photos.s3.timeout", "12s")
        .set("monitor.warning", "70")
}

fn printed(builder: Builder, arguments: &[&str]) -> String {
    let builder = arguments.iter().fold(builder.argument("config"), |builder, one| builder.argument(one));
    let ExitReport { code, stdout, stderr } = builder.run();
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    stdout
}

fn json(builder: Builder) -> Value {
    serde_json::from_str(&printed(builder, &["--json"])).unwrap()
}

#[track_caller]
fn hides_secrets(text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

/// The object of a key.
fn key<'a>(document: &'a Value, name: &str) -> &'a Value {
    let keys = document["keys"].as_array().unwrap();
    keys.iter().find(|key| key["key"] == name).unwrap_or_else(|| panic!("{name} in {document}"))
}

/// G2, C4: each value is printed with its origin, and no secret in any form of the output
#[test]
fn the_command_prints_values_and_origins() {
    let upstream = Upstream::ok("x");
    let plain = printed(builder(&upstream), &[]);
    for line in [
        "buckets.photos.s3.timeout = 12 # s",
        "buckets.photos.s3.concurrency.max_queued = 7",
        "monitor.warning = 70 # %",
        "#monitor.recover = 70 # %",
        "#keys.uploader.secret = \"(set)\"",
        "#buckets.photos.s3.session_token = \"(not set)\"",
        "#buckets.models.http.health_check.path = \"/ready?(hidden)\"",
        "server.header_timeout = 5 # s",
    ] {
        assert!(plain.lines().any(|other| other == line), "{line}\nin {plain}");
    }
    let origins =
        printed(builder(&upstream), &["--origin", "buckets.photos.s3.timeout", "buckets.photos.s3.conc"]);
    assert!(origins.contains("12 # s; from TIDEGATE_BUCKETS__PHOTOS__S3__TIMEOUT\n"), "{origins}");
    assert!(
        origins.contains("max_queued = 7 # from ") && origins.contains("tidegate.toml, line 7\n"),
        "{origins}"
    );
    assert!(origins.contains("# accepts: 0.001–86400 s; default: 20\n"), "{origins}");
    assert!(!origins.contains("server."), "only the selected keys: {origins}");
    for text in [
        &plain,
        &origins,
        &printed(builder(&upstream), &["--json"]),
        &printed(builder(&upstream), &["--origin"]),
    ] {
        hides_secrets(text);
    }
}

/// G2: the printed file gives the same configuration, with the secrets from variables
#[test]
fn the_printed_file_can_be_used() {
    let upstream = Upstream::ok("x");
    let [store, client, api, header, token, query] = SECRETS;
    let document = json(builder(&upstream));
    let file = printed(builder(&upstream), &["--origin"]);
    // the builder's own variables are in the file too
    let again = || {
        Gateway::builder()
            .config(&file)
            .set("buckets.photos.s3.secret_access_key", store)
            .set("keys.uploader.secret", client)
            .set("keys.uploader.session_token", token)
            .set("api_keys.app.secret", &format!("{api}-of-an-api-key"))
            .set("buckets.models.http.credentials.one.value", &format!("Bearer {header}"))
            .set("buckets.models.http.health_check.path", &format!("/ready?key={query}"))
    };
    let second = json(again());
    let values = |document: &Value| -> Vec<(Value, Value)> {
        document["keys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| (key["key"].clone(), key["value"].clone()))
            .collect()
    };
    assert_eq!(values(&second), values(&document));
    let checked = again().argument("check").run();
    assert_eq!(checked.code, Some(0), "{checked:?}");
}

/// G2: the admin listener has the same document, of the running process: a changed file has no effect on it
#[tokio::test]
async fn the_admin_listener_answers_with_the_running_configuration() {
    let upstream = Upstream::ok("x");
    // `start` sets it if nothing else does.
    let builder = || builder(&upstream).set("shedding.target_wait_ms", "60000");
    let gateway = builder().start().await;
    let file = gateway.directory().join("tidegate.toml");
    std::fs::write(&file, "[server]\nport = = 1\n").unwrap();
    let answer = gateway.admin("/config").await;
    assert_eq!(answer.complete_status(), 200);
    hides_secrets(&answer.text());
    let live: Value = serde_json::from_slice(&answer.body).unwrap();
    let printed = json(builder());
    assert!(live["keys"].as_array().unwrap().len() > 200, "{live}");
    // the two have the same configuration in directories of their own
    let without_directory = |document: &Value| {
        let mut document = document.clone();
        for key in document["keys"].as_array_mut().unwrap() {
            // what the running process has measured
            key.as_object_mut().unwrap().remove("last_hour");
            if key["origin"]["kind"] == "file" {
                let name = key["origin"]["name"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
                key["origin"]["name"] = name.into();
            }
        }
        document
    };
    assert_eq!(without_directory(&live), without_directory(&printed));

    let timeout = key(&live, "buckets.photos.s3.timeout");
    assert_eq!(
        (&timeout["value"], &timeout["unit"], &timeout["default"]),
        (&12.into(), &"s".into(), &20.into())
    );
    assert_eq!(timeout["origin"]["kind"], "variable");
    assert_eq!(timeout["origin"]["name"], "TIDEGATE_BUCKETS__PHOTOS__S3__TIMEOUT");
    assert_eq!((&timeout["is_default"], &timeout["range"]), (&false.into(), &"0.001–86400 s".into()));
    assert!(timeout["about"].as_str().unwrap().starts_with("timeout from the end of the request body"));
    let buffer = key(&live, "buckets.photos.s3.connection_pool.receive_buffer");
    assert_eq!((&buffer["value"], &buffer["unit"]), (&65536.into(), &"bytes".into()));
    assert_eq!((&buffer["origin"]["kind"], &buffer["origin"]["line"]), (&"file".into(), &8.into()));
    assert_eq!(buffer["origin"]["name"], file.to_str().unwrap());
    let level = key(&live, "log.level");
    assert_eq!((&level["origin"]["kind"], &level["is_default"]), (&"default".into(), &true.into()));
    let secret = key(&live, "api_keys.app.secret");
    assert_eq!((&secret["value"], &secret["is_hidden"]), (&"(set)".into(), &true.into()));
    assert_eq!(key(&live, "jwt.secret")["value"], "(not set)");
    assert_eq!(key(&live, "server.buffer_budget")["default_text"], "a quarter of the memory limit");
    assert_eq!(key(&live, "buckets.photos.pattern")["value"], "photos");
}

/// G2, Bad input: an invalid configuration is refused as by `check`, and so is an argument with which no key begins
#[test]
fn a_bad_configuration_or_argument_is_refused() {
    let bad = || Gateway::builder().set("server.max_concurrent_requests", "many");
    let (config, check) = (bad().argument("config").run(), bad().argument("check").run());
    assert_eq!((config.code, config.stdout.as_str()), (Some(78), ""));
    assert_eq!(config.stderr, check.stderr);
    let unknown = Gateway::builder().argument("config").argument("server").argument("sevrer.port").run();
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(2), ""));
    assert!(
        unknown.stderr.contains("no key of this configuration begins with \"sevrer.port\""),
        "{unknown:?}"
    );
    let warned = || Gateway::builder().set("admin.chaos", "true").argument("config").argument("--strict");
    let strict = warned().run();
    assert_eq!((strict.code, strict.stdout.as_str()), (Some(78), ""));
    assert!(strict.stderr.contains("admin.chaos: is on"), "{strict:?}");
}

/// C1: output that cannot be written is an error, and a reader that closes its pipe is none
#[test]
fn output_that_cannot_be_written_is_an_error() {
    let run = |output: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.arg("config").env_clear().stdin(Stdio::null()).stdout(output).stderr(Stdio::piped());
        let ended = command.spawn().unwrap().wait_with_output().unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    };
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (code, stderr) = run(full.into());
    assert_eq!(code, Some(73), "{stderr}");
    assert!(stderr.contains("the output cannot be written"), "{stderr}");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(run(writer.into()).0, Some(0));
}
