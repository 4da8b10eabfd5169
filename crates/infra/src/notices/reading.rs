//! A channel's reader: notes what is to be said, in the transaction of its checkpoint.

use std::sync::Arc;
use std::time::Duration;

use rentstream_domain::notice::Notice;
use tokio::sync::Notify;

use super::outbox::Outbox;
use crate::log::{Log, Recorded};
use crate::place::{self, SetAside};
use crate::reader::{Concern, Handled, Handler, Page};

pub(super) struct Reader {
    outbox: Outbox,
    noted: Arc<Notify>,
    set_aside: SetAside,
}

impl Reader {
    pub(super) fn new(outbox: Outbox, noted: Arc<Notify>, log: &Log) -> Self {
        Self { outbox, noted, set_aside: SetAside::of(log) }
    }
}

impl Handler for Reader {
    type Error = sqlx::Error;

    type Ready = Page;

    const PATIENCE: Duration = Duration::from_millis(100);

    fn name(&self) -> &str {
        self.outbox.reader()
    }

    async fn checkpoint(&self) -> Result<u64, sqlx::Error> {
        let place = place::checkpoint(self.outbox.pool(), self.name()).await?;
        // On an idle shop nothing else is handled.
        if self.set_aside.is_due() {
            self.handle(Page { from: place, to: place, events: vec![] }).await?;
        }
        Ok(place)
    }

    fn concern(&self, recorded: &Recorded) -> Concern {
        match recorded.event() {
            Ok(event) if Notice::of(event).is_none() => Concern::No,
            Ok(_) | Err(_) => Concern::Now,
        }
    }

    async fn prepare(&self, page: Page) -> Result<Page, sqlx::Error> {
        Ok(page)
    }

    async fn handle(&self, Page { from, to, events }: Page) -> Result<Handled, sqlx::Error> {
        let (mut notices, mut parked) = (Vec::new(), Vec::new());
        let again = self.set_aside.readable(self.name()).await?;
        for recorded in again.iter().chain(&events) {
            match recorded.event() {
                Ok(event) => notices.extend(Notice::of(event).map(|notice| (&**recorded, notice))),
                Err(error) => parked.push((recorded, error.to_string())),
            }
        }
        let mut tx = self.outbox.bookkeeping().begin().await?;
        if !place::move_checkpoint(&mut tx, self.name(), from, to).await? {
            return Ok(Handled::Elsewhere);
        }
        for (recorded, error) in &parked {
            place::park(&mut tx, self.name(), recorded, error).await?;
        }
        if !again.is_empty() {
            place::unpark(&mut tx, self.name(), &again).await?;
        }
        self.outbox.note(&mut tx, &notices).await?;
        tx.commit().await?;
        if !notices.is_empty() {
            self.noted.notify_one();
        }
        Ok(Handled::Done)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::Utc;
    use cqrs_es::{Aggregate, DomainEvent};
    use rentstream_domain::CustomerId;
    use rentstream_domain::rental::{Rental, RentalEvent};
    use uuid::Uuid;

    use super::*;
    use crate::log::{Append, NewEvent};
    use crate::notices::outbox::list;
    use crate::testing;

    #[tokio::test]
    async fn what_an_older_program_could_not_read_is_told_by_one_that_can() {
        let log = testing::log().await;
        let event =
            RentalEvent::RentalDelivered { customer_id: CustomerId(Uuid::from_u128(1)), at: Utc::now() };
        let event = NewEvent {
            id: Uuid::now_v7(),
            event_type: event.event_type(),
            event_version: event.event_version(),
            payload: serde_json::to_string(&event).unwrap(),
            metadata: "{}".to_owned(),
        };
        let (aggregate_type, aggregate_id) = (Rental::TYPE, Uuid::now_v7().to_string());
        log.append(Append { aggregate_type, aggregate_id, version: 0, events: vec![event] }).await.unwrap();
        sqlx::raw_sql(
            "INSERT INTO checkpoints (reader, position) VALUES ('notify-smtp', 1);
             INSERT INTO parked (reader, key, positions, error) VALUES ('notify-smtp', 'x', '{1}', 'newer')",
        )
        .execute(log.pool())
        .await
        .unwrap();
        let outbox = Outbox::new(&log, "smtp", Duration::from_secs(60));
        let reader = Reader::new(outbox, Arc::default(), &log);
        assert_eq!(reader.checkpoint().await.unwrap(), 1);
        let told = list(log.pool(), None, None, 9).await.unwrap();
        assert_eq!(told.iter().map(|(_, notice)| &notice["state"]).collect::<Vec<_>>(), ["waiting"]);
        let parked: i64 =
            sqlx::query_scalar("SELECT count(*) FROM parked").fetch_one(log.pool()).await.unwrap();
        assert_eq!(parked, 0);
    }
}
