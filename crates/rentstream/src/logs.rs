//! The program's own log, and the signals that end it.

use std::io::{IsTerminal, stderr};

use rentstream_infra::settings::{LogFormat, SettingError, Settings, list};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing_subscriber::EnvFilter;

/// Starts logging to standard error, so that what a command prints can be piped.
///
/// # Errors
/// When RUST_LOG is no filter.
pub(crate) fn start(settings: &Settings) -> Result<(), SettingError> {
    let filter =
        EnvFilter::try_new(&settings.log).map_err(|_| SettingError::new(&list::LOG, "not a filter"))?;
    // Colours are for who looks; in a file or a collector they are noise.
    let coloured = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|said| said.is_empty());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(coloured)
        .with_target(false);
    match settings.log_format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().init(),
    }
    Ok(())
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
