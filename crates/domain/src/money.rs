//! Money in minor units, with its currency, and no arithmetic that could wrap.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The largest amount that Rentstream handles, in minor units. Sums of many of them still fit an `i64`.
pub const MAX_AMOUNT: i64 = 1_000_000_000_000;

/// An ISO 4217 code, three capital letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

impl Currency {
    /// The South Korean won, which has no smaller unit.
    pub const KRW: Self = Self(*b"KRW");

    /// The code's three letters.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("KRW")
    }
}

impl JsonSchema for Currency {
    fn schema_name() -> Cow<'static, str> {
        "Currency".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[A-Z]{3}$" })
    }
}

impl Default for Currency {
    fn default() -> Self {
        Self::KRW
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    fn from_str(code: &str) -> Result<Self, MoneyError> {
        match code.as_bytes() {
            [a, b, c] if [a, b, c].iter().all(|letter| letter.is_ascii_uppercase()) => Ok(Self([*a, *b, *c])),
            _ => Err(MoneyError::NotACurrency),
        }
    }
}

impl TryFrom<String> for Currency {
    type Error = MoneyError;

    fn try_from(code: String) -> Result<Self, MoneyError> {
        code.parse()
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.code().to_owned()
    }
}

/// An amount in minor units of a currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Money {
    /// Minor units (won, cents); 0 to 1,000,000,000,000 where it is a price.
    #[schemars(range(min = 0, max = MAX_AMOUNT))]
    pub amount: i64,
    /// What the amount counts.
    pub currency: Currency,
}

impl Money {
    /// An amount of won.
    pub fn krw(amount: i64) -> Self {
        Self { amount, currency: Currency::KRW }
    }

    /// The price of so many units.
    ///
    /// # Errors
    /// When the product is more than [`MAX_AMOUNT`].
    pub fn times(self, units: u32) -> Result<Self, MoneyError> {
        self.amount
            .checked_mul(i64::from(units))
            .filter(|amount| (0..=MAX_AMOUNT).contains(amount))
            .map(|amount| Self { amount, ..self })
            .ok_or(MoneyError::TooMuch)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount, self.currency)
    }
}

/// Why an amount can't be handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// The code isn't three capital letters.
    #[error("a currency is three capital letters, as in KRW")]
    NotACurrency,
    /// Over [`MAX_AMOUNT`].
    #[error("the amount is more than 1000000000000 minor units")]
    TooMuch,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_times_units_never_wraps() {
        assert_eq!(Money::krw(1_500).times(3), Ok(Money::krw(4_500)));
        assert_eq!(Money::krw(i64::MAX).times(2), Err(MoneyError::TooMuch));
        assert_eq!(Money::krw(MAX_AMOUNT).times(2), Err(MoneyError::TooMuch));
    }

    #[test]
    fn a_currency_is_three_capital_letters() {
        assert_eq!("KRW".parse(), Ok(Currency::KRW));
        for wrong in ["krw", "KR", "KRWW", "K1W", "₩"] {
            assert_eq!(wrong.parse::<Currency>(), Err(MoneyError::NotACurrency));
        }
    }
}
