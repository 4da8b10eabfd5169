//! Prometheus as `deploy/prometheus` configures it, by this machine's own program, on a world's processes.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::World;
use crate::keeper::Running;
use crate::world::free_port;

/// What it is told in a shop.
pub const DEPLOYED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/prometheus");

/// A running Prometheus with the shop's rules.
pub struct Prometheus {
    address: String,
    _running: Running,
}

impl Prometheus {
    /// Starts one that asks these addresses, `http://…`, several times a second.
    pub async fn start(world: &World, addresses: &[&str]) -> Self {
        let listen = format!("127.0.0.1:{}", free_port());
        let (config, data) = (world.folder().join("prometheus.yml"), world.folder().join("prometheus"));
        let mut text = format!(
            "global: {{ scrape_interval: 300ms, scrape_timeout: 300ms, evaluation_interval: 1s }}\n\
             rule_files: [\"{DEPLOYED}/rules/*.yml\"]\n\
             scrape_configs:\n  - job_name: rentstream\n    static_configs:\n"
        );
        for address in addresses {
            let target = address.trim_start_matches("http://");
            writeln!(text, "      - {{ targets: [\"{target}\"], labels: {{ role: up }} }}").unwrap();
        }
        std::fs::write(&config, text).unwrap();
        let arguments = [
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", data.display()),
            format!("--web.listen-address={listen}"),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let log = world.folder().join("prometheus.log");
        let mut running = Running::start(Path::new("prometheus"), &arguments, &[], &log);
        let address = format!("http://{listen}");
        let deadline = std::time::Instant::now() + crate::world::PATIENCE;
        while !world.says_yes(&address, "/-/ready").await {
            assert!(running.ended().is_none(), "it has ended:\n{}", running.log_tail());
            assert!(std::time::Instant::now() < deadline, "it is not ready:\n{}", running.log_tail());
            tokio::time::sleep(std::time::Duration::from_millis(15)).await;
        }
        Self { address, _running: running }
    }

    /// The values that it answers a query with now.
    pub async fn query(&self, world: &World, query: &str) -> Vec<f64> {
        let request = world.http.get(format!("{}/api/v1/query", self.address)).query(&[("query", query)]);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        let result = answer["data"]["result"].as_array().unwrap();
        result.iter().map(|found| found["value"][1].as_str().unwrap().parse().unwrap()).collect()
    }

    /// Each rule's name and how its last evaluation went, as in `ok`.
    pub async fn rules(&self, world: &World) -> Vec<(String, String)> {
        let answer = world.http.get(format!("{}/api/v1/rules", self.address)).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        let groups = answer["data"]["groups"].as_array().unwrap();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        rules.map(|rule| (text(&rule["name"]), text(&rule["health"]))).collect()
    }
}

/// Runs promtool; panics with what it finds.
pub fn promtool(arguments: &[&str]) {
    let ran = Command::new("promtool").args(arguments).output();
    let ran = ran.unwrap_or_else(|error| panic!("promtool ({error}): `make test` installs it"));
    let said = [ran.stdout, ran.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(ran.status.success(), "promtool {arguments:?}:\n{said}");
}
