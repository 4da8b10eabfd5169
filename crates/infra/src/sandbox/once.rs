//! Idempotency keys, as Stripe has them: the first answer under a key is given again for the same request,
//! refused for another one, and to be waited for while it is on its way.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};

use super::{
    Mode, Sandbox,
    answer::Answer,
    books::{Entry, Kept},
    errands::{Errand, Outcome},
    form::Form,
};

/// Runs the errand, or answers what it answered before under the same key. The errand and its answer go to
/// the journal in one step.
pub(super) fn run(sandbox: &Arc<Sandbox>, key: Option<&str>, form: &Form, errand: &Errand) -> Response {
    let request = form.fingerprint(&errand.path());
    let mut books = sandbox.books();
    if let Some(key) = key {
        match books.kept(key) {
            Some(kept) if kept.request != request => {
                let message = "Keys for idempotent requests can only be used with the same parameters";
                return Answer::idempotency(400, None, message).into_response();
            }
            _ if books.in_flight.contains(key) => {
                let message = "There is currently another in-progress request using this idempotency key";
                return Answer::idempotency(409, Some("idempotency_key_in_use"), message).into_response();
            }
            Some(kept) => return kept.answer.clone().replayed(),
            None => {}
        }
    }
    let Outcome { answer, entry } = match errand.run(&books, form) {
        Ok(outcome) => outcome,
        Err(invalid) => return invalid.into_response(),
    };
    let kept = key.map(|key| Kept { key: key.to_owned(), request, answer: answer.clone() });
    if let Err(error) = books.record(Entry { kept, ..entry }) {
        tracing::error!(%error, "the sandbox gateway can't write its journal, so it does nothing");
        return Answer::plain(500, "The sandbox can't write its journal").into_response();
    }
    let mut response = answer.into_response();
    if let Some(key) = key.filter(|_| sandbox.mode() == Mode::Slow) {
        books.in_flight.insert(key.to_owned());
        let on_its_way = InFlight { sandbox: Arc::clone(sandbox), key: key.to_owned() };
        response.extensions_mut().insert(Arc::new(on_its_way));
    }
    response
}

/// Travels with an answer that is kept back. Goes with it, when it is sent or when the client hangs up.
struct InFlight {
    sandbox: Arc<Sandbox>,
    key: String,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.sandbox.books().in_flight.remove(&self.key);
    }
}
