//! What an operator sees: the alerts and dashboards of `deploy/` ask for what the program tells, and get an answer.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rentstream_infra::metrics;
use rentstream_tests::endpoints::Endpoints;
use rentstream_tests::prometheus::{DEPLOYED, Prometheus, promtool};
use rentstream_tests::{World, book};
use serde_json::{Value, json};

const RUNBOOKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/runbooks.md");
/// Told only once the payment gateway has been down.
const OF_BAD_DAYS: &str = "rentstream_gateway_refrained_total";

/// The files of a folder beside the rules.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let found =
        std::fs::read_dir(Path::new(DEPLOYED).join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let found: Vec<_> =
        found.filter(|path| path.extension().is_some_and(|extension| extension == ending)).collect();
    assert!(!found.is_empty(), "{folder} is empty");
    found
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn texts(folder: &str, ending: &str) -> String {
    files(folder, ending).iter().map(read).collect()
}

/// What the dashboards ask.
fn queries() -> Vec<String> {
    let mut queries = Vec::new();
    for file in files("../grafana/dashboards", "json") {
        let dashboard: Value = serde_json::from_str(&read(file)).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                queries.push(target["expr"].as_str().unwrap().replace("$__rate_interval", "30s"));
            }
        }
    }
    queries
}

/// The metrics that rules, their tests and dashboards speak of.
fn asked_for() -> BTreeSet<String> {
    let folders = [("rules", "yml"), ("tests", "yml"), ("../grafana/dashboards", "json")];
    let text: String = folders.iter().map(|(folder, ending)| texts(folder, ending)).collect();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    words.filter(|word| word.starts_with("rentstream_")).map(str::to_owned).collect()
}

#[test]
fn no_rule_and_no_dashboard_asks_for_a_metric_that_is_not_there() {
    let names = metrics::names();
    let is_there = |asked: &String| {
        let stems = ["", "_total", "_bucket", "_sum", "_count"].iter();
        stems.filter_map(|end| asked.strip_suffix(end)).any(|stem| names.iter().any(|name| name == stem))
    };
    let asked = asked_for();
    assert!(asked.len() >= 30, "{asked:?}");
    let unknown: Vec<_> = asked.iter().filter(|asked| !is_there(asked)).collect();
    assert!(unknown.is_empty(), "there's no {unknown:?}");
}

#[test]
fn rules_are_in_order_and_each_alert_has_a_test_and_a_runbook() {
    let paths = |folder: &str| {
        let files = files(folder, "yml").into_iter();
        files.map(|path| path.display().to_string()).collect::<Vec<_>>()
    };
    let (rules, tests) = (paths("rules"), paths("tests"));
    let all = |command: &[&'static str], paths: &[String]| {
        promtool(&command.iter().copied().chain(paths.iter().map(String::as_str)).collect::<Vec<_>>());
    };
    all(&["check", "config"], &[format!("{DEPLOYED}/prometheus.yml")]);
    all(&["check", "rules"], &rules);
    all(&["test", "rules"], &tests);

    let (runbooks, tests) = (read(RUNBOOKS), tests.iter().map(read).collect::<String>());
    let rules: String = rules.iter().map(read).collect();
    let alerts: Vec<_> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() >= 15, "{}", alerts.len());
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        for annotation in ["summary: ", "description: ", "severity: "] {
            assert!(alert.contains(annotation), "{name} has no {annotation}");
        }
        let link = format!("runbook: docs/runbooks.md#{}\n", name.to_lowercase());
        assert!(alert.contains(&link), "{name} lacks {link}");
        assert!(runbooks.contains(&format!("\n## {name}\n")), "{name} has no runbook");
        assert!(
            tests.contains(&format!("alertname=\"{name}\""))
                || tests.contains(&format!("alertname: {name}\n"))
        );
    }
}

#[tokio::test]
async fn a_prometheus_that_asks_a_busy_shop_answers_what_dashboards_and_rules_ask() {
    let endpoints = Endpoints::start().await;
    let webhook = endpoints.webhook();
    let world =
        World::up(&webhook.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>()).await;
    let prometheus = Prometheus::start(&world, &[&world.address("writes")]).await;
    let (minji, book) = (world.customer("Min-ji").await, world.item(book().units(10_000)).await);

    let mut unanswered = queries();
    assert!(unanswered.len() >= 40, "{}", unanswered.len());
    unanswered.retain(|query| !query.contains(OF_BAD_DAYS));
    let deadline = Instant::now() + Duration::from_secs(60);
    while !unanswered.is_empty() {
        assert!(Instant::now() < deadline, "nothing is known of {unanswered:#?}");
        let rental = world.rent(&minji, book).await;
        world.cancel(&minji, &rental).await.expect(202);
        world.post("/v1/rentals").by(&minji).json(&json!({})).await.expect(422);
        world.my_page(&minji).await;
        let mut still = Vec::new();
        for query in unanswered {
            if !prometheus.query(&world, &query).await.iter().any(|value| value.is_finite()) {
                still.push(query);
            }
        }
        unanswered = still;
    }

    let rules = || async {
        let rules = prometheus.rules(&world).await;
        let broken: Vec<_> =
            rules.iter().filter(|(_, health)| health != "ok" && health != "unknown").collect();
        assert!(broken.is_empty(), "{broken:?}");
        rules.iter().all(|(_, health)| health == "ok").then_some(rules)
    };
    let rules = world.until("each rule was evaluated", rules).await;
    assert!(rules.len() >= 20, "{rules:?}");

    // By their whole names, as a Prometheus keeps them.
    let told = world.metrics("writes").await;
    let told: BTreeSet<&str> = told.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
    let asked = asked_for();
    let unknown: Vec<_> =
        asked.iter().filter(|name| !told.contains(name.as_str()) && *name != OF_BAD_DAYS).collect();
    assert!(unknown.is_empty(), "the program doesn't tell {unknown:?}");
}
