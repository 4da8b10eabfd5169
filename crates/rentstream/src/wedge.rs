//! In debug builds only: on SIGUSR2 every worker of the runtime is blocked for good, as by a bug of ours. The process
//! lives and answers nothing, and scenarios see that it's found out.

use std::sync::{Arc, Barrier};

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tracing::warn;

pub(crate) async fn on_signal() {
    let Ok(mut told) = signal(SignalKind::user_defined2()) else { return };
    if told.recv().await.is_none() {
        return;
    }
    warn!("Every worker of the runtime is blocked from now on, as SIGUSR2 asks");
    let workers = Handle::current().metrics().num_workers();
    let all = Arc::new(Barrier::new(workers));
    for _ in 0..workers {
        let all = all.clone();
        tokio::spawn(async move {
            // Who has come here waits for the others, so each worker gets one of these tasks.
            all.wait();
            loop {
                std::thread::park();
            }
        });
    }
}
