//! Tokens: the secret that signs them, and minting one by hand.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rentstream_infra::http::auth::{Auth, Role};
use rentstream_infra::log::Log;
use rentstream_infra::settings::Settings;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

fn file(settings: &Settings) -> PathBuf {
    settings.data.join("jwt-secret")
}

/// Tokens by the secret that is set, or by the one that `up` made in the data folder.
pub(crate) fn auth(settings: &Settings) -> Result<Auth> {
    if let Some(secret) = &settings.jwt_secret {
        return Ok(Auth::new(secret));
    }
    match fs::read_to_string(file(settings)) {
        Ok(secret) if secret.trim().len() >= 32 => Ok(Auth::new(secret.trim())),
        Ok(_) => bail!(
            "{} does not hold a secret; delete it and `rentstream up` makes a new one",
            file(settings).display()
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!(
                "RENTSTREAM_JWT_SECRET is not set; it should be 32 characters or more, or `rentstream up` should have run on the same RENTSTREAM_DATA ({})",
                settings.data.display()
            )
        }
        Err(error) => Err(error).with_context(|| format!("read {}", file(settings).display())),
    }
}

/// All tokens that the APIs accept: those by the secret, and an identity provider's if one is set. With one, a
/// secret is not needed.
pub(crate) fn accepted(settings: &Settings, log: Log, shutdown: &CancellationToken) -> Result<Auth> {
    let Some(oidc) = &settings.oidc else { return Ok(auth(settings)?.with_subjects(log)) };
    let secret = settings.jwt_secret.is_some() || file(settings).exists();
    let own = if secret { auth(settings)? } else { Auth::default() };
    let both = own.with_provider(oidc, shutdown.clone()).context("RENTSTREAM_JWKS_URL")?;
    Ok(both.with_subjects(log))
}

/// Makes a secret in the data folder unless one is set or there.
pub(crate) fn ensure_secret(settings: &Settings) -> Result<()> {
    let file = file(settings);
    if settings.jwt_secret.is_some() || file.exists() {
        return Ok(());
    }
    // Written whole or not at all: a half secret would refuse every token.
    let half = file.with_extension("new");
    let _ = fs::remove_file(&half);
    let mut open = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half)?;
    writeln!(open, "{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())?;
    open.sync_all()?;
    fs::rename(&half, &file).with_context(|| format!("write {}", file.display()))
}

/// Prints a token.
pub(crate) fn run(settings: &Settings, role: Role, subject: &str, hours: u32) -> Result<()> {
    if role == Role::Customer && subject.parse::<Uuid>().is_err() {
        bail!("a customer's token needs --sub CUSTOMER_ID");
    }
    println!("{}", auth(settings)?.mint(role, subject, Duration::from_secs(u64::from(hours) * 3600))?);
    Ok(())
}
