//! What makes a token good: the shop's own by its secret, an identity provider's by its keys.

use axum::http::StatusCode;
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
/// Of several roles in a token the first of these counts.
const ROLES: [Role; 4] = [Role::Manager, Role::Operator, Role::Courier, Role::Customer];

/// What a good token says.
pub(super) struct Bearer {
    pub(super) subject: String,
    pub(super) role: Role,
}

/// The shop's own tokens (HS256).
pub(super) struct Own {
    decoding: DecodingKey,
    encoding: EncodingKey,
    validation: Validation,
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
        }
    }

    pub(super) fn mint(&self, role: Role, subject: &str, exp: i64) -> Result<String, Error> {
        let claims = Claims { sub: subject.to_owned(), role, iss: ISSUER.to_owned(), exp };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
    }

    pub(super) fn check(&self, token: &str) -> Result<Bearer, Problem> {
        let TokenData { claims: Claims { sub, role, .. }, .. } =
            jsonwebtoken::decode(token, &self.decoding, &self.validation).map_err(|error| wrong(&error))?;
        Ok(Bearer { subject: sound(sub)?, role })
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
