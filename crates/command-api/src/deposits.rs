//! Paying in points: in cash to a manager, or by card.

use std::sync::Arc;

use aide::axum::ApiRouter;
use aide::axum::routing::post_with;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use rentstream_domain::customer::{Customer, CustomerCommand, CustomerError};
use rentstream_domain::money::MAX_AMOUNT;
use rentstream_domain::payment::{Bill, CALLED_OFF, Payment, PaymentCommand, PaymentState, Purpose};
use rentstream_domain::processes::{Process, depositing};
use rentstream_domain::rental::PaymentMethod;
use rentstream_domain::{Command, CustomerId, Money, PaymentId, Refusal};
use rentstream_infra::http::Problem;
use rentstream_infra::http::auth::{Caller, Role};
use rentstream_infra::http::body::{Body, Id};
use rentstream_infra::http::docs::{also, told};
use rentstream_infra::store::{Aggregates, Known, Need};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tracing::{Instrument, Span};

use crate::Writes;
use crate::answers::{Balance, HeldDeposit};
use crate::fields::{ByCard, Paying};
use crate::intent::Intent;
use crate::journeys::Begin;
use crate::once::{Answer, Order};

pub(crate) fn routes() -> ApiRouter<Writes> {
    ApiRouter::new().api_route(
        "/v1/customers/{id}/points",
        post_with(deposit, |op| {
            let held = "Held: the payment is tried again until `held_until`.";
            let who = "the customer by card, manager by card or in cash (without `payment`)";
            told("Pays in points", who, &REFUSALS)(also::<HeldDeposit>(op, 202, held))
        }),
    )
}

const REFUSALS: [(u16, &str); 5] = [
    (402, "payment-declined"),
    (402, "payment-timed-out"),
    (404, "unknown-customer"),
    (410, "customer-forgotten"),
    (503, "gateway-unavailable"),
];

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Deposit {
    #[schemars(range(min = 1, max = MAX_AMOUNT))]
    amount: i64,
    #[schemars(with = "Option<ByCard>")]
    payment: Option<Paying>,
}

async fn deposit(
    State(writes): State<Writes>,
    caller: Caller,
    intent: Intent,
    Id(id): Id<CustomerId>,
    Body { value: Deposit { amount, payment }, bytes }: Body<Deposit>,
) -> Result<Answer<Balance>, Problem> {
    caller.may_act_for(id)?;
    let Some(payment) = payment else { return writes.cash(&caller, &intent, id, amount, &bytes).await };
    let method = PaymentMethod::try_from(payment)?;
    if method == (PaymentMethod::Points {}) {
        return Err(Problem::invalid("payment.method", "points are paid in by card, not by points"));
    }
    // A point is a won.
    let bill = Bill { purpose: Purpose::Deposit, customer_id: id, amount: Money::krw(amount), method };
    let pay_in = PayIn { payment_id: PaymentId(intent.new_id()), bill };
    // A handler is dropped when its client hangs up; what was begun is taken to its end all the same.
    let paid =
        tokio::spawn(async move { writes.begin(&intent, &bytes, pay_in).await }.instrument(Span::current()));
    Ok(paid.await.map_err(|_| Problem::internal())??.described_as())
}

impl Writes {
    /// A manager who has taken cash pays it in.
    async fn cash(
        &self,
        caller: &Caller,
        intent: &Intent,
        id: CustomerId,
        amount: i64,
        bytes: &[u8],
    ) -> Result<Answer<Balance>, Problem> {
        if caller.role != Role::Manager {
            let detail = "only a manager takes cash: a customer pays in by card, in `payment`";
            return Err(
                Problem::new(StatusCode::FORBIDDEN, "forbidden", detail).with("field", json!("payment"))
            );
        }
        let order = Order::<Customer, _> {
            id: id.0,
            command: CustomerCommand::Deposit { amount, at: self.driver.now() },
            body: Arc::new(|customer: &Customer| Balance { balance: customer.points, payment_id: None }),
            about: None,
        };
        self.once(intent, bytes, order).await
    }
}

/// A deposit by card that is to begin.
struct PayIn {
    payment_id: PaymentId,
    bill: Bill,
}

impl Begin for PayIn {
    type Subject = PaymentId;
    const PROCESS: Process<PaymentId> = depositing::PROCESS;
    const ID: &'static str = "payment_id";

    fn subject(&self) -> PaymentId {
        self.payment_id
    }

    fn needs(&self, _: &Known<'_>) -> Vec<Need> {
        vec![Need::of::<Payment>(self.payment_id).new_if(true), Need::of::<Customer>(self.bill.customer_id)]
    }

    /// Requests the payment, if the balance has room for it.
    fn command(&self, aggregates: &Aggregates<'_>, at: DateTime<Utc>) -> Result<Command, Problem> {
        let customer = aggregates.get::<Customer>(self.bill.customer_id)?;
        customer.admits(self.bill.amount.amount).map_err(Refusal::from)?;
        let request = PaymentCommand::Request { bill: self.bill.clone(), at };
        Ok(Command::Payment(self.payment_id, request))
    }

    fn is_decided(deposit: &depositing::Deposit) -> bool {
        match deposit.payment.state {
            PaymentState::Approved { .. } => deposit.credited,
            PaymentState::Declined { .. } => true,
            _ => false,
        }
    }

    fn answer(
        deposit: &depositing::Deposit,
        next_try: Option<DateTime<Utc>>,
        position: u64,
    ) -> Result<Answer, Problem> {
        Ok(answer(deposit, next_try, position).described_as())
    }
}

/// What the caller hears of a deposit that the depositing process has taken as far as it can.
fn answer(deposit: &depositing::Deposit, next_try: Option<DateTime<Utc>>, position: u64) -> Answer<Balance> {
    let refusal = |status, kind, detail: &str| {
        Problem::new(status, kind, detail).with("payment_id", json!(deposit.payment_id))
    };
    match &deposit.payment.state {
        PaymentState::Approved { .. } if deposit.credited => {
            let paid = Balance { balance: deposit.balance, payment_id: Some(deposit.payment_id) };
            Answer::done(&paid, position)
        }
        _ if deposit.forgotten => {
            let gone = Problem::from(Refusal::from(CustomerError::Forgotten));
            Answer::refused(&refusal(gone.status, gone.kind, &gone.detail), position)
        }
        PaymentState::Declined { reason } if reason.as_str() == CALLED_OFF => {
            let detail = "the payment gateway did not answer in time";
            let problem = refusal(StatusCode::PAYMENT_REQUIRED, "payment-timed-out", detail);
            Answer::refused(&problem, position)
        }
        PaymentState::Declined { reason } => {
            let detail = "the payment was declined, nothing was charged";
            let problem = refusal(StatusCode::PAYMENT_REQUIRED, "payment-declined", detail);
            Answer::refused(&problem.with("reason", json!(reason)), position)
        }
        PaymentState::Unknown
        | PaymentState::Requested
        | PaymentState::Deferred { .. }
        | PaymentState::Approved { .. }
        | PaymentState::Refunding { .. }
        | PaymentState::Refunded => {
            let held = HeldDeposit {
                payment_id: deposit.payment_id,
                status: "held",
                held_until: deposit.deadline(),
                next_try_at: next_try,
            };
            Answer::later(StatusCode::ACCEPTED, &held, position)
        }
    }
}
