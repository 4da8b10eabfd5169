//! Who calls, and what that caller may do.

mod jwks;
mod keyring;
mod token;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use chrono::Utc;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, AlgorithmFamily};
use rentstream_domain::CustomerId;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use self::token::{Bearer, Own, Provider, unauthorized};
use super::Problem;
use crate::log::Log;
use crate::settings::Oidc;
use crate::store::StoreError;
use crate::subjects::Subject;

pub(crate) use self::token::ISSUER;

/// Checks tokens; one for the whole program, in every request's extensions.
#[derive(Clone, Default)]
pub struct Auth {
    own: Option<Arc<Own>>,
    provider: Option<Arc<Provider>>,
    log: Option<Log>,
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

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The caller's name among callers: for a customer, the customer id.
    pub subject: String,
    /// The token's role.
    pub role: Role,
    /// The customer that a customer's token is of; one who has not registered yet is none.
    pub customer: Option<CustomerId>,
    /// What a customer is called elsewhere: registering binds it to the customer.
    pub elsewhere: Option<Subject>,
}

impl Auth {
    /// Tokens signed with this secret (HS256).
    pub fn new(secret: &str) -> Self {
        Self { own: Some(Arc::new(Own::new(secret))), ..Self::default() }
    }

    /// Accepts an identity provider's tokens too; its keys are fetched until shutdown.
    ///
    /// # Errors
    /// When no connection to it could ever be made.
    pub fn with_provider(self, oidc: &Oidc, shutdown: CancellationToken) -> Result<Self, reqwest::Error> {
        Ok(Self { provider: Some(Arc::new(Provider::new(oidc, shutdown)?)), ..self })
    }

    /// Finds out from the log whom subjects are bound to.
    #[must_use]
    pub fn with_subjects(self, log: Log) -> Self {
        Self { log: Some(log), ..self }
    }

    /// Mints a token.
    ///
    /// # Errors
    /// When it can't be signed.
    pub fn mint(&self, role: Role, subject: &str, valid: Duration) -> Result<String, Error> {
        let exp = Utc::now().timestamp() + i64::try_from(valid.as_secs()).unwrap_or(i64::MAX / 2);
        self.own.as_ref().ok_or(ErrorKind::InvalidKeyFormat)?.mint(role, subject, exp)
    }

    async fn bearer(&self, token: &str) -> Result<(&str, Bearer), Problem> {
        let known = self.own.as_ref().and_then(|own| own.known(token, Utc::now().timestamp()));
        if let Some(bearer) = known {
            return Ok((ISSUER, bearer));
        }
        let header =
            jsonwebtoken::decode_header(token).map_err(|_| unauthorized("the token can't be accepted"))?;
        if header.crit.is_some() {
            return Err(unauthorized("the token asks for what isn't understood here"));
        }
        // A secret is for the one algorithm, public keys are for those that have them, and never the twain
        // shall meet.
        match (header.alg, &self.own, &self.provider) {
            (Algorithm::HS256, Some(own), _) => Ok((ISSUER, own.check(token)?)),
            (algorithm, _, Some(provider)) if algorithm.family() != AlgorithmFamily::Hmac => {
                Ok((&provider.issuer, provider.check(token, &header).await?))
            }
            _ => Err(unauthorized("the token's algorithm is not accepted")),
        }
    }

    async fn caller(&self, token: &str) -> Result<Caller, Problem> {
        let (issuer, Bearer { subject, role }) = self.bearer(token).await?;
        let own_customer = subject.parse::<CustomerId>().ok().filter(|_| issuer == ISSUER);
        Ok(match (role, own_customer) {
            (Role::Customer, Some(customer)) => {
                Caller { subject: customer.to_string(), role, customer: Some(customer), elsewhere: None }
            }
            (Role::Customer, None) => {
                let elsewhere = Subject { issuer: issuer.to_owned(), subject };
                let customer = match &self.log {
                    Some(log) => log.customer_of(&elsewhere).await.map_err(StoreError::from)?,
                    None => None,
                };
                // What somebody is called elsewhere is told to nobody.
                let subject = customer.map_or_else(|| "unregistered".to_owned(), |id| id.to_string());
                Caller { subject, role, customer, elsewhere: Some(elsewhere) }
            }
            (Role::Manager | Role::Courier | Role::Operator, _) => {
                let subject = if issuer == ISSUER { subject } else { format!("{subject} of {issuer}") };
                Caller { subject, role, customer: None, elsewhere: None }
            }
        })
    }
}

fn forbidden(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "forbidden", detail)
}

impl Caller {
    /// Lets managers pass, and the customer whose record it is.
    ///
    /// # Errors
    /// A problem for everybody else.
    pub fn may_act_for(&self, customer: CustomerId) -> Result<(), Problem> {
        self.must_be(&[Role::Customer, Role::Manager])?;
        match (self.role, self.customer()) {
            (Role::Customer, Ok(own)) if own == customer => Ok(()),
            (Role::Customer, Ok(_)) => Err(forbidden("this record is another customer's")),
            (Role::Customer, Err(problem)) => Err(problem),
            (Role::Manager | Role::Courier | Role::Operator, _) => Ok(()),
        }
    }

    /// The customer that a list is narrowed to: a customer sees just the own records, others all.
    ///
    /// # Errors
    /// When a customer's token doesn't name a customer.
    pub fn only_own(&self) -> Result<Option<String>, Problem> {
        match self.role {
            Role::Customer => Ok(Some(self.customer()?.to_string())),
            Role::Manager | Role::Courier | Role::Operator => Ok(None),
        }
    }

    fn customer(&self) -> Result<CustomerId, Problem> {
        self.customer
            .ok_or_else(|| forbidden("this token's bearer is not a customer yet: register with it first"))
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
        Err(forbidden(format!("this is for the role {wanted}")))
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
        auth.caller(token).await
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
