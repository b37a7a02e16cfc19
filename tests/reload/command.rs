//! `tidegate reload`: the exit code, the text, the token of operators, and `--check`.

use std::path::Path;

use serde_json::{Value, json};

use super::{OPERATOR, READER, Running, SECRETS, write};
use crate::support::gateway::{Builder, ExitReport};
use crate::support::{Gateway, Upstream, unreachable};

/// Runs `tidegate reload` with these arguments.
async fn run(builder: Builder, arguments: &[&str]) -> ExitReport {
    let builder = arguments.iter().fold(builder.argument("reload"), |builder, one| builder.argument(one));
    let report = tokio::task::spawn_blocking(move || builder.run()).await.unwrap();
    assert!(!SECRETS.iter().any(|secret| report.stdout.contains(secret)), "{}", report.stdout);
    report
}

/// A command with the token of operators.
fn operator() -> Builder {
    Gateway::builder().set("admin.token", OPERATOR)
}

fn url(running: &Running) -> String {
    format!("http://{}", running.gateway.admin_address())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// G3, G4: 0 if nothing has to be applied, 1 with every change and problem if the gateway refuses
#[tokio::test]
async fn the_exit_code_is_the_result() {
    let upstream = Upstream::ok("x");
    let running = Running::start(&upstream).await;
    let (url, file) = (url(&running), text(&running.file));
    let same = run(operator(), &[&url]).await;
    assert_eq!((same.code, same.stderr.as_str()), (Some(0), ""), "{}", same.stdout);
    assert!(
        same.stdout.starts_with("unchanged: the running gateway has this configuration (127."),
        "{}",
        same.stdout
    );

    running.append("[server]\naddress = \"127.0.0.2\"\nkeep_alive = 7\n");
    let refused = run(operator(), &[&url]).await;
    assert_eq!((refused.code, refused.stderr.as_str()), (Some(1), ""), "{}", refused.stdout);
    for line in [
        "refused: configuration 1 stays in use, 1 problem (",
        &format!("  ~ server.keep_alive: 75 s → 7 s (from {file}, line 14)"),
        "problem: server.address: cannot change while the gateway runs (\"127.0.0.1\" → \"127.0.0.2\"): the listening sockets",
    ] {
        assert!(refused.stdout.lines().any(|other| other.starts_with(line)), "{line}\nin {}", refused.stdout);
    }
    let json = run(operator(), &["--json", &url]).await;
    let document: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((json.code, &document["result"]), (Some(1), &json!("refused")));

    // the file does not tell where the gateway is
    write(&running.file, "[server\n", 0o600);
    let unread = run(operator(), &["--config", file]).await;
    assert_eq!(unread.code, Some(1), "{unread:?}");
    assert!(unread.stdout.starts_with("refused: 1 problem (nothing was asked)\n"), "{}", unread.stdout);
    // with the URL the gateway has the problem
    let asked = run(operator(), &["--config", file, &url]).await;
    assert_eq!(asked.code, Some(1), "{asked:?}");
    assert!(
        asked.stdout.starts_with("refused: configuration 1 stays in use, 1 problem (127."),
        "{}",
        asked.stdout
    );
}

/// G3, X7: the commands need no secret and no file of the gateway but those of `admin`, and an error of another key does not matter
#[tokio::test]
async fn the_commands_need_the_admin_section_only() {
    let upstream = Upstream::ok("x");
    let running = Running::start(&upstream).await;
    let file = running.file.with_file_name("other.toml");
    let port = running.gateway.admin_address().port();
    let builder = || Gateway::builder().set("admin.port", &port.to_string());
    let rest = "[server]\nkeep_alive = -1\n[keys.k]\npolicy = \"all\"\nsecret_file = \"/nowhere/secret\"\n";
    write(&file, &format!("[admin]\ntoken = \"{OPERATOR}\"\n{rest}"), 0o600);
    let asked = run(builder(), &["--config", text(&file)]).await;
    assert_eq!((asked.code, asked.stderr.as_str()), (Some(0), ""), "{asked:?}");
    for command in ["status", "health"] {
        let builder = builder().argument(command).argument("--config").argument(text(&file));
        let report = tokio::task::spawn_blocking(move || builder.run()).await.unwrap();
        assert_eq!(report.code, Some(0), "{command}: {report:?}");
    }
    // an error of `admin` does matter
    write(&file, "[admin]\nmax_connections = \"many\"\n", 0o600);
    let refused = run(Gateway::builder(), &["--config", text(&file)]).await;
    assert!(refused.stdout.contains("problem: admin.max_connections: "), "{refused:?}");
    assert_eq!(refused.code, Some(1));
}

/// G3: if nothing accepts at the address in the configuration, the error names the change that can be the cause
#[tokio::test]
async fn a_changed_address_has_a_hint() {
    let upstream = Upstream::ok("x");
    let running = Running::start(&upstream).await;
    let nobody = unreachable::RefusingAddress::new();
    let file = running.file.with_file_name("other.toml");
    write(&file, &format!("[admin]\ntoken = \"{OPERATOR}\"\n"), 0o600);
    let builder = Gateway::builder().set("admin.port", &nobody.address.port().to_string());
    let report = run(builder, &["--config", text(&file)]).await;
    assert_eq!(report.code, Some(3), "{report:?}");
    assert!(
        report.stderr.contains(" was changed after the start of the gateway, give the URL "),
        "{}",
        report.stderr
    );
}

/// G3: `--check` refuses what a reload refuses because of the file itself
#[tokio::test]
async fn a_check_has_the_rules_of_a_reload() {
    let upstream = Upstream::ok("x");
    let running = Running::start(&upstream).await;
    let file = running.file.with_file_name("new.toml");
    for (content, mode, message) in [
        (
            running.text.as_str(),
            0o666,
            "can be written by other users (mode 0666), so a running gateway does not load it",
        ),
        (running.text.trim_end(), 0o600, "does not end with a newline, so it may be cut off"),
        ("", 0o600, "is empty"),
    ] {
        write(&file, content, mode);
        let report = run(operator(), &["--check", text(&file), &url(&running)]).await;
        assert_eq!(report.code, Some(1), "{report:?}");
        assert!(report.stdout.contains(message), "{message}\nin {}", report.stdout);
    }
}

/// G3: a gateway that cannot be reached, and one that refuses the token, are exit code 3
#[tokio::test]
async fn no_reply_is_exit_code_3() {
    let upstream = Upstream::ok("x");
    let running = Running::start(&upstream).await;
    let nobody = unreachable::RefusingAddress::new();
    let nowhere = format!("http://{}", nobody.address);
    let file = text(&running.file);
    let reader = || Gateway::builder().set("admin.read_token", READER);
    for (builder, arguments, part) in [
        (operator(), vec![nowhere.as_str()], "the running gateway cannot be asked: "),
        (operator(), vec!["--check", file, &nowhere], "the running gateway cannot be asked: "),
        (reader(), vec![&url(&running)], "refused the request with 403: read_only: "),
    ] {
        let report = run(builder, &arguments).await;
        assert_eq!((report.code, report.stdout.as_str()), (Some(3), ""), "{arguments:?} {}", report.stderr);
        assert!(report.stderr.contains(part), "{arguments:?} {}", report.stderr);
    }
}

/// G3: `--check` compares a file with the running gateway, names what takes a restart, and changes nothing
#[tokio::test]
async fn a_file_is_checked_against_the_running_gateway() {
    let upstream = Upstream::ok("x");
    let running = Running::start(&upstream).await;
    let url = url(&running);
    let file = running.file.with_file_name("new.toml");
    // the variables of the gateway, so that only the file differs
    let reader = || operator().set("admin.read_token", READER).set("shedding.target_wait_ms", "60000");
    let check = async |more: &str| {
        write(&file, &format!("{}{more}", running.text), 0o600);
        run(reader(), &["--check", text(&file), &url]).await
    };
    let same = check("").await;
    assert_eq!(same.code, Some(0), "{same:?}");
    let lines: Vec<_> = same.stdout.lines().collect();
    assert!(lines[0].starts_with("unchanged: "), "{}", same.stdout);
    assert_eq!(
        lines[1..],
        ["note: 2 hidden values could not be compared; a reload finds whether they changed"]
    );

    let applicable = check("[server]\nkeep_alive = 7\n").await;
    assert_eq!(applicable.code, Some(0), "{applicable:?}");
    let line = format!("  ~ server.keep_alive: 75 s → 7 s (from {}, line 13)", file.display());
    assert!(
        applicable.stdout.starts_with("applicable: a reload would apply it, 1 changed key ("),
        "{applicable:?}"
    );
    assert!(applicable.stdout.lines().any(|other| other == line), "{}", applicable.stdout);

    let refused = check("[metrics]\nnamespace = \"other\"\n[log]\nlevel = \"debug\"\n").await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    for part in [
        "refused: 1 problem (",
        "\n  ~ log.level: \"info\" → \"debug\" (from ",
        "\nproblem: metrics.namespace: cannot change while the gateway runs (\"tidegate\" → \"other\"): the series",
    ] {
        assert!(refused.stdout.contains(part), "{part}\nin {}", refused.stdout);
    }
    let invalid = check("[server]\nprot = 1\nkeep_alive = \"soon\"\n").await;
    assert_eq!(invalid.code, Some(1), "{invalid:?}");
    assert!(invalid.stdout.starts_with("refused: 2 problems (nothing was "), "{}", invalid.stdout);

    // the gateway was only asked for its configuration
    assert_eq!(running.reload(200).await["result"], "unchanged");
}
