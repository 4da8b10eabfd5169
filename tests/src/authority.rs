//! A certificate authority of a scenario's own, and servers that nobody can speak to without it.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rentstream_infra::servers::Postgres;
use sqlx::{Connection, Executor, PgConnection};

use crate::world::PATIENCE;

/// Signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
pub struct Signed {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Signed {
    /// Puts both into a folder; gives where the certificate is, and where the key.
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let paths = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        std::fs::write(&paths.0, &self.certificate).unwrap();
        std::fs::write(&paths.1, &self.key).unwrap();
        paths
    }
}

impl Authority {
    /// One of this name that nobody knows yet.
    pub fn found(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate, in a file.
    pub fn write(&self, folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(format!("{name}.pem"));
        std::fs::write(&path, self.0.pem()).unwrap();
        path
    }

    /// Signs who is known by this name or address.
    pub fn sign(&self, name: &str) -> Signed {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        Signed { certificate: params.signed_by(&key, &self.0).unwrap().pem(), key: key.serialize_pem() }
    }

    /// From now on this Postgres speaks TLS and nothing else.
    pub async fn secure(&self, postgres: &Postgres) {
        let mut server = PgConnection::connect(&postgres.url("postgres")).await.unwrap();
        let data: String = sqlx::query_scalar("SHOW data_directory").fetch_one(&mut server).await.unwrap();
        let signed = self.sign("127.0.0.1");
        // By Postgres' own hand: its key must be its own.
        for (file, text) in [
            ("server.crt", &*signed.certificate),
            ("server.key", &signed.key),
            ("pg_hba.conf", "hostssl all all 127.0.0.1/32 scram-sha-256"),
        ] {
            let lines = format!(
                "COPY (SELECT unnest(string_to_array('{text}', E'\\n'))) \
                 TO PROGRAM 'umask 077; cat > \"{data}/{file}\"'"
            );
            server.execute(&*lines).await.unwrap();
        }
        server.execute("ALTER SYSTEM SET ssl = on").await.unwrap();
        server.execute("SELECT pg_reload_conf()").await.unwrap();
        let comes_in = async |mode| {
            PgConnection::connect(&format!("{}?sslmode={mode}", postgres.url("postgres"))).await.is_ok()
        };
        let secured = async { while comes_in("disable").await || !comes_in("require").await {} };
        tokio::time::timeout(PATIENCE, secured).await.expect("Postgres reads its configuration");
    }
}
