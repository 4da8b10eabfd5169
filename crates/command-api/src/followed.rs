//! A command and what follows from it at once for the rental, in one commit.

use cqrs_es::Aggregate;
use rentstream_domain::processes::Process;
use rentstream_domain::{Refusal, RentalId};
use rentstream_infra::driver::{Along, Driver};
use rentstream_infra::store::{Aggregates, Context, Course, Known, Need, StoreError};
use uuid::Uuid;

use crate::once::Order;

/// Who takes which rental along, once a command to an aggregate is decided.
pub struct Then<A> {
    /// By which process.
    pub process: Process,
    /// The rental, if there's something to be done for it; by the aggregate's id and what it was before.
    pub whose: fn(Uuid, &A) -> Option<RentalId>,
}

impl<A> Clone for Then<A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for Then<A> {}

/// A command, and what follows from it for the rental.
pub(crate) struct Followed<A: Aggregate, T> {
    pub(crate) order: Order<A, T>,
    pub(crate) then: Then<A>,
    pub(crate) context: Context,
    pub(crate) driver: Driver,
}

impl<A, T> Followed<A, T>
where
    A: Aggregate,
{
    fn along(&self, aggregate: &A) -> Option<Along<RentalId>> {
        let rental = (self.then.whose)(self.order.id, aggregate)?;
        Some(self.driver.along(&self.then.process, rental, &self.context))
    }
}

impl<A, T: Send + 'static> Course for Followed<A, T>
where
    A: Aggregate<Services = ()> + 'static,
    A::Command: Clone + Send,
    A::Error: Into<Refusal>,
{
    type Says = Result<T, Refusal>;

    fn needs(&self, known: &Known<'_>) -> Vec<Need> {
        let mut needs = vec![Need::of::<A>(self.order.id)];
        if let Some(along) = known.get::<A>(self.order.id).and_then(|(aggregate, _)| self.along(aggregate)) {
            needs.extend(along.needs(known));
        }
        needs
    }

    fn run(&mut self, aggregates: &mut Aggregates<'_>) -> Result<Self::Says, StoreError> {
        let Order { id, command, body, .. } = &self.order;
        let along = self.along(aggregates.get::<A>(*id)?);
        if let Err(refusal) = aggregates.decide::<A>(*id, command.clone(), &self.context)? {
            return Ok(Err(refusal));
        }
        if let Some(mut along) = along {
            along.run(aggregates)?;
        }
        Ok(Ok(body(aggregates.get::<A>(*id)?)))
    }
}
