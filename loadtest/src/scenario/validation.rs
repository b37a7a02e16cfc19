//! Validation beyond the types of a scenario: unknown names, loads that cannot be sent, ranges without bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{LoadSpec, Scenario, Step};
use crate::expectation::Expectation;

/// The first inconsistency in `scenario`.
pub(super) fn find_inconsistency(scenario: &Scenario) -> Option<String> {
    let names: Vec<String> = scenario
        .upstreams
        .iter()
        .flat_map(|spec| spec.endpoints_by_name().into_iter().map(|(name, _)| name))
        .collect();
    let buckets: BTreeSet<_> = names.iter().map(String::as_str).collect();
    let steps: BTreeSet<_> = scenario.steps.iter().map(|step| step.name.as_str()).collect();
    if buckets.len() < names.len() || steps.len() < scenario.steps.len() {
        return Some("two upstreams or two steps have the same name".to_owned());
    }
    if scenario.rounds == 0 {
        return Some("rounds must be at least 1".to_owned());
    }
    let unknown = |step: &Step| step.loads_of.clone().filter(|of| !steps.contains(of.as_str()));
    let unknown_step = scenario.steps.iter().filter(|step| step.loads.is_empty()).find_map(unknown);
    if let Some(unknown) = unknown_step {
        return Some(format!("no step called {unknown}"));
    }
    let in_loads = scenario.steps.iter().find_map(in_loads);
    let in_hostile = || scenario.steps.iter().find_map(|step| in_hostile(step, scenario.tls));
    let in_watchers = || scenario.steps.iter().find_map(in_watchers);
    let in_buckets = || scenario.steps.iter().find_map(|step| unknown_bucket(step, &buckets));
    let in_events = || scenario.steps.iter().find_map(|step| in_events(step, scenario.container.is_some()));
    let in_ranges = || scenario.expectations.iter().find_map(|expectation| in_range(expectation, &steps));
    in_loads
        .or_else(in_hostile)
        .or_else(in_watchers)
        .or_else(in_buckets)
        .or_else(in_events)
        .or_else(in_ranges)
}

fn in_loads(step: &Step) -> Option<String> {
    step.loads.iter().find_map(|load| {
        let name = &load.name;
        if ways_to_offer(load) != 1 {
            Some(format!("load {name} needs exactly one of rate, phases, requests, closed"))
        } else if load.connections == 0 || load.after_seconds >= step.seconds {
            Some(format!("load {name} can never send anything"))
        } else if load.settle_seconds.is_some_and(|settle| !(0.0..step.seconds).contains(&settle)) {
            Some(format!("load {name} ends before settle_seconds"))
        } else if ![load.pause_seconds, load.pause_after_refusal_seconds]
            .iter()
            .all(|pause| (0.0..3600.0).contains(pause))
        {
            Some(format!("load {name} has a pause outside 0 to 3600 s"))
        } else if let Some(header) = broken_header(&load.headers) {
            Some(format!("load {name} has an invalid header: {header}"))
        } else if load.source.is_some_and(|source| !is_local(source)) {
            Some(format!("load {name} has a source that is not a loopback address: use 127.0.0.0/8"))
        } else if load.judged.is_some() && load.check_limit {
            Some(format!("load {name} has both judged and check_limit"))
        } else if load.hang_up_after_bytes.is_some() && load.verify_bytes.is_some() {
            Some(format!("load {name} has both hang_up_after_bytes and verify_bytes"))
        } else if !matches!(load.method.as_str(), "GET" | "PUT") {
            Some(format!("load {name} has method {}: use GET or PUT", load.method))
        } else {
            None
        }
    })
}

fn in_events(step: &Step, has_container: bool) -> Option<String> {
    step.events.iter().find_map(|event| {
        let action = event.action.name();
        if event.times > 1 && !(0.001..3600.0).contains(&event.every_seconds) {
            return Some(format!("event {action} happens several times and needs every_seconds"));
        }
        match (event.action.is_of_upstream(), &event.bucket) {
            (false, Some(_)) => {
                Some(format!("event {action} acts on no upstream and must not have a bucket"))
            }
            (false, None) if event.action.is_of_log_disk() && !has_container => {
                Some(format!("event {action} needs a `[container]`"))
            }
            (true, None) => Some(format!("event {action} needs a bucket")),
            _ => None,
        }
    })
}

fn is_local(source: IpAddr) -> bool {
    matches!(source, IpAddr::V4(source) if source.is_loopback())
}

fn in_hostile(step: &Step, tls: bool) -> Option<String> {
    let names: BTreeSet<_> = step.hostile.iter().map(|group| &group.name).collect();
    if names.len() < step.hostile.len() {
        return Some("two hostile groups of one step have the same name".to_owned());
    }
    step.hostile.iter().find_map(|group| {
        let name = &group.name;
        if group.clients == 0 || group.connections == 0 {
            Some(format!("hostile group {name} has no connections"))
        } else if group.attack.is_http2() && !tls {
            Some(format!("hostile group {name} uses HTTP/2, which needs `tls = true`"))
        } else if ![group.pause_seconds, group.stagger_seconds]
            .iter()
            .all(|pause| (0.0..3600.0).contains(pause))
        {
            Some(format!("hostile group {name} has a pause outside 0 to 3600 s"))
        } else {
            None
        }
    })
}

