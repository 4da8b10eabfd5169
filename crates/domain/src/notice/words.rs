//! How a notice reads, in Korean and in English.

use chrono::{DateTime, FixedOffset, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Kind, Subject};
use crate::Currency;
use crate::rental::RejectionReason;
use crate::stock::Fulfilment;

/// A notice as a person reads it: one sentence or two in each language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Words {
    /// 한국어.
    pub ko: String,
    /// English.
    pub en: String,
}

impl Words {
    /// What a notice says.
    pub fn of(kind: &Kind, subject: &Subject) -> Self {
        let Subject { title, fulfilment, .. } = subject;
        let (ko, en) = match kind {
            Kind::PaymentApproved {} => {
                let (sum, sum_en) = sum(subject);
                (
                    format!("‘{title}’ 결제가 완료되었습니다{sum}."),
                    format!("Your payment for ‘{title}’ went through{sum_en}."),
                )
            }
            Kind::Held { until } => (
                format!(
                    "‘{title}’ 결제를 아직 처리하지 못했습니다. {}까지 자동으로 다시 시도하니 기다려 주세요.",
                    in_seoul(*until)
                ),
                format!(
                    "The payment for ‘{title}’ could not be made yet. It is kept for you, and tried again by itself until {}.",
                    in_utc(*until)
                ),
            ),
            Kind::Rejected { reason } => {
                let (why, why_en) = why(*reason);
                (
                    format!("‘{title}’ 주문을 받지 못했습니다: {why}."),
                    format!("Your order of ‘{title}’ could not be taken: {why_en}."),
                )
            }
            Kind::DeliveryStarted {} => {
                (format!("‘{title}’ 배송이 시작되었습니다."), format!("‘{title}’ is on its way to you."))
            }
            Kind::Delivered {} => match fulfilment {
                Fulfilment::Delivery => {
                    (format!("‘{title}’ 배송이 완료되었습니다."), format!("‘{title}’ has been delivered."))
                }
                Fulfilment::Digital => (
                    format!("‘{title}’ 지금 바로 이용할 수 있습니다."),
                    format!("‘{title}’ is ready to use."),
                ),
                Fulfilment::Pickup => (
                    format!("‘{title}’ 지금 바로 가져가실 수 있습니다."),
                    format!("‘{title}’ is ready for you to pick up."),
                ),
            },
            Kind::Refunded {} => {
                let (sum, sum_en) = sum(subject);
                (
                    format!("‘{title}’ 결제 금액을 환불해 드렸습니다{sum}."),
                    format!("Your payment for ‘{title}’ has been refunded{sum_en}."),
                )
            }
            Kind::Cancelled {} => (
                format!("‘{title}’ 주문이 취소되었습니다."),
                format!("Your order of ‘{title}’ is cancelled."),
            ),
            Kind::Overdue { due } => (
                format!("‘{title}’ 반납 기한({})이 지났습니다. 반납해 주세요.", in_seoul(*due)),
                format!("‘{title}’ was due on {}. Please bring it back.", in_utc(*due)),
            ),
        };
        Self { ko, en }
    }
}

fn why(reason: RejectionReason) -> (&'static str, &'static str) {
    match reason {
        RejectionReason::OutOfStock => ("재고가 없습니다", "it is out of stock"),
        RejectionReason::PaymentDeclined => ("결제가 거절되었습니다", "the payment was declined"),
        RejectionReason::PaymentTimedOut => {
            ("결제를 제때 처리하지 못했습니다", "the payment could not be made in time")
        }
    }
}

/// The sum between brackets. How many digits of a currency's minor units are cents isn't known here, so it's
/// left out where it's neither points nor won.
fn sum(subject: &Subject) -> (String, String) {
    let amount = grouped(subject.total.amount);
    if subject.points {
        (format!(" ({amount}포인트)"), format!(" ({amount} points)"))
    } else if subject.total.currency == Currency::KRW {
        (format!(" ({amount}원)"), format!(" ({amount} KRW)"))
    } else {
        (String::new(), String::new())
    }
}

/// A number with commas, as in `1,234,567`.
fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut grouped = String::from(if number < 0 { "-" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Seoul has one offset all year.
fn in_seoul(at: DateTime<Utc>) -> String {
    FixedOffset::east_opt(9 * 3600)
        .map_or_else(|| in_utc(at), |seoul| at.with_timezone(&seoul).format("%Y-%m-%d %H:%M").to_string())
}

fn in_utc(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}
