//! A nats-server that is configured by the scenario.

use std::path::Path;

use tokio::net::TcpStream;

use crate::World;
use crate::keeper::Running;
use crate::world::free_port;

/// Starts one with JetStream and this configuration beside, in a folder of the world's; gives it with its host and
/// port.
pub async fn start(
    world: &World,
    name: &str,
    configuration: &str,
    environment: &[(String, String)],
) -> (Running, String) {
    let folder = world.folder().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let (address, store) = (format!("127.0.0.1:{}", free_port()), folder.join("store"));
    let configuration = format!(
        "listen: \"{address}\"\njetstream {{ store_dir: {store:?}, max_file: 8GB }}\n{configuration}\n"
    );
    let file = folder.join("nats.conf");
    std::fs::write(&file, configuration).unwrap();
    let server =
        ["/usr/sbin", "/usr/local/bin", "/usr/bin"].map(|place| Path::new(place).join("nats-server"));
    let server = server.iter().find(|path| path.exists()).unwrap();
    let running = Running::start(server, &["-c", file.to_str().unwrap()], environment, &folder.join("log"));
    world.until("the nats-server answers", || async { TcpStream::connect(&address).await.ok() }).await;
    (running, address)
}
