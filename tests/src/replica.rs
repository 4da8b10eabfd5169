//! One of several processes of a role, which a scenario kills and starts again at the same address.

use std::sync::Mutex;

use crate::World;
use crate::keeper::Running;

/// A `command-api` of a world.
pub struct Replica {
    settings: Vec<(&'static str, String)>,
    address: String,
    running: Mutex<Option<Running>>,
}

impl Replica {
    /// Starts one with these settings beside the usual ones, and waits until it serves.
    pub async fn start(world: &World, settings: &[(&'static str, &str)]) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listen = format!("127.0.0.1:{port}");
        let address = format!("http://{listen}");
        let mut settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.to_string())).collect();
        settings.push(("RENTSTREAM_LISTEN", listen));
        let replica = Self { settings, address, running: Mutex::new(None) };
        replica.again(world).await;
        replica
    }

    /// Where it serves, whether it runs or not.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Starts it where it was, and waits until it serves.
    pub async fn again(&self, world: &World) {
        let settings: Vec<_> = self.settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        *self.running.lock().unwrap() = Some(world.process("command-api", &settings));
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

    fn must_run(&self) {
        let mut running = self.running.lock().unwrap();
        let running = running.as_mut().expect("it was started");
        if let Some(status) = running.ended() {
            panic!("a replica has ended ({status}):\n{}", running.log_tail());
        }
    }
}
