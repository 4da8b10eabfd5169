use super::Rules;
use crate::rental::Order;
use crate::stock::StockEvent;
use crate::{ItemId, Money};

/// What the rules ask of an item.
#[derive(Clone, Debug, Default)]
pub(super) struct Item {
    /// Free units; `None` for an item that never runs out. Signed, so that a fault can be seen.
    available: Option<i64>,
    /// Each price that it ever had.
    prices: Vec<Money>,
}

impl Item {
    pub(super) fn apply(&mut self, id: ItemId, event: &StockEvent, rules: &mut Rules<'_>) {
        use StockEvent as E;

        match event {
            E::ItemRegistered { details, units, .. } => {
                rules.must(self.prices.is_empty(), "an item is registered once", || format!("item {id} was"));
                self.available = units.map(i64::from);
                self.prices.push(details.price);
            }
            E::ItemRevised { details, .. } if self.prices.contains(&details.price) => {}
            E::ItemRevised { details, .. } => self.prices.push(details.price),
            E::ItemRetired { .. } => {}
            E::UnitsAdded { units, .. } | E::UnitsReleased { units, .. } | E::UnitsReturned { units, .. } => {
                self.count(i64::from(*units));
            }
            E::UnitsWithdrawn { units, .. } | E::UnitsReserved { units, .. } => {
                self.count(-i64::from(*units))
            }
        }
        rules.must(!self.prices.is_empty(), "an item is registered before its units move", || {
            format!("item {id} was not")
        });
        rules.must(
            self.available.is_none_or(|units| units >= 0),
            "available units are never below 0",
            || format!("item {id} has {}", self.available.unwrap_or_default()),
        );
    }

    fn count(&mut self, units: i64) {
        self.available = self.available.map(|available| available.saturating_add(units));
    }

    /// Whether the order's total is a price of this item × its units.
    ///
    /// An order carries the price that was read for it, and the item may be revised before the request is
    /// appended. An event doesn't say which price was read. So any price counts that the item has had up to
    /// here: this finds a price made up by a client, not one that was read too long ago.
    pub(super) fn asks(&self, order: &Order) -> bool {
        self.prices.iter().any(|price| price.times(order.units) == Ok(order.total))
    }
}
