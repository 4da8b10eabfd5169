//! Paying in points: in cash to a manager, or by card.

use std::sync::Arc;

use aide::axum::ApiRouter;
use aide::axum::routing::post_with;
use axum::extract::State;
use axum::http::StatusCode;
use bytes::Bytes;
use rentstream_domain::customer::{Customer, CustomerCommand, CustomerError};
use rentstream_domain::money::MAX_AMOUNT;
use rentstream_domain::payment::{Bill, CALLED_OFF, Payment, PaymentCommand, PaymentState, Purpose};
use rentstream_domain::processes::depositing;
use rentstream_domain::rental::PaymentMethod;
use rentstream_domain::{CustomerId, Money, PaymentId, Refusal};
use rentstream_infra::driver::Rest;
use rentstream_infra::http::Problem;
use rentstream_infra::http::auth::{Caller, Role};
use rentstream_infra::http::body::{Body, Id};
use rentstream_infra::http::docs::{also, told};
use rentstream_infra::store::{Claiming, Keep, StoreError};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tracing::{Instrument, Span, info, warn};

use crate::Writes;
use crate::answers::{Balance, HeldDeposit};
use crate::fields::{ByCard, Paying};
use crate::intent::Intent;
use crate::once::{Answer, Order, again};

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
    // A handler is dropped when its client hangs up; what was begun is taken to its end all the same.
    let paid =
        tokio::spawn(async move { writes.card(&intent, bill, bytes).await }.instrument(Span::current()));
    paid.await.map_err(|_| Problem::internal())?
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

    /// A card pays it in.
    async fn card(&self, intent: &Intent, bill: Bill, bytes: Bytes) -> Result<Answer<Balance>, Problem> {
        let payment_id = PaymentId(intent.new_id());
        let Some(key) = &intent.key else {
            self.bill(intent, payment_id, bill, None).await?;
            return self.pay_in(intent, payment_id).await;
        };
        let _turn = self.turn(intent, key).await;
        match self.settled(intent, key, &bytes).await? {
            Some(answered) if answered.answer.is_some() => return again(answered),
            // Begun before, perhaps by a process that is no more: go on from there.
            Some(_) => {}
            None => {
                let later = |requested: Result<&Payment, &Refusal>| match requested {
                    Ok(_) => Keep::Later,
                    Err(_) => Keep::Nothing,
                };
                let claim = intent.claiming(key, &bytes, later);
                if let Err(error) = self.bill(intent, payment_id, bill, Some(claim)).await {
                    // Another replica may have been quicker, and what it did may be why this did not go.
                    match self.settled(intent, key, &bytes).await? {
                        Some(answered) if answered.answer.is_some() => return again(answered),
                        Some(_) => {}
                        None => return Err(error),
                    }
                }
            }
        }
        let answer = self.pay_in(intent, payment_id).await?;
        let kept = (answer.status.as_u16(), answer.body.to_string());
        let first = self
            .driver
            .store()
            .log()
            .settle_answer(intent.subject(), key, (kept.0, &kept.1), answer.position)
            .await
            .map_err(StoreError::from)?;
        first.map_or(Ok(answer), again)
    }

    /// Requests the payment of a deposit that the balance has room for.
    async fn bill(
        &self,
        intent: &Intent,
        payment_id: PaymentId,
        bill: Bill,
        claim: Option<Claiming<Payment>>,
    ) -> Result<(), Problem> {
        let store = self.driver.store();
        let amount = bill.amount.amount;
        let admitted =
            store.ask(bill.customer_id, move |customer: &Customer| customer.admits(amount)).await?;
        admitted.says.map_err(Refusal::from)?;
        let command = PaymentCommand::Request { bill, at: self.driver.now() };
        let context = intent.context(Some(payment_id.0));
        store.decide(payment_id, command, &context, claim, |_: &Payment| ()).await?;
        Ok(())
    }

    /// Takes a requested deposit to its answer.
    async fn pay_in(&self, intent: &Intent, payment_id: PaymentId) -> Result<Answer<Balance>, Problem> {
        let context = intent.context(Some(payment_id.0));
        let driven = self.driver.drive(&depositing::PROCESS, payment_id, &context, 0).await;
        let rest = driven.map_err(|error| {
            warn!(%payment_id, %error, "Left to the depositing process");
            Problem::from(error).with("payment_id", json!(payment_id))
        })?;
        let answer = answer(&rest);
        info!(%payment_id, status = answer.status.as_u16(), position = answer.position, "Answered a deposit");
        Ok(answer)
    }
}

/// What the caller hears of a deposit that the depositing process has taken as far as it can.
fn answer(rest: &Rest<depositing::Deposit>) -> Answer<Balance> {
    let Rest { position, journey: deposit, until: next_try } = rest;
    let refusal = |status, kind, detail: &str| {
        Problem::new(status, kind, detail).with("payment_id", json!(deposit.payment_id))
    };
    match &deposit.payment.state {
        PaymentState::Approved { .. } if deposit.credited => {
            let paid = Balance { balance: deposit.balance, payment_id: Some(deposit.payment_id) };
            Answer::done(&paid, *position)
        }
        _ if deposit.forgotten => {
            let gone = Problem::from(Refusal::from(CustomerError::Forgotten));
            Answer::refused(&refusal(gone.status, gone.kind, &gone.detail), *position)
        }
        PaymentState::Declined { reason } if reason.as_str() == CALLED_OFF => {
            let detail = "the payment gateway did not answer in time";
            let problem = refusal(StatusCode::PAYMENT_REQUIRED, "payment-timed-out", detail);
            Answer::refused(&problem, *position)
        }
        PaymentState::Declined { reason } => {
            let detail = "the payment was declined, nothing was charged";
            let problem = refusal(StatusCode::PAYMENT_REQUIRED, "payment-declined", detail);
            Answer::refused(&problem.with("reason", json!(reason)), *position)
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
                next_try_at: *next_try,
            };
            Answer::later(StatusCode::ACCEPTED, &held, *position)
        }
    }
}
