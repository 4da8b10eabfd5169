//! Why a server that is there won't have us, or we it. That's no outage: not waiting helps, but another setting.

use std::error::Error;
use std::io;

use async_nats::{ConnectError, ConnectErrorKind};
use rustls::Error as TlsError;

/// Why Postgres refuses, or can't be trusted; `None` if it's just away.
pub(super) fn by_postgres(error: &sqlx::Error) -> Option<String> {
    match error {
        sqlx::Error::Io(io) => match tls(io) {
            Some(TlsError::InvalidCertificate(_)) => Some(format!(
                "{io}; `sslrootcert` should name a file with the certificate of who signed the server's"
            )),
            Some(_) => Some(io.to_string()),
            // Hosts are found by address, sockets aren't files that are opened.
            None if io.kind() == io::ErrorKind::NotFound => {
                Some("a file that it names for TLS is not there".to_owned())
            }
            None => None,
        },
        sqlx::Error::Tls(why) | sqlx::Error::Configuration(why) => Some(why.to_string()),
        // No line of pg_hba.conf lets us in; as a rule because it asks for TLS.
        sqlx::Error::Database(error) if error.code().as_deref() == Some("28000") => {
            Some(error.message().to_owned())
        }
        _ => None,
    }
}

/// Why NATS refuses, or can't be trusted; `None` if it's just away.
pub(super) fn by_nats(error: &ConnectError) -> Option<String> {
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match (io.and_then(tls), error.kind()) {
        (Some(why @ TlsError::InvalidCertificate(_)), _) => {
            Some(format!("{why}; NATS_CA should be the certificate of who signed the server's"))
        }
        (Some(why @ TlsError::AlertReceived(_)), _) => {
            Some(format!("{why}; NATS_CERT and NATS_KEY should be what the server knows us by"))
        }
        (Some(why), _) => Some(format!("{why}; NATS_CA is set, so the server should speak TLS")),
        (
            None,
            ConnectErrorKind::Tls
            | ConnectErrorKind::Authentication
            | ConnectErrorKind::AuthorizationViolation,
        ) => Some(error.to_string()),
        (None, _) => None,
    }
}

fn tls(error: &io::Error) -> Option<&TlsError> {
    error.get_ref()?.downcast_ref()
}
