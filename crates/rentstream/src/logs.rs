//! The program's own log, and the signals that end it.

use rentstream_infra::settings::LogFormat;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing_subscriber::EnvFilter;

/// What is logged where RUST_LOG says nothing.
const FILTER: &str = "info,sqlx=warn,async_nats=warn,tower_http=info";

/// Starts logging to standard error, so that what a command prints can be piped.
pub(crate) fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(FILTER));
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().init(),
    }
}

/// Begins the shutdown on SIGTERM and SIGINT; what was admitted is finished.
pub(crate) async fn on_signal(shutdown: CancellationToken) {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    info!("Ending; what was begun is finished first");
    shutdown.cancel();
}
