//! Slices of a view: shares of its keys, each with a checkpoint of its own, so that several workers can project one
//! view. A row is in one slice, and so is all that is asked for together, as a customer's history.

use rentstream_infra::log::{Recorded, unsigned};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::view::Definition;

/// As many as a view may have.
pub const MOST: i32 = 64;

/// A share of a view's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slice {
    /// From 0.
    pub number: i32,
    /// How many the view has.
    pub of: i32,
}

impl Slice {
    /// All that a view of one slice has.
    pub const WHOLE: Self = Self { number: 0, of: 1 };

    /// All of a view's.
    pub fn all(of: i32) -> impl Iterator<Item = Self> {
        (0..of).map(move |number| Self { number, of })
    }

    /// Whether an event may touch a row of this slice. One that can't be read may be any slice's.
    pub(crate) fn may_have(self, view: &Definition, recorded: &Recorded) -> bool {
        let Ok(event) = recorded.event() else { return true };
        self == Self::WHOLE || (view.slice)(event).is_some_and(|by| slice_of(by, self.of) == self.number)
    }
}

/// Which slice has what is sliced by this; Postgres' `slice_of` says the same. The last letters, as others are alike
/// in ids that were made at about the same time.
fn slice_of(by: Uuid, slices: i32) -> i32 {
    let [.., a, b, c, d] = *by.as_bytes();
    let slice = i64::from(u32::from_be_bytes([a, b, c, d])) % i64::from(slices.max(1));
    i32::try_from(slice).unwrap_or_default()
}

/// Where a slice's checkpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) slice: Slice,
    /// The last event that is in its rows.
    pub(crate) position: u64,
    /// Raised whenever rows were changed beside the projector.
    pub(crate) edition: i64,
}

/// Where the slices of a generation stand, in order.
pub(crate) async fn standings(
    connection: &mut PgConnection,
    view: &str,
    generation: i32,
) -> Result<Vec<Standing>, sqlx::Error> {
    sqlx::query(
        "SELECT s.slice, v.slices, s.position, s.edition
         FROM slices s JOIN views v ON v.name = s.view AND v.generation = s.generation
         WHERE s.view = $1 AND s.generation = $2 ORDER BY s.slice",
    )
    .bind(view)
    .bind(generation)
    .try_map(|row| {
        Ok(Standing {
            slice: Slice { number: row.try_get("slice")?, of: row.try_get("slices")? },
            position: unsigned(row.try_get("position")?),
            edition: row.try_get("edition")?,
        })
    })
    .fetch_all(connection)
    .await
}

/// Holds a generation's checkpoints still until the transaction ends; gives the least position.
pub(crate) async fn hold(
    connection: &mut PgConnection,
    view: &str,
    generation: i32,
) -> Result<u64, sqlx::Error> {
    let positions = sqlx::query_scalar::<_, i64>(
        "SELECT position FROM slices WHERE view = $1 AND generation = $2 ORDER BY slice FOR UPDATE",
    );
    let positions = positions.bind(view).bind(generation).fetch_all(connection).await?;
    Ok(positions.into_iter().min().map_or(0, unsigned))
}

/// The rows are others from now on, or serve no longer: whoever knows them from before knows it by the edition.
pub(crate) async fn changed(
    connection: &mut PgConnection,
    view: &str,
    generation: i32,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE slices SET edition = edition + 1 WHERE view = $1 AND generation = $2")
        .bind(view)
        .bind(generation)
        .execute(connection)
        .await?;
    Ok(())
}

/// Cuts a generation of one slice into so many.
pub(crate) async fn cut(
    connection: &mut PgConnection,
    view: &str,
    generation: i32,
    slices: i32,
) -> Result<(), sqlx::Error> {
    for statement in [
        "INSERT INTO slices (view, generation, slice, position)
         SELECT view, generation, n, position FROM slices CROSS JOIN generate_series(1, $3 - 1) AS n
         WHERE view = $1 AND generation = $2 AND slice = 0",
        "UPDATE views SET slices = $3 WHERE name = $1 AND generation = $2",
    ] {
        sqlx::query(statement).bind(view).bind(generation).bind(slices).execute(&mut *connection).await?;
    }
    Ok(())
}
