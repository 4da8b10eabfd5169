//! How fields of a body are read.

use rentstream_domain::rental::PaymentMethod;
use rentstream_domain::stock::Terms;
use rentstream_domain::text::Line;
use rentstream_infra::http::Problem;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A field of a PATCH: left out, null, or a value. Use with `#[serde(default, deserialize_with = "given")]`.
///
/// # Errors
/// When the value can't be read.
pub fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// What a PATCH leaves out stays as it is: its fields have no defaults.
pub fn no_defaults(schema: &mut Schema) {
    let fields = schema.ensure_object().get_mut("properties").and_then(Value::as_object_mut);
    for field in fields.into_iter().flat_map(|fields| fields.values_mut()).filter_map(Value::as_object_mut) {
        field.remove("default");
    }
}

/// How to pay where points won't do; what [`Paying`] must say there.
#[derive(JsonSchema)]
#[schemars(tag = "method", rename_all = "snake_case", deny_unknown_fields)]
#[expect(dead_code, reason = "says what is taken")]
pub(crate) enum ByCard {
    Card { token: Line },
}

/// How to pay, as a client says it. Read as plain members, so that an error can name the one to blame.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paying {
    method: Method,
    token: Option<Line>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Method {
    Points,
    Card,
}

impl TryFrom<Paying> for PaymentMethod {
    type Error = Problem;

    fn try_from(Paying { method, token }: Paying) -> Result<Self, Problem> {
        match (method, token) {
            (Method::Points, None) => Ok(Self::Points {}),
            (Method::Card, Some(token)) => Ok(Self::Card { token }),
            (Method::Points, Some(_)) => Err(Problem::invalid("payment.token", "points take no token")),
            (Method::Card, None) => Err(Problem::invalid("payment.token", "a card is paid by its token")),
        }
    }
}

/// Terms, as a client says them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TermsField {
    #[serde(rename = "type")]
    kind: TermsKind,
    days: Option<u16>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TermsKind {
    Loan,
    Sale,
}

/// Ten years.
const MOST_DAYS: u16 = 3_650;

impl TryFrom<TermsField> for Terms {
    type Error = Problem;

    fn try_from(TermsField { kind, days }: TermsField) -> Result<Self, Problem> {
        match (kind, days) {
            (TermsKind::Loan, None) => Ok(Self::Loan { days: Self::A_WEEK }),
            (TermsKind::Loan, Some(days @ 1..=MOST_DAYS)) => Ok(Self::Loan { days }),
            (TermsKind::Loan, Some(_)) => {
                Err(Problem::invalid("terms.days", format!("it must be from 1 to {MOST_DAYS}")))
            }
            (TermsKind::Sale, None) => Ok(Self::Sale {}),
            (TermsKind::Sale, Some(_)) => Err(Problem::invalid("terms.days", "a sale has no days")),
        }
    }
}
