//! An identity provider of the scenario's own: real keys, a real JWKS endpoint that can be stopped.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::Utc;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rand_core::OsRng;
use rsa::pkcs1::EncodeRsaPrivateKey;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Who issues the tokens.
pub const ISSUER: &str = "https://id.example.com/";
/// For whom they are.
pub const AUDIENCE: &str = "rentstream-shop";

/// A key that signs tokens.
pub struct Signer {
    key: EncodingKey,
    algorithm: Algorithm,
    kid: String,
    /// Its public half.
    pub jwk: Value,
}

impl Signer {
    /// An Ed25519 key.
    pub fn ed25519(kid: &str) -> Self {
        let secret = ed25519_dalek::SigningKey::generate(&mut OsRng);
        let key = EncodingKey::from_ed_der(secret.to_pkcs8_der().unwrap().as_bytes());
        let x = URL_SAFE_NO_PAD.encode(secret.verifying_key().as_bytes());
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
        Self::of(key, Algorithm::EdDSA, kid, jwk)
    }

    /// A P-256 key.
    pub fn p256(kid: &str) -> Self {
        let secret = p256::SecretKey::random(&mut OsRng);
        let key = EncodingKey::from_ec_der(secret.to_pkcs8_der().unwrap().as_bytes());
        let jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
        Self::of(key, Algorithm::ES256, kid, json!(jwk))
    }

    /// An RSA key of 2048 bits.
    pub fn rsa(kid: &str) -> Self {
        let secret = rsa::RsaPrivateKey::new(&mut OsRng, 2048).unwrap();
        let key = EncodingKey::from_rsa_der(secret.to_pkcs1_der().unwrap().as_bytes());
        let jwk = Jwk::from_encoding_key(&key, Algorithm::RS256).unwrap();
        Self::of(key, Algorithm::RS256, kid, json!(jwk))
    }

    fn of(key: EncodingKey, algorithm: Algorithm, kid: &str, mut jwk: Value) -> Self {
        jwk["kid"] = json!(kid);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(algorithm);
        Self { key, algorithm, kid: kid.to_owned(), jwk }
    }

    /// A token that says this.
    pub fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(self.algorithm) };
        self.sign_as(&header, claims)
    }

    /// A token that says this below a header of one's own.
    pub fn sign_as(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.key).unwrap()
    }

    /// A good token.
    pub fn token(&self, role: &str, subject: &str) -> String {
        self.sign(&claims(role, subject))
    }
}

/// What a good token says.
pub fn claims(role: &str, subject: &str) -> Value {
    let now = Utc::now().timestamp();
    json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "role": role, "iat": now, "exp": now + 3600 })
}

/// The endpoint.
pub struct Provider {
    port: u16,
    published: Published,
    running: CancellationToken,
}

#[derive(Clone, Default)]
struct Published {
    keys: Arc<Mutex<Vec<Value>>>,
    asked: Arc<AtomicU32>,
}

impl Provider {
    /// One that publishes these keys.
    pub async fn start(keys: &[&Signer]) -> Self {
        let mut provider =
            Self { port: 0, published: Published::default(), running: CancellationToken::new() };
        provider.publish(keys);
        provider.listen().await;
        provider
    }

    /// Listens, after a stop where it did before.
    pub async fn listen(&mut self) {
        self.running = CancellationToken::new();
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        self.port = listener.local_addr().unwrap().port();
        let routes = Router::new().route("/jwks.json", get(set)).with_state(self.published.clone());
        let stopped = self.running.clone();
        tokio::spawn(async move {
            tokio::select! {
                served = axum::serve(listener, routes) => served.unwrap(),
                () = stopped.cancelled() => {}
            }
        });
    }

    /// Publishes these keys and no others.
    pub fn publish(&self, keys: &[&Signer]) {
        *self.published.keys.lock().unwrap() = keys.iter().map(|signer| signer.jwk.clone()).collect();
    }

    /// Nobody answers at its address any more.
    pub fn stop(&self) {
        self.running.cancel();
    }

    /// How often it was asked for its keys.
    pub fn asked(&self) -> u32 {
        self.published.asked.load(Ordering::Relaxed)
    }

    /// What a shop that trusts it is told.
    pub fn settings(&self) -> [(&'static str, String); 3] {
        [
            ("RENTSTREAM_JWKS_URL", format!("http://127.0.0.1:{}/jwks.json", self.port)),
            ("RENTSTREAM_OIDC_ISSUER", ISSUER.to_owned()),
            ("RENTSTREAM_OIDC_AUDIENCE", AUDIENCE.to_owned()),
        ]
    }
}

async fn set(State(Published { keys, asked }): State<Published>) -> Json<Value> {
    asked.fetch_add(1, Ordering::Relaxed);
    Json(json!({ "keys": *keys.lock().unwrap() }))
}
