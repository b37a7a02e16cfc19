//! The documents of the page for people, and the plots. `tests/browser` has the page in a browser.

use serde_json::Value;

use super::{OPERATOR, READER, bearer, builder, code, send_own, send_request, with_tokens};
use crate::support::{Gateway, Response, Upstream, wait_for};

const DOCUMENTS: [(&str, &str); 4] = [
    ("/", "text/html; charset=utf-8"),
    ("/page.css", "text/css; charset=utf-8"),
    ("/page.js", "text/javascript; charset=utf-8"),
    ("/docs/causes.md", "text/html; charset=utf-8"),
];
const LOGIN: &str = "id=\"login\"";
const LOGOUT: &str = "id=\"logout\"";

/// The policy of a page as its directives.
fn policy(answer: &Response) -> Vec<String> {
    let policy = answer.header("content-security-policy").expect("a policy");
    policy.split(';').map(|directive| directive.trim().to_owned()).collect()
}

/// X7, O5, O10: each document has a strict policy, loads nothing from elsewhere, and is revalidated by a strong tag
#[tokio::test]
async fn the_documents_are_strict_and_revalidated() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream).start().await;
    for (path, content_type) in DOCUMENTS {
        let answer = send_own(&gateway, "GET", path, &[]).await;
        assert_eq!(
            (answer.complete_status(), answer.header("content-type")),
            (200, Some(content_type)),
            "{path}"
        );
        let policy = policy(&answer);
        for directive in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.iter().any(|each| each == directive), "{path}: {policy:?} lacks {directive}");
        }
        assert!(!answer.header("content-security-policy").unwrap().contains("unsafe"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-cache"), "{path}");
        let text = answer.text();
        for outside in [
            "src=\"http",
            "href=\"http",
            "src=\"//",
            "href=\"//",
            "@import",
            "url(",
            "style=\"",
            " onclick",
            "innerHTML",
        ] {
            assert!(!text.contains(outside), "{path} has {outside}");
        }
        let tag = answer.header("etag").unwrap().to_owned();
        assert!(tag.starts_with('"') && tag.len() > 30, "a strong tag: {tag}");
        for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
            let again = send_own(&gateway, "GET", path, &[("if-none-match", &known)]).await;
            assert_eq!(
                (again.complete_status(), again.header("etag")),
                (304, Some(tag.as_str())),
                "{path} {known}"
            );
            assert!(again.body.is_empty() && again.header("content-security-policy").is_some(), "{path}");
        }
        let other = send_own(&gateway, "GET", path, &[("if-none-match", "\"other\"")]).await;
        assert_eq!(other.complete_status(), 200, "{path}");
        let head = send_own(&gateway, "HEAD", path, &[]).await;
        assert_eq!(
            (head.status, head.header("etag"), head.body.len()),
            (200, Some(tag.as_str()), 0),
            "{path}"
        );
        let foreign = send_request(&gateway, "GET", path, &[("host", "evil.test")]).await;
        assert_eq!((foreign.complete_status(), code(&foreign).as_str()), (403, "host_not_allowed"), "{path}");
    }
}

/// X7, O5: without tokens the page opens at once, and the plain health check of the same path stays
#[tokio::test]
async fn without_tokens_there_is_no_login() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream).start().await;
    let page = send_own(&gateway, "GET", "/", &[]).await.text();
    assert!(
        !page.contains(LOGIN) && !page.contains(LOGOUT),
        "without tokens there is no login and no logout"
    );
    let check = send_own(&gateway, "OPTIONS", "/", &[]).await;
    assert_eq!(check.complete_status(), 200);
    assert!(
        check.text().contains("\"ready\":true"),
        "the plain health check is none of the page: {}",
        check.text()
    );
}

/// O5, C4: without a session the page is the login form, its files are open, and no data is
#[tokio::test]
async fn strangers_get_the_login_form_and_no_data() {
    let upstream = Upstream::ok("x");
    let gateway = with_tokens(&upstream).start().await;
    for (path, _) in DOCUMENTS {
        let answer = send_own(&gateway, "GET", path, &[]).await;
        assert_eq!(answer.complete_status(), 200, "{path}");
        assert_eq!(answer.header("connection"), Some("close"), "a stranger occupies no connection: {path}");
    }
    let form = send_own(&gateway, "GET", "/", &[]).await;
    assert!(form.text().contains(LOGIN) && form.text().contains("action=\"/session\""), "{}", form.text());
    // A browser sends `Origin: null` with the form of a page that sends no referrer at all.
    assert_eq!(form.header("referrer-policy"), Some("same-origin"));
    assert_eq!(form.header("vary"), Some("cookie, authorization"));
    for path in ["/status/plots", "/status/plot.svg?series=sensor.memory", "/status", "/config", "/decisions"]
    {
        let refused = send_own(&gateway, "GET", path, &[]).await;
        assert_eq!((refused.complete_status(), code(&refused).as_str()), (401, "token_required"), "{path}");
    }
    let ended = send_own(&gateway, "GET", "/", &[("cookie", "tidegate_admin=AAAA")]).await;
    assert!(ended.complete_status() == 200 && ended.text().contains(LOGIN), "an ended session logs in again");
    let wrong = send_own(&gateway, "GET", "/", &[("authorization", &bearer("wrong"))]).await;
    assert_eq!((wrong.complete_status(), code(&wrong).as_str()), (401, "token_wrong"));
    for token in [OPERATOR, READER] {
        let login = send_own(&gateway, "POST", "/session", &[("authorization", &bearer(token))]).await;
        let cookie = login.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let page = send_own(&gateway, "GET", "/", &[("cookie", &cookie)]).await;
        assert!(page.text().contains(LOGOUT) && !page.text().contains(LOGIN), "{}", page.text());
        assert_ne!(page.header("etag"), form.header("etag"), "the tags of page and form differ");
        assert_ne!(page.header("connection"), Some("close"));
        let known = [("cookie", cookie.as_str()), ("if-none-match", form.header("etag").unwrap())];
        assert_eq!(
            send_own(&gateway, "GET", "/", &known).await.complete_status(),
            200,
            "no 304 for the form's tag"
        );
        let by_header = send_own(&gateway, "GET", "/", &[("authorization", &bearer(token))]).await.text();
        assert!(!by_header.contains(LOGIN) && !by_header.contains(LOGOUT), "{by_header}");
    }
    let post = send_own(&gateway, "POST", "/", &[("authorization", &bearer(OPERATOR))]).await;
    assert_eq!((post.complete_status(), code(&post).as_str()), (405, "method"));
}

