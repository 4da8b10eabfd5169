//! Projects the log into one slice of a view, page by page: see [`projection`](crate::projection).

use std::borrow::Borrow;
use std::time::Duration;

use rentstream_infra::feed::Feed;
use rentstream_infra::log::Recorded;
use rentstream_infra::parking::Skips;
use rentstream_infra::reader::{self, Concern, Handled, Handler, Page};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::projection::{Projection, Unwritten};
use crate::slices::{Slice, standings};
use crate::tables::{Generation, Tables};
use crate::view::Definition;

/// Projects a slice until shutdown, or until the rows that serve are another definition's or are sliced otherwise. Any
/// number of replicas may: the checkpoint decides who writes.
pub async fn run(view: Definition, slice: Slice, feed: Feed, tables: Tables, shutdown: CancellationToken) {
    let skips = Skips::new(feed.log().clone(), view.name);
    let over = shutdown.child_token();
    let projector =
        Projector { view, slice, tables, projection: Mutex::new(None), skips, over: over.clone() };
    reader::run(projector, feed, over).await;
}

struct Projector {
    view: Definition,
    slice: Slice,
    tables: Tables,
    /// The generation that served when the checkpoint was read, as it's projected.
    projection: Mutex<Option<Projection>>,
    /// What operators had it leave out.
    skips: Skips,
    /// The rows are not this definition's or not sliced so, or it's shutdown.
    over: CancellationToken,
}

impl Handler for Projector {
    type Error = sqlx::Error;

    /// With how it's folded, unless it can't be as a whole.
    type Ready = (Page, Option<Unwritten>);

    /// Somebody may wait until the view has seen an event that it makes nothing of.
    const PATIENCE: Duration = Duration::from_millis(10);

    fn name(&self) -> &str {
        self.view.name
    }

    async fn checkpoint(&self) -> Result<u64, sqlx::Error> {
        let serving = self.tables.ensure(&self.view).await?;
        let Generation { number, position, .. } = serving;
        let mut projection = self.projection.lock().await;
        if !serving.is_of(&self.view) || serving.slices != self.slice.of {
            *projection = None;
            self.over.cancel();
            return Ok(position);
        }
        let standings = standings(&mut *self.tables.pool().acquire().await?, self.view.name, number).await?;
        let standing = standings.into_iter().find(|standing| standing.slice == self.slice);
        let standing = standing.ok_or(sqlx::Error::RowNotFound)?;
        self.skips.reads_on_from(standing.position).await?;
        match projection.as_mut() {
            Some(projection) => projection.follow(number, standing),
            None => *projection = Some(Projection::of(self.view, self.tables.clone(), number, standing)),
        }
        Ok(standing.position)
    }

    fn concern(&self, recorded: &Recorded) -> Concern {
        if self.skips.has(recorded.position) || !self.view.is_about(recorded) {
            return Concern::No;
        }
        match recorded.event() {
            Ok(event) if (self.view.key)(event).is_none() => Concern::No,
            Ok(_) | Err(_) if self.slice.may_have(&self.view, recorded) => Concern::Now,
            Ok(_) | Err(_) => Concern::No,
        }
    }

    async fn prepare(&self, page: Page) -> Result<Self::Ready, sqlx::Error> {
        let mut projection = self.projection.lock().await;
        let folded = match projection.as_mut() {
            Some(projection) if all_read(&page.events) => {
                Some(projection.fold(page.from, page.to, &page.events).await?)
            }
            Some(_) | None => None,
        };
        Ok((page, folded))
    }

    async fn handle(&self, (page, folded): Self::Ready) -> Result<Handled, sqlx::Error> {
        let Page { from, to, events } = page;
        let handled = match self.write(folded).await {
            Some(Err(error)) if !is_about_data(&error) => return Err(error),
            Some(Ok(handled)) => handled,
            Some(Err(_)) | None => match self.projection.lock().await.as_mut() {
                Some(projection) => apply(projection, (from, to), &events).await?,
                // A reader reads its checkpoint first.
                None => Handled::Elsewhere,
            },
        };
        if handled == Handled::Done {
            self.tables.tell(self.view.name, self.slice, to);
        }
        Ok(handled)
    }
}

impl Projector {
    /// Writes what is folded, if it's worth something still. The next page can be folded meanwhile.
    async fn write(&self, folded: Option<Unwritten>) -> Option<Result<Handled, sqlx::Error>> {
        let folded = folded?;
        if !self.projection.lock().await.as_ref()?.is_current(&folded) {
            return None;
        }
        let written = folded.write().await;
        if !matches!(written, Ok(Handled::Done))
            && let Some(projection) = self.projection.lock().await.as_mut()
        {
            projection.forget();
        }
        Some(written)
    }
}

/// Whether this program understands all of them.
fn all_read(events: &[impl Borrow<Recorded>]) -> bool {
    events.iter().all(|recorded| recorded.borrow().event().is_ok())
}

/// Applies a page as [`Projection::apply`] does; the key of a row that can't be stored is parked.
///
/// # Errors
/// When Postgres can't be reached or refuses.
pub(crate) async fn apply(
    projection: &mut Projection,
    (from, to): (u64, u64),
    events: &[impl Borrow<Recorded>],
) -> Result<Handled, sqlx::Error> {
    // The key of one that can't be read is parked from there on, so what comes before goes in first.
    if !all_read(events) {
        return one_by_one(projection, (from, to), events).await;
    }
    match projection.apply(from, to, events).await {
        Err(error) if is_about_data(&error) => one_by_one(projection, (from, to), events).await,
        applied => applied,
    }
}

/// A row can't be stored. Which one, is found by going event by event.
async fn one_by_one(
    projection: &mut Projection,
    (mut from, to): (u64, u64),
    events: &[impl Borrow<Recorded>],
) -> Result<Handled, sqlx::Error> {
    for recorded in events.iter().map(Borrow::borrow) {
        let alone = std::slice::from_ref(recorded);
        let handled = match projection.apply(from, recorded.position, alone).await {
            Err(error) if is_about_data(&error) => {
                projection.set_aside(from, recorded, error.to_string()).await?
            }
            applied => applied?,
        };
        if handled == Handled::Elsewhere {
            return Ok(handled);
        }
        from = recorded.position;
    }
    projection.apply::<Recorded>(from, to, &[]).await
}

/// Data exceptions and violated constraints: trying again would not help.
pub(crate) fn is_about_data(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    error.code().is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
}
