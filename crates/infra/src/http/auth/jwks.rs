//! An identity provider's public keys: which of them can be used, and for what.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// Keys of a set that are looked at.
const MOST_KEYS: usize = 100;
/// Bytes of an RSA modulus: shorter ones can be broken, longer ones keep a processor busy.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

/// A key that checks signatures, and by which algorithms. A token can't choose others for it.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) id: Option<String>,
    pub(super) decoding: DecodingKey,
    pub(super) algorithms: Vec<Algorithm>,
}

/// The keys of a set that can be used; a key that can't doesn't spoil the others.
pub(super) fn read(set: &[u8]) -> Option<Vec<Key>> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    let Set { keys } = serde_json::from_slice(set).ok()?;
    let keys = keys.into_iter().take(MOST_KEYS);
    Some(keys.filter_map(|key| usable(&serde_json::from_value(key).ok()?)).collect())
}

fn usable(jwk: &Jwk) -> Option<Key> {
    let common = &jwk.common;
    let signs = common.public_key_use.as_ref().is_none_or(|it| *it == PublicKeyUse::Signature)
        && common.key_operations.as_ref().is_none_or(|them| them.contains(&KeyOperations::Verify));
    let fitting = match &jwk.algorithm {
        AlgorithmParameters::RSA(key) if RSA_BYTES.contains(&bytes(&key.n)?) => {
            AlgorithmFamily::Rsa.algorithms()
        }
        AlgorithmParameters::EllipticCurve(key) => match (&key.curve, bytes(&key.x)?, bytes(&key.y)?) {
            (EllipticCurve::P256, 32, 32) => &[Algorithm::ES256],
            (EllipticCurve::P384, 48, 48) => &[Algorithm::ES384],
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(key) => match (&key.curve, bytes(&key.x)?) {
            (EllipticCurve::Ed25519, 32) => &[Algorithm::EdDSA],
            _ => return None,
        },
        // A shared secret among public keys is a mistake, and anybody could sign with it.
        _ => return None,
    };
    let algorithms = match common.key_algorithm {
        None => fitting.to_vec(),
        Some(named) => vec![Algorithm::try_from(named).ok().filter(|named| fitting.contains(named))?],
    };
    let decoding = DecodingKey::from_jwk(jwk).ok().filter(|_| signs)?;
    Some(Key { id: common.key_id.clone(), decoding, algorithms })
}

fn bytes(base64: &str) -> Option<usize> {
    URL_SAFE_NO_PAD.decode(base64).ok().map(|bytes| bytes.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(key: Value) -> Vec<Algorithm> {
        let set = json!({ "keys": [key] }).to_string();
        read(set.as_bytes()).unwrap().pop().map(|key| key.algorithms).unwrap_or_default()
    }

    fn b64(bytes: usize) -> String {
        URL_SAFE_NO_PAD.encode(vec![7; bytes])
    }

    #[test]
    fn a_key_is_good_for_its_own_algorithms_only() {
        let rsa = |bits: usize| json!({ "kty": "RSA", "kid": "1", "n": b64(bits / 8), "e": "AQAB" });
        let ec = |curve: &str, size| json!({ "kty": "EC", "crv": curve, "x": b64(size), "y": b64(size) });
        let ed = |size| json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(size) });
        let but = |mut key: Value, name: &str, value: Value| {
            key[name] = value;
            key
        };
        assert_eq!(of(rsa(2048)), AlgorithmFamily::Rsa.algorithms());
        assert_eq!(of(but(rsa(2048), "alg", json!("RS256"))), [Algorithm::RS256]);
        assert_eq!(of(ec("P-256", 32)), [Algorithm::ES256]);
        assert_eq!(of(ec("P-384", 48)), [Algorithm::ES384]);
        assert_eq!(of(ed(32)), [Algorithm::EdDSA]);
        for useless in [
            rsa(1024),
            rsa(8192),
            but(rsa(2048), "alg", json!("ES256")),
            but(rsa(2048), "alg", json!("HS256")),
            but(rsa(2048), "alg", json!("RSA-OAEP")),
            but(rsa(2048), "use", json!("enc")),
            but(rsa(2048), "key_ops", json!(["encrypt"])),
            but(rsa(2048), "n", json!("***")),
            ec("P-256", 31),
            ec("P-521", 66),
            ec("secp256k1", 32),
            ed(31),
            ed(0),
            json!({ "kty": "oct", "kid": "1", "k": b64(32) }),
            json!({ "kty": "new" }),
            json!("key"),
        ] {
            assert_eq!(of(useless.clone()), [], "{useless}");
        }
    }

    #[test]
    fn a_key_that_cannot_be_used_spoils_no_other() {
        let set = json!({ "keys": [7, { "kty": "OKP", "crv": "Ed25519", "kid": "a", "x": b64(32) }, {}] });
        let keys = read(set.to_string().as_bytes()).unwrap();
        assert_eq!(keys.iter().map(|key| key.id.as_deref()).collect::<Vec<_>>(), [Some("a")]);
        assert!(read(b"<html>").is_none());
        assert!(read(b"{}").is_none());
    }
}
