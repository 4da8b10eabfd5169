//! What makes a token good: the shop's own by its secret, an identity provider's by its keys.

use std::sync::{Mutex, PoisonError};

use axum::http::StatusCode;
use hashlink::LruCache;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, TokenData, Validation};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::keyring::{Keyring, Missing};
use super::{Role, forbidden};
use crate::http::Problem;
use crate::settings::Oidc;

/// The issuer of our own tokens.
pub(crate) const ISSUER: &str = "rentstream";
/// Seconds by which two machines' clocks may differ.
const LEEWAY: u64 = 10;
/// Good tokens that are remembered at most, and how many bytes one of them may have.
const REMEMBERED: usize = 4_096;
const LONGEST: usize = 1_024;
/// Of several roles in a token the first of these counts.
const ROLES: [Role; 4] = [Role::Manager, Role::Operator, Role::Courier, Role::Customer];

/// What a good token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bearer {
    pub(super) subject: String,
    pub(super) role: Role,
}

/// The shop's own tokens (HS256).
pub(super) struct Own {
    decoding: DecodingKey,
    encoding: EncodingKey,
    validation: Validation,
    /// Tokens that were found to be good, each with when it expires: a caller has one for many requests, and to look at it
    /// takes 10 µs each time. Only the very same text is known by it.
    good: Mutex<LruCache<String, (i64, Bearer)>>,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    role: Role,
    iss: String,
    exp: i64,
}

impl Own {
    pub(super) fn new(secret: &str) -> Self {
        Self {
            decoding: DecodingKey::from_secret(secret.as_bytes()),
            encoding: EncodingKey::from_secret(secret.as_bytes()),
            validation: validation(vec![Algorithm::HS256], ISSUER, None),
            good: Mutex::new(LruCache::new(REMEMBERED)),
        }
    }

    /// Whose token it is, if it was found to be good before and still is at this time, in seconds since 1970.
    pub(super) fn known(&self, token: &str, now: i64) -> Option<Bearer> {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        let (expires, bearer) = good.get(token)?;
        (now <= expires.saturating_add_unsigned(LEEWAY)).then(|| bearer.clone())
    }

    pub(super) fn mint(&self, role: Role, subject: &str, exp: i64) -> Result<String, Error> {
        let claims = Claims { sub: subject.to_owned(), role, iss: ISSUER.to_owned(), exp };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
    }

    pub(super) fn check(&self, token: &str) -> Result<Bearer, Problem> {
        let TokenData { claims: Claims { sub, role, exp, .. }, .. } =
            jsonwebtoken::decode(token, &self.decoding, &self.validation).map_err(|error| wrong(&error))?;
        let bearer = Bearer { subject: sound(sub)?, role };
        if token.len() <= LONGEST {
            let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
            good.insert(token.to_owned(), (exp, bearer.clone()));
        }
        Ok(bearer)
    }
}

/// An identity provider's tokens (any algorithm with a public key).
pub(super) struct Provider {
    keyring: Keyring,
    pub(super) issuer: String,
    audience: String,
    role_claims: Vec<String>,
}

impl Provider {
    pub(super) fn new(oidc: &Oidc, shutdown: CancellationToken) -> Result<Self, reqwest::Error> {
        let role_claims =
            oidc.role_claim.clone().map_or_else(|| vec!["role".into(), "roles".into()], |it| vec![it]);
        let (issuer, audience) = (oidc.issuer.clone(), oidc.audience.clone());
        Ok(Self { keyring: Keyring::follow(oidc.jwks_url.clone(), shutdown)?, issuer, audience, role_claims })
    }

