//! A store that requires another region than the configuration: the log warns, once a minute at most.

use crate::support::{Gateway, Upstream, UpstreamReply, request};

const WARNING: &str = "the store requires signatures for another region";

/// A store in `eu-x`, which answers every request with this status and error code.
fn store(status: u16, code: &'static str) -> Upstream {
    let document = format!("<Error><Code>{code}</Code><Message>m</Message><Region>eu-x</Region></Error>");
    Upstream::start(move |seen| {
        let document = if seen.method == "HEAD" { "" } else { document.as_str() };
        UpstreamReply::new(status, document)
            .header("content-type", "application/xml")
            .header("x-amz-bucket-region", "eu-x")
    })
}

/// A gateway with the bucket `acme:b`, which signs for `us-east-1`.
async fn gateway_of(upstream: &Upstream) -> Gateway {
    let file = format!(
        "[buckets.\"acme:b\"]\nauth = [\"anonymous\"]\ns3.endpoints = [\"http://{}\"]\n\
         s3.access_key_id = \"A\"\ns3.secret_access_key = \"s\"\n",
        upstream.address()
    );
    Gateway::builder().config(&file).start().await
}

fn warnings(gateway: &Gateway) -> usize {
    gateway.log_lines().iter().filter(|line| line["msg"] == WARNING).count()
}

/// A9, O2: each response that names another region is reported once, with the key to set
#[tokio::test]
async fn a_wrong_region_is_logged_once() {
    for (status, code, method) in [
        (400, "AuthorizationHeaderMalformed", "GET"),
        (400, "AuthorizationHeaderMalformed", "HEAD"),
        (400, "IllegalLocationConstraintException", "GET"),
        (301, "PermanentRedirect", "GET"),
        (301, "PermanentRedirect", "HEAD"),
        (307, "TemporaryRedirect", "DELETE"),
    ] {
        let upstream = store(status, code);
        let gateway = gateway_of(&upstream).await;
        for _ in 0..5 {
            request(gateway.address(), method, "/acme:b/k", &[], None).await;
        }
        let line = gateway.wait_for_log_line(WARNING, |_| true).await;
        assert_eq!(
            (&line["level"], &line["bucket"], &line["region"], &line["store_region"]),
            (&"WARNING".into(), &"acme:b".into(), &"us-east-1".into(), &"eu-x".into()),
            "{code} {method}"
        );
        assert_eq!(line["hint"], "set buckets.\"acme:b\".s3.region to the store's region");
        gateway.wait_until_idle().await;
        assert_eq!((warnings(&gateway), upstream.count()), (1, 5), "{code} {method}");
    }
}

/// A9: an error that is no region error, or that names the configured region, is not reported
#[tokio::test]
async fn other_errors_are_not_region_errors() {
    let own = Upstream::start(|_| UpstreamReply::status(301).header("x-amz-bucket-region", "us-east-1"));
    for upstream in [store(400, "InvalidArgument"), store(403, "AccessDenied"), store(404, "NoSuchKey"), own]
    {
        let gateway = gateway_of(&upstream).await;
        let answer = request(gateway.address(), "GET", "/acme:b/k", &[], None).await;
        gateway.wait_for_access_line(answer.header("x-request-id").unwrap()).await;
        assert_eq!(warnings(&gateway), 0, "{}", answer.text());
    }
}
