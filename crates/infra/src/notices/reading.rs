//! A channel's reader: notes what is to be said, in the transaction of its checkpoint.

use std::sync::Arc;
use std::time::Duration;

use rentstream_domain::notice::Notice;
use tokio::sync::Notify;

use super::outbox::Outbox;
use crate::log::Recorded;
use crate::place;
use crate::reader::{Concern, Handled, Handler};

pub(super) struct Reader {
    outbox: Outbox,
    noted: Arc<Notify>,
}

impl Reader {
    pub(super) fn new(outbox: Outbox, noted: Arc<Notify>) -> Self {
        Self { outbox, noted }
    }
}

impl Handler for Reader {
    type Error = sqlx::Error;

    const PATIENCE: Duration = Duration::from_millis(100);

    fn name(&self) -> &str {
        self.outbox.reader()
    }

    async fn checkpoint(&self) -> Result<u64, sqlx::Error> {
        place::checkpoint(self.outbox.pool(), self.name()).await
    }

    fn concern(&self, recorded: &Recorded) -> Concern {
        match recorded.event() {
            Ok(event) if Notice::of(event).is_none() => Concern::No,
            Ok(_) | Err(_) => Concern::Now,
        }
    }

    async fn handle(&self, from: u64, to: u64, events: &[Arc<Recorded>]) -> Result<Handled, sqlx::Error> {
        let (mut notices, mut parked) = (Vec::new(), Vec::new());
        for recorded in events {
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
        self.outbox.note(&mut tx, &notices).await?;
        tx.commit().await?;
        if !notices.is_empty() {
            self.noted.notify_one();
        }
        Ok(Handled::Done)
    }
}
