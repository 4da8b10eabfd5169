//! Registering with an identity provider's token: its subject is bound to one customer, whatever happens.
//!
//! The binding comes first. A crash before the customer's first event leaves a binding to nobody yet; whoever
//! registers again is registered under the id that it names.

use axum::http::StatusCode;
use rentstream_domain::customer::{Customer, CustomerError};
use rentstream_domain::{CustomerId, Refusal};
use rentstream_infra::http::Problem;
use rentstream_infra::http::auth::Caller;
use rentstream_infra::store::StoreError;
use uuid::Uuid;

use crate::Writes;
use crate::answers::ThisCustomer;
use crate::intent::Intent;
use crate::once::Answer;

impl Writes {
    /// The customer that the caller's subject is bound to from now on; nobody for other callers. The request is
    /// that customer's then: the subject itself is personal, and gets into no event.
    pub(crate) async fn bind(&self, intent: &mut Intent) -> Result<Option<CustomerId>, Problem> {
        let Some(Caller { subject: name, customer, elsewhere: Some(subject), .. }) = &mut intent.caller
        else {
            return Ok(None);
        };
        // An id by chance: one that follows from the subject would lead back to it for ever.
        let chosen = CustomerId(Uuid::now_v7());
        let bound = self.driver.store().log().bind(subject, chosen).await.map_err(StoreError::from)?;
        *name = bound.to_string();
        *customer = Some(bound);
        Ok(Some(bound))
    }

    /// The answer to a registration; to one that was made before, by that subject, the same customer.
    pub(crate) async fn or_as_before(
        &self,
        id: CustomerId,
        registered: Result<Answer<ThisCustomer, 201>, Problem>,
    ) -> Result<Answer<ThisCustomer, 201>, Problem> {
        let before = Problem::from(Refusal::from(CustomerError::AlreadyRegistered)).kind;
        match registered {
            Err(problem) if problem.kind == before => {}
            Ok(answer) if answer.body["type"] == before => {}
            other => return other,
        }
        let position = self.driver.store().ask(id, |_: &Customer| ()).await?.position;
        Ok(Answer::done(&ThisCustomer { customer_id: id }, position).with(StatusCode::OK))
    }
}
