//! What is noted of the rows of a view that is watched: which ones each page of events changed. Whoever tells watchers
//! looks there for what changed since, so no index need follow every change of a row.

/// Of the last so many positions. Who hasn't looked since can't tell by it what changed.
pub(crate) const KEPT: u64 = 100_000;
/// What is older is forgotten whenever so many positions have passed. Page by page it would cost more the more was
/// forgotten: until Postgres vacuums, whoever looks for the oldest meets all that are gone before.
const FORGOTTEN_TOGETHER: u64 = 10_000;

/// The part of the projector's statement that notes a page and forgets what is old. Its parameters are those of the
/// checkpoint: view, generation, where it was, where it comes to, slice; and the rows' keys.
pub(crate) fn noted() -> String {
    format!(
        ", noted AS (
             INSERT INTO changes (view, generation, position, slice, keys) SELECT $1, $2, $4, $6, $7 FROM moved
         ), forgotten AS (
             DELETE FROM changes WHERE view = $1 AND generation = $2 AND position < $4 - {KEPT} AND slice = $6
                 AND $3 / {FORGOTTEN_TOGETHER} < $4 / {FORGOTTEN_TOGETHER} AND EXISTS (SELECT FROM moved)
         )"
    )
}
