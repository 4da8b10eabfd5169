//! Who calls, and what that caller may do.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use chrono::Utc;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rentstream_domain::CustomerId;
use serde::{Deserialize, Serialize};

use super::Problem;

/// The issuer of our own tokens.
const ISSUER: &str = "rentstream";

/// Checks tokens; one for the whole program, in every request's extensions.
#[derive(Clone)]
pub struct Auth {
    decoding: Arc<DecodingKey>,
    encoding: Arc<EncodingKey>,
    validation: Arc<Validation>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Auth")
    }
}

/// What a caller is to the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A customer: only own records.
    Customer,
    /// The shop: items, all customers and rentals.
    Manager,
    /// Brings deliveries.
    Courier,
    /// Runs the views.
    Operator,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    role: Role,
    iss: String,
    exp: i64,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The token's subject: for a customer, the customer id.
    pub subject: String,
    /// The token's role.
    pub role: Role,
}

impl Auth {
    /// Tokens signed with this secret (HS256).
    pub fn new(secret: &str) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        validation.leeway = 5;
        Self {
            decoding: Arc::new(DecodingKey::from_secret(secret.as_bytes())),
            encoding: Arc::new(EncodingKey::from_secret(secret.as_bytes())),
            validation: Arc::new(validation),
        }
    }

    /// Mints a token.
    ///
    /// # Errors
    /// When it can't be signed.
    pub fn mint(
        &self,
        role: Role,
        subject: &str,
        valid: Duration,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let exp = Utc::now().timestamp() + i64::try_from(valid.as_secs()).unwrap_or(i64::MAX / 2);
        let claims = Claims { sub: subject.to_owned(), role, iss: ISSUER.to_owned(), exp };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
    }

    fn caller(&self, token: &str) -> Result<Caller, Problem> {
        use jsonwebtoken::errors::ErrorKind;
        let data =
            jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation).map_err(|error| {
                unauthorized(match error.kind() {
                    ErrorKind::ExpiredSignature => "the token has expired",
                    ErrorKind::InvalidIssuer => "the token was not issued for this shop",
                    _ => "the token can't be accepted",
                })
            })?;
        Ok(Caller { subject: data.claims.sub, role: data.claims.role })
    }
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
}

impl Caller {
    /// Lets managers pass, and the customer whose record it is.
    ///
    /// # Errors
    /// A problem for everybody else.
    pub fn may_act_for(&self, customer: CustomerId) -> Result<(), Problem> {
        match self.role {
            Role::Manager => Ok(()),
            Role::Customer if self.subject.parse() == Ok(customer) => Ok(()),
            _ => Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", "this record is another customer's")),
        }
    }

    /// The customer that a list is narrowed to: a customer sees just the own records, others all.
    ///
    /// # Errors
    /// When a customer's token doesn't name a customer.
    pub fn only_own(&self) -> Result<Option<String>, Problem> {
        match self.role {
            Role::Customer if self.subject.parse::<CustomerId>().is_err() => {
                Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", "the token does not name a customer"))
            }
            Role::Customer => Ok(Some(self.subject.clone())),
            Role::Manager | Role::Courier | Role::Operator => Ok(None),
        }
    }

    /// Lets these roles pass.
    ///
    /// # Errors
    /// A problem for the others.
    pub fn must_be(&self, roles: &[Role]) -> Result<(), Problem> {
        if roles.contains(&self.role) {
            return Ok(());
        }
        let wanted =
            roles.iter().map(|role| format!("{role:?}").to_lowercase()).collect::<Vec<_>>().join(" or ");
        Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", format!("this is for the role {wanted}")))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // Whoever counted the caller's requests has looked at the token already.
        if let Some(caller) = parts.extensions.get::<Self>() {
            return Ok(caller.clone());
        }
        let auth = parts.extensions.get::<Auth>().ok_or_else(Problem::internal)?;
        let header = parts
            .headers
            .get(header::AUTHORIZATION)
            .ok_or_else(|| unauthorized("a bearer token is needed"))?;
        let token = header
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or_else(|| unauthorized("the Authorization header must be: Bearer TOKEN"))?;
        auth.caller(token)
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for Caller {
    type Rejection = Problem;

    /// Nobody is a caller too, where a route is open; a wrong token is refused there as well.
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, Problem> {
        if parts.headers.contains_key(header::AUTHORIZATION) {
            <Self as FromRequestParts<S>>::from_request_parts(parts, state).await.map(Some)
        } else {
            Ok(None)
        }
    }
}
