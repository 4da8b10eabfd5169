//! A nats-server that is configured by the scenario.

use std::path::Path;

use tokio::net::TcpStream;

use crate::World;
use crate::keeper::Running;
use crate::world::{LOOK, PATIENCE, free_port};

/// Starts one with JetStream and this configuration beside, in a folder of the world's; gives it with its host and
/// port.
pub async fn start(
    world: &World,
    name: &str,
    configuration: &str,
    environment: &[(String, String)],
) -> (Running, String) {
    let address = format!("127.0.0.1:{}", free_port());
    let running = start_at(&world.folder().join(name), &address, configuration, environment).await;
    (running, address)
}

/// As [`start`], at an address and in a folder of one's own; what the folder has of an earlier one goes on.
pub(crate) async fn start_at(
    folder: &Path,
    address: &str,
    configuration: &str,
    environment: &[(String, String)],
) -> Running {
    std::fs::create_dir_all(folder).unwrap();
    let store = folder.join("store");
    let configuration = format!(
        "listen: \"{address}\"\njetstream {{ store_dir: {store:?}, max_file: 8GB }}\n{configuration}\n"
    );
    let file = folder.join("nats.conf");
    std::fs::write(&file, configuration).unwrap();
    let server =
        ["/usr/sbin", "/usr/local/bin", "/usr/bin"].map(|place| Path::new(place).join("nats-server"));
    let server = server.iter().find(|path| path.exists()).unwrap();
    let mut running =
        Running::start(server, &["-c", file.to_str().unwrap()], environment, &folder.join("log"));
    let answers = async {
        while TcpStream::connect(address).await.is_err() {
            assert!(running.ended().is_none(), "{}", running.log_tail());
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, answers).await.expect("the nats-server answers");
    running
}
