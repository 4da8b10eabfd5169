//! One of several processes of a role, which a scenario ends and starts again at the same address.

use std::sync::Mutex;

use crate::World;
use crate::keeper::Running;
use crate::world::{PATIENCE, free_port};

/// A process of a world, a `command-api` or another.
pub struct Replica {
    role: &'static str,
    settings: Vec<(&'static str, String)>,
    address: String,
    running: Mutex<Option<Running>>,
}

impl Replica {
    /// Starts a `command-api` with these settings beside the usual ones, and waits until it serves.
    pub async fn start(world: &World, settings: &[(&'static str, &str)]) -> Self {
        Self::of(world, "command-api", settings).await
    }

    /// As [`Replica::start`], of any role.
    pub async fn of(world: &World, role: &'static str, settings: &[(&'static str, &str)]) -> Self {
        let replica = Self::that_will_be(role, settings);
        replica.again(world).await;
        replica
    }

    /// One that was not started yet, and has its address already.
    pub fn that_will_be(role: &'static str, settings: &[(&'static str, &str)]) -> Self {
        let listen = format!("127.0.0.1:{}", free_port());
        let address = format!("http://{listen}");
        let mut settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.to_string())).collect();
        let at = if role.ends_with("-api") { "RENTSTREAM_LISTEN" } else { "RENTSTREAM_METRICS_LISTEN" };
        settings.push((at, listen));
        Self { role, settings, address, running: Mutex::new(None) }
    }

    /// The same one, that will be started with these settings in place of what they were.
    #[must_use]
    pub fn with(mut self, settings: &[(&'static str, &str)]) -> Self {
        // The last word counts.
        self.settings.extend(settings.iter().map(|(name, value)| (*name, value.to_string())));
        self
    }

    /// Where it serves, whether it runs or not.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Of which role it is.
    pub fn role(&self) -> &'static str {
        self.role
    }

    /// Starts it where it was, and waits until it serves.
    pub async fn again(&self, world: &World) {
        let settings: Vec<_> = self.settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        *self.running.lock().unwrap() = Some(world.process(self.role, &settings));
        world
            .until("a replica is ready", || async {
                self.must_run();
                world.is_ready(&self.address).await.then_some(())
            })
            .await;
    }

    /// SIGKILL; returns once it's gone.
    pub fn kill(&self) {
        self.running.lock().unwrap().take().expect("it runs").kill();
    }

    /// SIGSTOP: it's there and does nothing.
    pub fn freeze(&self) {
        self.running.lock().unwrap().as_mut().expect("it runs").freeze();
    }

    /// SIGUSR2: its runtime's workers are blocked.
    pub fn wedge(&self) {
        self.running.lock().unwrap().as_mut().expect("it runs").wedge();
    }

    /// SIGTERM; it goes on until it has done what it must.
    pub fn terminate(&self) {
        self.running.lock().unwrap().as_mut().expect("it runs").terminate();
    }

    /// SIGTERM, and waits until it has ended well.
    pub async fn stop(&self) {
        self.terminate();
        self.ends().await;
    }

    /// Waits until it has ended well.
    pub async fn ends(&self) {
        let mut running = self.running.lock().unwrap().take().expect("it runs");
        let status = running.end(PATIENCE).await;
        assert!(status.success(), "`{}` ended with {status}:\n{}", self.role, running.log_tail());
    }

    /// How many requests it has answered so far, those about its health left out.
    pub async fn answered(&self, world: &World) -> u64 {
        let metrics = world.metrics_at(&self.address).await;
        let of_it = metrics.lines().filter(|line| {
            line.starts_with("rentstream_http_request_seconds_count") && line.contains("\"/v1/")
        });
        of_it.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    fn must_run(&self) {
        let mut running = self.running.lock().unwrap();
        let running = running.as_mut().expect("it was started");
        if let Some(status) = running.ended() {
            panic!("a replica has ended ({status}):\n{}", running.log_tail());
        }
    }
}