    pub(super) async fn check(&self, token: &str, header: &Header) -> Result<Bearer, Problem> {
        let key = self.keyring.find(header.kid.as_deref()).await.map_err(|missing| match missing {
            Missing::One => {
                unauthorized("the token is signed with a key that the identity provider doesn't have")
            }
            Missing::All => Problem::unavailable(
                "identity-provider-unavailable",
                "the identity provider's keys can't be fetched, come back soon",
            ),
        })?;
        let validation = validation(key.algorithms, &self.issuer, Some(&self.audience));
        let TokenData { mut claims, .. } =
            jsonwebtoken::decode::<Map<String, Value>>(token, &key.decoding, &validation)
                .map_err(|error| wrong(&error))?;
        let Some(Value::String(subject)) = claims.remove("sub") else {
            return Err(unauthorized("the token's `sub` can't be used"));
        };
        let role = self.role(&claims).ok_or_else(|| {
            let claims = self.role_claims.join("` or `");
            forbidden(format!(
                "the token's claim `{claims}` names none of the roles customer, courier, manager, operator"
            ))
        })?;
        Ok(Bearer { subject: sound(subject)?, role })
    }

    fn role(&self, claims: &Map<String, Value>) -> Option<Role> {
        let named: Vec<Role> = self
            .role_claims
            .iter()
            .filter_map(|name| claim(claims, name))
            .flat_map(|value| value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice))
            .filter_map(|value| Role::deserialize(value).ok())
            .collect();
        ROLES.into_iter().find(|role| named.contains(role))
    }
}

/// A claim by its name, or by the way to it: `realm_access.roles`.
fn claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| {
        let (outer, inner) = name.split_once('.')?;
        claim(claims.get(outer)?.as_object()?, inner)
    })
}

fn validation(algorithms: Vec<Algorithm>, issuer: &str, audience: Option<&str>) -> Validation {
    let mut validation =
        Validation { algorithms, leeway: LEEWAY, validate_nbf: true, ..Validation::default() };
    validation.set_issuer(&[issuer]);
    validation.set_required_spec_claims(&["exp", "iss", "sub"]);
    if let Some(audience) = audience {
        validation.set_audience(&[audience]);
        validation.required_spec_claims.insert("aud".to_owned());
    }
    validation
}

/// A subject becomes part of what is stored.
fn sound(subject: String) -> Result<String, Problem> {
    if (1..=255).contains(&subject.len()) && !subject.chars().any(char::is_control) {
        Ok(subject)
    } else {
        Err(unauthorized("the token's `sub` can't be used"))
    }
}

/// Why a token is refused; never what it should have been.
fn wrong(error: &Error) -> Problem {
    unauthorized(match error.kind() {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidIssuer => "the token is from another issuer",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::InvalidSignature => "the token's signature does not fit",
        ErrorKind::InvalidAlgorithm => "the token's algorithm is not accepted",
        ErrorKind::MissingRequiredClaim(claim) => match claim.as_str() {
            "exp" => "the token does not say when it expires",
            "iss" => "the token does not say who issued it",
            "aud" => "the token does not say for whom it is",
            _ => "the token does not say whose it is",
        },
        _ => "the token can't be accepted",
    })
}

pub(super) fn unauthorized(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_once_it_was_good_and_until_it_expires() {
        let (own, now) = (Own::new("a secret of thirty-two characters"), chrono::Utc::now().timestamp());
        let token = own.mint(Role::Courier, "jun", now + 60).unwrap();
        assert_eq!(own.known(&token, now), None);
        let bearer = own.check(&token).ok();
        assert!(bearer.is_some());
        assert_eq!(own.known(&token, now + 70), bearer);
        assert_eq!(own.known(&token, now + 71), None);
        // One who changes a letter of it isn't known by it.
        let (rest, last) = token.split_at(token.len() - 1);
        let forged = format!("{rest}{}", if last == "A" { "B" } else { "A" });
        assert_eq!(own.known(&forged, now), None);
    }

    #[test]
    fn what_is_refused_is_not_known() {
        let (own, now) = (Own::new("a secret of thirty-two characters"), chrono::Utc::now().timestamp());
        let other = Own::new("another secret of as many letters").mint(Role::Manager, "x", now + 60).unwrap();
        let old = own.mint(Role::Manager, "x", now - 60).unwrap();
        let long = own.mint(Role::Manager, &"x".repeat(300), now + 60).unwrap();
        for token in [other, old, long] {
            assert!(own.check(&token).is_err());
            assert_eq!(own.known(&token, now), None);
        }
    }
}