/// X10: each cause's link leads to its section
#[tokio::test]
async fn links_of_causes_lead_to_their_sections() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream).chaos().start().await;
    let status = gateway.status().await;
    let docs = status["causes"][0]["docs"].as_str().unwrap();
    let (path, anchor) = docs.split_once('#').unwrap();
    assert_eq!((path, anchor), ("docs/causes.md", "chaos"));
    let page = gateway.admin(&format!("/{path}")).await.text();
    let documented = crate::tidy::sources::read("docs/causes.md");
    let codes: Vec<&str> =
        documented.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect();
    assert!(codes.len() > 30, "{codes:?}");
    for code in codes {
        assert!(page.contains(&format!("id=\"{code}\"")), "no section {code}");
    }
    assert!(page.contains("<code>admin.chaos</code> is on"), "{page}");
}

/// The history's series, once the first sample is there.
async fn series(gateway: &Gateway) -> Vec<Value> {
    wait_for("the history has a value", || async {
        let history: Value = serde_json::from_slice(&gateway.admin("/status/history").await.body).unwrap();
        let series = history["series"].as_array().unwrap().clone();
        series
            .first()
            .is_some_and(|first| first["values"].as_array().is_some_and(|of| !of.is_empty()))
            .then_some(series)
    })
    .await
}

/// X7: each series can be drawn, with its thresholds; the figures have an image and a table each
#[tokio::test]
async fn every_series_can_be_drawn() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let series = series(&gateway).await;
    assert!(series.len() > 10, "{series:?}");
    for one in &series {
        let name = one["name"].as_str().unwrap();
        let image = gateway.admin(&format!("/status/plot.svg?series={name}")).await;
        assert_eq!(
            (image.complete_status(), image.header("content-type")),
            (200, Some("image/svg+xml")),
            "{name}"
        );
        assert!(policy(&image).contains(&"default-src 'none'".to_owned()));
        assert_eq!(image.header("cache-control"), Some("no-store"));
        let text = image.text();
        assert!(text.starts_with("<svg") && text.contains(&format!(">{name}</title>")), "{text}");
        let has_threshold = text.contains("Threshold warning: 80 %");
        assert_eq!(has_threshold, one["warning"] == 80, "{name}");
    }
    let sensors = series.iter().filter(|one| one["name"].as_str().unwrap().starts_with("sensor.")).count();
    let figures = gateway.admin("/status/plots").await.text();
    let count = |what: &str| figures.matches(what).count();
    let all = sensors + 3;
    assert_eq!((count("<figure"), count("<svg"), count("<table>")), (all, all, all));
    let of_bucket = gateway.admin("/status/plots?bucket=b").await.text();
    for text in [
        "<figcaption><span>Latency</span>",
        "p99: highest",
        "errors: mean",
        "queued: lowest",
        "Wait in the queue",
    ] {
        assert!(of_bucket.contains(text), "{text} is not in {of_bucket}");
    }
}

/// E1, Bad input: a wrong parameter of a plot is named with what is accepted
#[tokio::test]
async fn wrong_parameters_of_plots_are_named() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    series(&gateway).await;
    let five = ["p50"; 5].map(|end| format!("bucket.b.{end}")).join(",");
    for (query, expected) in [
        ("plot.svg", "`series` is empty"),
        ("plot.svg?series=", "`series` is empty"),
        ("plot.svg?series=sensor.none", "is `sensor.none`, which is not a series"),
        ("plot.svg?series=%3Cscript%3E", "is `<script>`, which is not a series"),
        ("plot.svg?series=sensor.memory,bucket.b.p50", "different units: `%` and `ms`"),
        ("plot.svg?series=sensor.memory&series=level", "occurs twice"),
        (&format!("plot.svg?series={five}"), "more than 4 series"),
        ("plot.svg?name=x", "no parameter `name`"),
        ("plots?bucket=none", "`bucket` is not a bucket with series"),
    ] {
        let answer = gateway.admin(&format!("/status/{query}")).await;
        assert_eq!((answer.complete_status(), code(&answer).as_str()), (400, "invalid_parameter"), "{query}");
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains(expected), "{query}: {message}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
}
