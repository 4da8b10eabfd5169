//! Errors as RFC 9457 problems, and the one table that maps what goes wrong to what HTTP says of it.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rentstream_domain::Refusal;
use rentstream_domain::customer::CustomerError;
use rentstream_domain::delivery::DeliveryError;
use rentstream_domain::payment::PaymentError;
use rentstream_domain::rental::RentalError;
use rentstream_domain::stock::StockError;
use serde_json::{Map, Value, json};
use tracing::{error, warn};

use crate::driver::DriveError;
use crate::store::StoreError;

/// Seconds after which a client that was turned away may come back.
const RETRY_AFTER: u64 = 1;

/// A repeat that came before the answer.
const IN_FLIGHT: &str = "request-in-flight";

/// What went wrong, for the client.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The answer's status.
    pub status: StatusCode,
    /// A stable slug that a program can tell the problem by.
    pub kind: &'static str,
    /// A sentence for a person.
    pub detail: String,
    /// More members, `field` among them where one is to blame.
    pub more: Map<String, Value>,
}

impl Problem {
    /// A problem.
    pub fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, detail: detail.into(), more: Map::new() }
    }

    /// Input that can't be taken, and the field to blame.
    pub fn invalid(field: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-field", detail).with("field", json!(field))
    }

    /// Nothing of that kind has that id.
    pub fn unknown(kind: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, kind, detail)
    }

    /// Something that should not happen; the log says more, the client gets no inner words.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong on our side")
    }

    /// Postgres is away or too much is waiting: come back.
    pub fn unavailable(kind: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, detail)
    }

    /// Adds a member.
    #[must_use]
    pub fn with(mut self, member: &str, value: Value) -> Self {
        self.more.insert(member.to_owned(), value);
        self
    }

    /// The problem's members.
    pub fn body(&self) -> Value {
        let mut body = self.more.clone();
        body.insert("type".into(), json!(self.kind));
        body.insert("title".into(), json!(self.status.canonical_reason().unwrap_or("Error")));
        body.insert("status".into(), json!(self.status.as_u16()));
        body.insert("detail".into(), json!(self.detail));
        Value::Object(body)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE || self.kind == IN_FLIGHT {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The table.
fn row(refusal: Refusal) -> (StatusCode, &'static str, Option<&'static str>) {
    use StatusCode as S;
    match refusal {
        Refusal::Customer(error) => match error {
            CustomerError::Unknown => (S::NOT_FOUND, "unknown-customer", None),
            CustomerError::AlreadyRegistered => (S::CONFLICT, "already-registered", None),
            CustomerError::Forgotten => (S::GONE, "customer-forgotten", None),
            CustomerError::NothingToDeposit | CustomerError::TooManyPoints => {
                (S::UNPROCESSABLE_ENTITY, "invalid-field", Some("amount"))
            }
            CustomerError::NotEnoughPoints => (S::PAYMENT_REQUIRED, "not-enough-points", None),
            CustomerError::AlreadyRefunded => (S::CONFLICT, "already-refunded", None),
        },
        Refusal::Stock(error) => match error {
            StockError::Unknown => (S::NOT_FOUND, "unknown-item", None),
            StockError::AlreadyRegistered => (S::CONFLICT, "already-registered", None),
            StockError::Retired => (S::CONFLICT, "item-retired", None),
            StockError::OutOfStock | StockError::NotFree => (S::CONFLICT, "out-of-stock", None),
            StockError::Unlimited => (S::CONFLICT, "unlimited-units", None),
            StockError::TooManyUnits => (S::UNPROCESSABLE_ENTITY, "invalid-field", Some("units")),
            StockError::ReservationEnded => (S::CONFLICT, "reservation-ended", None),
        },
        Refusal::Rental(error) => match error {
            RentalError::Unknown => (S::NOT_FOUND, "unknown-rental", None),
            RentalError::RequestedOtherwise => (S::UNPROCESSABLE_ENTITY, "idempotency-key-reused", None),
            RentalError::AlreadyAnswered => (S::CONFLICT, "already-answered", None),
            RentalError::NotYetAnswered => (S::CONFLICT, "not-yet-answered", None),
            RentalError::NotAccepted => (S::CONFLICT, "not-accepted", None),
            RentalError::NotDelivered => (S::CONFLICT, "not-delivered", None),
            RentalError::TooLateToCancel => (S::CONFLICT, "too-late-to-cancel", None),
            RentalError::AlreadyReturned => (S::CONFLICT, "already-returned", None),
            RentalError::SaleNeverComesBack => (S::CONFLICT, "sale-never-comes-back", None),
            RentalError::CancellationUnderWay => (S::CONFLICT, "cancellation-under-way", None),
            RentalError::NoCancellationUnderWay => (S::CONFLICT, "no-cancellation-under-way", None),
        },
        Refusal::Payment(error) => match error {
            PaymentError::Unknown => (S::NOT_FOUND, "unknown-payment", None),
            PaymentError::RequestedOtherwise => (S::CONFLICT, "requested-otherwise", None),
            PaymentError::AlreadyDecided => (S::CONFLICT, "already-decided", None),
            PaymentError::NotApproved => (S::CONFLICT, "not-approved", None),
            PaymentError::NoRefundUnderWay => (S::CONFLICT, "no-refund-under-way", None),
        },
        Refusal::Delivery(error) => match error {
            DeliveryError::Unknown => (S::NOT_FOUND, "unknown-delivery", None),
            DeliveryError::Completed => (S::CONFLICT, "delivery-completed", None),
            DeliveryError::Cancelled => (S::CONFLICT, "delivery-cancelled", None),
        },
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (status, kind, field) = row(refusal);
        let problem = Self::new(status, kind, refusal.to_string());
        match field {
            Some(field) => problem.with("field", json!(field)),
            None => problem,
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(refusal) => refusal.into(),
            StoreError::Claimed => {
                Self::new(StatusCode::CONFLICT, IN_FLIGHT, "a request with this key is being answered")
            }
            StoreError::Overloaded => {
                Self::unavailable("overloaded", "too many writes are waiting, come back soon")
            }
            StoreError::Unavailable(why) => {
                warn!(why, "A write was turned away: the log can't be reached");
                Self::unavailable("log-unavailable", "the shop's log can't be reached, come back soon")
            }
            // While the shop is being upgraded, another replica may well be able to.
            StoreError::Unreadable(why) => {
                error!(
                    why,
                    "A write was turned away: what is stored can't be read by this version of the program"
                );
                let detail = "what is stored of it can't be read by this version of the program";
                Self::unavailable("unreadable-event", detail)
            }
        }
    }
}

impl From<DriveError> for Problem {
    fn from(error: DriveError) -> Self {
        match error {
            DriveError::Store(error) => error.into(),
            DriveError::Gateway(error) => {
                warn!(%error, "A request waited for the payment gateway in vain");
                Self::unavailable(
                    "gateway-unavailable",
                    "the payment gateway can't be reached, come back soon",
                )
            }
            DriveError::Restless => {
                Self::unavailable("overloaded", "the rental is changed by many, come back soon")
            }
        }
    }
}
