//! What a rental holds of its item, and how that gets to the customer.

use super::{Bringing, Course, Ordered, Stage, Units};
use crate::check::Rules;
use crate::delivery::DeliveryEvent;
use crate::stock::StockEvent;
use crate::{DeliveryId, ItemId, RentalId};

impl Course {
    pub(super) fn units(
        &mut self,
        id: RentalId,
        ordered: Ordered,
        item: ItemId,
        event: &StockEvent,
        rules: &mut Rules<'_>,
    ) {
        use StockEvent as E;

        let stage = self.stage;
        let held = self.units;
        let found = || format!("rental {id} was {stage:?} and had {held:?} of item {item}");
        rules.must(item == ordered.item_id, "a rental holds units of its own item", found);
        match event {
            E::UnitsReserved { units, .. } => {
                rules.must(held == Units::None, "a rental reserves once", found);
                rules.must(*units == ordered.units, "a rental reserves the units of its order", || {
                    format!("rental {id} is of {} and reserved {units}", ordered.units)
                });
                self.units = Units::Reserved(*units);
            }
            E::UnitsReleased { units, .. } => {
                let over = matches!(stage, Stage::Rejected | Stage::Cancelled);
                rules.must(held == Units::Reserved(*units), "units come back exactly once", found);
                rules.must(over, "only a rejected or cancelled rental's units are released", found);
                self.units = Units::Ended;
            }
            E::UnitsReturned { units, .. } => {
                rules.must(held == Units::Reserved(*units), "units come back exactly once", found);
                rules.must(stage == Stage::Returned, "only a returned rental's units are taken back", found);
                self.units = Units::Ended;
            }
            E::ItemRegistered { .. }
            | E::ItemRevised { .. }
            | E::ItemRetired { .. }
            | E::UnitsAdded { .. }
            | E::UnitsWithdrawn { .. } => {}
        }
    }

    pub(super) fn delivery(
        &mut self,
        id: RentalId,
        ordered: Ordered,
        delivery: DeliveryId,
        event: &DeliveryEvent,
        rules: &mut Rules<'_>,
    ) {
        use Bringing as B;

        let stage = self.stage;
        let was = self.delivery;
        let found = || format!("rental {id} was {stage:?} and its delivery {was:?}");
        rules.must(delivery == DeliveryId::of(id), "a rental has one delivery", || {
            format!("rental {id} has {delivery} too")
        });
        self.delivery = match event {
            DeliveryEvent::DeliveryStarted { .. } => {
                let accepted = matches!(stage, Stage::Accepted | Stage::Cancelling { accepted: true });
                rules.must(accepted && ordered.brought, "only an accepted rental is brought", found);
                rules.must(was == B::None, "a delivery starts once, and not after it was cancelled", found);
                B::Started
            }
            DeliveryEvent::DeliveryCompleted { .. } => {
                rules.must(was == B::Started, "only what is under way is completed", found);
                B::Completed
            }
            DeliveryEvent::DeliveryCancelled { .. } => {
                let cancelling = matches!(stage, Stage::Cancelling { .. });
                rules.must(
                    matches!(was, B::None | B::Started),
                    "a delivery is completed or cancelled",
                    found,
                );
                rules.must(cancelling, "only a delivery that its rental gave up is cancelled", found);
                B::Cancelled
            }
        };
    }
}
