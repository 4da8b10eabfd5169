//! `rentstream demo`.

use anyhow::Result;
use rentstream_infra::settings::Settings;

pub(crate) async fn run(_settings: Settings, _url: &str) -> Result<()> {
    Ok(())
}