fn in_watchers(step: &Step) -> Option<String> {
    let names: BTreeSet<_> = step.watchers.iter().map(|group| &group.name).collect();
    if names.len() < step.watchers.len() {
        return Some("two groups of watchers of one step have the same name".to_owned());
    }
    let empty = step.watchers.iter().find(|group| group.count == 0);
    empty.map(|group| format!("group of watchers {} has no connections", group.name))
}

/// The name of a header that would break the request head.
fn broken_header(headers: &BTreeMap<String, String>) -> Option<&str> {
    let is_broken = |text: &String| text.is_empty() || text.contains(char::is_control);
    headers
        .iter()
        .find(|(name, value)| is_broken(name) || is_broken(value) || name.contains(':'))
        .map(|(name, _)| name.as_str())
}

fn ways_to_offer(load: &LoadSpec) -> usize {
    let given = [load.rate.is_some(), load.phases.is_some(), load.requests.is_some(), load.closed];
    given.into_iter().filter(|given| *given).count()
}

fn unknown_bucket(step: &Step, buckets: &BTreeSet<&str>) -> Option<String> {
    let of_loads = step.loads.iter().map(|load| load.bucket.as_str());
    let of_events = step.events.iter().filter_map(|event| event.bucket.as_deref());
    let of_storm = step.storm.as_ref().map(|storm| storm.bucket.as_str());
    let of_hostile = step.hostile.iter().map(|group| group.bucket.as_str());
    let unknown =
        of_loads.chain(of_events).chain(of_storm).chain(of_hostile).find(|bucket| !buckets.contains(bucket));
    unknown.map(|bucket| format!("no upstream called {bucket}"))
}

fn in_range(expectation: &Expectation, steps: &BTreeSet<&str>) -> Option<String> {
    if expectation.min.is_none() && expectation.max.is_none() {
        return Some(format!("{} has neither min nor max", expectation.statistic));
    }
    let names = [Some(&expectation.statistic), expectation.of.as_ref()];
    names.into_iter().flatten().find_map(|name| {
        let step = name.split('.').next().unwrap_or_default();
        (!steps.contains(step)).then(|| format!("{name} does not begin with the name of a step"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::SMALL;
    use super::*;

    const HOSTILE: &str = "[[step.hostile]]\nname = 'h'\nbucket = 'a'\nclients = 1\n\
        attack = { kind = 'http2_ping', per_second = 1 }\n";

    const WATCHERS: &str = "[[step.watchers]]\nname = 'w'\ncount = 1\n";

    #[test]
    fn inconsistencies_are_found_before_any_load() {
        let cases = [
            ("rate = 5", "rate = 5\nrequests = 3", "exactly one of"),
            ("rate = 5", "rate = 5\nheaders = { x = \"a\\nb\" }", "invalid header"),
            ("rate = 5", "rate = 5\nsettle_seconds = 10", "before settle_seconds"),
            ("about = 'x'", "about = 'x'\nrounds = 0", "rounds must be"),
            ("rate = 5", "rate = 5\npause_after_refusal_seconds = -1", "pause outside"),
            ("rate = 5", "rate = 5\nmethod = 'POST'", "use GET or PUT"),
            ("bucket = 'a'\nrate", "bucket = 'b'\nrate", "no upstream called b"),
            ("'s.l.ok'", "'t.l.ok'", "does not begin with the name of a step"),
            ("max = 0", "", "neither min nor max"),
            ("connections = 1", "connections = 0", "never send"),
            ("rate = 5", "rate = 5\nsource = '10.0.0.1'", "not a loopback address"),
            ("[[expect]]", &format!("{HOSTILE}[[expect]]"), "needs `tls = true`"),
            (
                "[[expect]]",
                &format!("{}[[expect]]", HOSTILE.replace("clients = 1", "clients = 0")),
                "no connections",
            ),
            (
                "[[expect]]",
                &format!("{}[[expect]]", WATCHERS.replace("count = 1", "count = 0")),
                "no connections",
            ),
            ("[[expect]]", &format!("{WATCHERS}{WATCHERS}[[expect]]"), "groups of watchers"),
            ("bucket = 'a'\naction = 'kill'", "action = 'kill'", "event kill needs a bucket"),
            ("action = 'kill'", "action = 'fill_log_disk'", "must not have a bucket"),
            ("bucket = 'a'\naction = 'kill'", "action = 'empty_log_disk'", "needs a `[container]`"),
            ("bucket = 'a'\naction = 'kill'", "action = 'reload'\ntimes = 2", "needs every_seconds"),
            ("[[expect]]", "[[step]]\nname = 't'\nloads_of = 'z'\n[[expect]]", "no step called z"),
            (
                "rate = 5",
                "rate = 5\njudged = { own = { status = 200 } }\ncheck_limit = true",
                "has both judged",
            ),
            ("rate = 5", "rate = 5\nhang_up_after_bytes = 1\nverify_bytes = 2", "has both"),
        ];
        for (from, to, reason) in cases {
            let scenario: Scenario = toml::from_str(&SMALL.replace(from, to)).unwrap();
            let found = find_inconsistency(&scenario).unwrap_or_default();
            assert!(found.contains(reason), "{from} -> {to}: {found:?}");
        }
        assert_eq!(find_inconsistency(&toml::from_str(SMALL).unwrap()), None);
    }
}
