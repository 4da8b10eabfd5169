//! Where NATS is, whom a server over TLS must be signed by, and who we are to it.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::list::{NATS_CA, NATS_CERT, NATS_KEY, NATS_URL};
use super::{Get, Setting, SettingError, begins};

/// Reads `NATS_URL`: an address, or several with commas between.
pub(super) fn addresses(get: Get<'_>) -> Result<Option<String>, SettingError> {
    let usable = |address: &str| begins(address.trim(), &["nats://", "tls://"]);
    match get(&NATS_URL) {
        Some(value) if !value.split(',').all(usable) => {
            Err(SettingError::new(&NATS_URL, "not such an address"))
        }
        value => Ok(value),
    }
}

/// Reads `NATS_CA`, and `NATS_CERT` and `NATS_KEY` beside it; `None` leaves it to the system's certificates.
pub(super) fn tls(get: Get<'_>) -> Result<Option<ClientConfig>, SettingError> {
    let beside = |setting: &Setting, other: &Setting| SettingError::Wrong {
        name: setting.name,
        problem: format!("set without {}", other.name),
        should: "set beside it or left out",
    };
    let (certificate, key) = (get(&NATS_CERT), get(&NATS_KEY));
    let Some(ca) = get(&NATS_CA) else {
        return match [(certificate, &NATS_CERT), (key, &NATS_KEY)].into_iter().find(|(set, _)| set.is_some())
        {
            Some((_, setting)) => Err(beside(setting, &NATS_CA)),
            None => Ok(None),
        };
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&NATS_CA, &ca)? {
        roots.add(certificate).map_err(|_| SettingError::new(&NATS_CA, "no certificate of an authority"))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| SettingError::new(&NATS_CA, "not usable by this program"))?
        .with_root_certificates(roots);
    Ok(Some(match (certificate, key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(_), None) => return Err(beside(&NATS_CERT, &NATS_KEY)),
        (None, Some(_)) => return Err(beside(&NATS_KEY, &NATS_CERT)),
        (Some(certificate), Some(key)) => {
            let chain = certificates(&NATS_CERT, &certificate)?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                .map_err(|_| SettingError::new(&NATS_KEY, "without a private key"))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|_| SettingError::new(&NATS_KEY, "not the key of NATS_CERT"))?
        }
    }))
}

fn certificates(setting: &Setting, pem: &str) -> Result<Vec<CertificateDer<'static>>, SettingError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.unwrap_or_default();
    if found.is_empty() { Err(SettingError::new(setting, "without a certificate")) } else { Ok(found) }
}
