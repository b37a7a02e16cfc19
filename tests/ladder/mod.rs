//! The ladder of actions: real pressure raises the level, each action has its effect, and the status counts it (X2, X6, X8).
//!
//! Most cases raise the level with requests in flight: an upstream holds 36 requests of 40 slots, which is `critical`, and four more fit.

mod connections;
mod features;
mod shedding;
mod transfers;

use serde_json::Value;

use crate::support::gateway::Builder;
use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, client, wait_for};
use crate::tidy::sources::read;

/// The modes of an action.
const MODES: [&str; 3] = ["enforce", "shadow", "off"];

/// The slots for requests in flight.
const SLOTS: &str = "40";
/// Requests that are `warning`.
const WARNING_REQUESTS: usize = 32;
/// Requests that are `critical`.
const CRITICAL_REQUESTS: usize = 36;

/// Requests that the upstream holds; the level falls after they end.
struct Pressure {
    latch: Latch,
    upstream: Upstream,
    clients: Vec<Client>,
}

impl Pressure {
    /// An upstream that holds `/b/held` and answers all other targets by `answer`.
    fn new(answer: impl Fn(&str) -> UpstreamReply + Send + Sync + 'static) -> Self {
        let latch = Latch::new();
        let held = latch.clone();
        let upstream = Upstream::start(move |seen| match seen.target.as_str() {
            "/b/held" => UpstreamReply::ok("held").when_open(&held),
            target => answer(target),
        });
        Self { latch, upstream, clients: Vec::new() }
    }

    fn gateway(&self) -> Builder {
        few_slots(Gateway::builder().bucket("b", &self.upstream))
    }

    /// Holds requests, until the level is critical.
    async fn raise(&mut self, gateway: &Gateway) {
        for _ in 0..CRITICAL_REQUESTS {
            let mut client = Client::connect(gateway.address()).await;
            client.send(client::message("GET", "/b/held", &[], None)).await;
            self.clients.push(client);
        }
        reaches(gateway, "critical").await;
    }

    /// Ends the requests, until the level is normal.
    async fn release(&mut self, gateway: &Gateway) {
        self.latch.open_for_all();
        for client in &mut self.clients {
            assert_eq!(client.response("GET").await.complete_status(), 200);
        }
        reaches(gateway, "normal").await;
    }
}

fn few_slots(builder: Builder) -> Builder {
    builder
        .set("server.max_concurrent_requests", SLOTS)
        .set("monitor.interval_ms", "20")
        .set("monitor.dwell_ms", "100")
}

async fn reaches(gateway: &Gateway, level: &str) -> Value {
    wait_for(&format!("the level is {level}"), || async {
        let status = gateway.status().await;
        (status["level"] == level).then_some(status)
    })
    .await
}

/// The entry of an action in the status.
pub(crate) async fn action(gateway: &Gateway, name: &str) -> Value {
    let status = gateway.status().await;
    let found = status["actions"].as_array().unwrap().iter().find(|action| action["name"] == name);
    found.unwrap_or_else(|| panic!("no action {name}: {status}")).clone()
}

/// Checks the state of an action in the status and in the metrics.
async fn assert_touched(gateway: &Gateway, name: &str, mode: &str, touched: u64) {
    let found = wait_for(&format!("{name} has touched {touched}"), || async {
        let found = action(gateway, name).await;
        (found["touched"] == touched).then_some(found)
    })
    .await;
    let is_in_force = mode != "off";
    assert_eq!((&found["mode"], &found["in_force"]), (&mode.into(), &is_in_force.into()), "{found}");
    assert_eq!((found["since"].is_string(), found["touched_in_force"].is_u64()), (is_in_force, is_in_force));
    let metric = |name: &str, action: &str| format!("degradation_action_{name}{{action=\"{action}\"}}");
    assert_eq!(gateway.metric(&metric("touched_total", name)).await, touched as f64, "{name}");
    assert_eq!(gateway.metric(&metric("in_force", name)).await, f64::from(u8::from(is_in_force)), "{name}");
}

/// The causes with this code.
async fn causes(gateway: &Gateway, code: &str) -> Vec<Value> {
    let status = gateway.status().await;
    let causes = status["causes"].as_array().unwrap().iter();
    causes.filter(|cause| cause["code"] == code).cloned().collect()
}

/// Waits for the decision about a request of this kind.
async fn decision(gateway: &Gateway, request_id: &str, kind: &str) -> Value {
    wait_for(&format!("a decision {kind} about {request_id}"), || async {
        let answer = gateway.admin(&format!("/decisions?request_id={request_id}")).await;
        let document: Value = serde_json::from_slice(&answer.body).unwrap();
        let mut decisions = document["decisions"].as_array().unwrap().iter();
        decisions.find(|decision| decision["kind"] == kind).cloned()
    })
    .await
}

/// X2, X7: the status has all actions in the order of the documented table, and those of a level while it lasts
#[tokio::test]
async fn the_status_lists_the_actions_and_those_in_force() {
    let mut pressure = Pressure::new(|_| UpstreamReply::ok("x"));
    let gateway = pressure.gateway().start().await;
    let page = read("docs/status.md");
    let (_, table) = page.split_once("<!-- actions:begin -->").unwrap();
    let (table, _) = table.split_once("<!-- actions:end -->").unwrap();
    let documented: Vec<&str> =
        table.lines().filter_map(|row| row.strip_prefix("| `")?.split('`').next()).collect();
    let status = gateway.status().await;
    let actions = status["actions"].as_array().unwrap();
    let names: Vec<&str> = actions.iter().map(|action| action["name"].as_str().unwrap()).collect();
    assert_eq!(names, documented);
    for action in actions {
        assert_eq!((&action["in_force"], &action["since"]), (&false.into(), &Value::Null), "{action}");
        assert_eq!((&action["touched"], &action["touched_in_force"]), (&0.into(), &Value::Null), "{action}");
        let row = format!(
            "| `{}` | `{}` |",
            action["name"].as_str().unwrap(),
            action["on_level"].as_str().unwrap()
        );
        assert!(table.contains(&row), "{row}");
    }
    assert_eq!(status["switched_off"], serde_json::json!([]));

    pressure.raise(&gateway).await;
    let status = gateway.status().await;
    let in_force: Vec<&Value> =
        status["actions"].as_array().unwrap().iter().filter(|one| one["in_force"] == true).collect();
    let in_force: Vec<&Value> = in_force.iter().map(|action| &action["name"]).collect();
    let below_exhausted = status["actions"].as_array().unwrap().iter();
    let below_exhausted =
        below_exhausted.filter(|one| one["on_level"] != "exhausted").map(|one| &one["name"]);
    assert_eq!(in_force, below_exhausted.collect::<Vec<_>>(), "all but those of the highest level");
    assert_eq!(in_force.len(), names.len() - 3, "{status}");
    assert_eq!(status["switched_off"].as_array().unwrap().iter().collect::<Vec<_>>(), in_force);
    let cause = causes(&gateway, "critical").await.pop().unwrap();
    let effect = cause["effect"]["text"].as_str().unwrap();
    assert!(effect.starts_with("actions in force: ") && effect.contains("hedges, retries"), "{cause}");

    pressure.release(&gateway).await;
    assert_eq!(gateway.status().await["switched_off"], serde_json::json!([]));
}
