//! The gateway as `deploy/gateway` runs it, by this machine's nginx, before the replicas of a world.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::World;
use crate::keeper::Running;
use crate::world::free_port;

/// How long nginx may take to end its workers.
const END: Duration = Duration::from_secs(10);

/// What runs it.
const RUN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/gateway/run.sh");

fn hosts(addresses: &[&str]) -> String {
    addresses.join(" ").replace("http://", "")
}

/// A running gateway. From its start on, what a world asks goes through it.
pub struct Gateway {
    address: String,
    log: PathBuf,
    settings: Vec<(String, String)>,
    running: Running,
}

impl Gateway {
    /// Starts one before the replicas at these addresses, with these settings beside the usual ones.
    pub async fn start(world: &World, writes: &[&str], reads: &[&str], settings: &[(&str, &str)]) -> Self {
        let listen = format!("127.0.0.1:{}", free_port());
        let folder = world.folder().join(format!("gateway-{}", listen.replace(':', "-")));
        let usual = [
            ("GATEWAY_LISTEN", listen.clone()),
            ("GATEWAY_RUN", folder.display().to_string()),
            ("GATEWAY_WRITES", hosts(writes)),
            ("GATEWAY_READS", hosts(reads)),
            // All of a scenario comes from one address.
            ("GATEWAY_RATE", "100000".to_owned()),
            ("GATEWAY_BURST", "100000".to_owned()),
        ];
        let mut all: Vec<_> = usual.map(|(name, value)| (name.to_owned(), value)).into();
        all.extend(settings.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        let log = folder.with_extension("log");
        let running = Running::ending_by("TERM", Path::new(RUN), &[], &all, &log);
        let mut gateway = Self { address: format!("http://{listen}"), log, settings: all, running };
        let deadline = Instant::now() + crate::world::PATIENCE;
        while !world.says_yes(&gateway.address, "/health").await {
            let ended = gateway.running.ended();
            assert!(ended.is_none(), "the gateway has ended ({ended:?}):\n{}", gateway.running.log_tail());
            assert!(
                Instant::now() < deadline,
                "the gateway does not answer:\n{}",
                gateway.running.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
        world.serves("writes", &gateway.address);
        world.serves("reads", &gateway.address);
        gateway
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Is told of other replicas, and goes on.
    pub fn reload(&mut self, writes: &[&str], reads: &[&str]) {
        let mut configure = Command::new(RUN);
        configure.arg("configure").envs(self.settings.iter().map(|(name, value)| (name, value)));
        configure.env("GATEWAY_WRITES", hosts(writes)).env("GATEWAY_READS", hosts(reads));
        assert!(configure.status().unwrap().success());
        self.running.reload();
    }

    /// Its access log, and what nginx has to say.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Its workers would outlive a master that is killed.
        self.running.terminate();
        let deadline = Instant::now() + END;
        while self.running.ended().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
