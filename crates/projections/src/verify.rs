//! The proof of a view: the log is folded afresh up to where the view serves, and compared with what it serves there,
//! row by row. The shop may write meanwhile, as rows and position are read in one snapshot.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use futures::TryStreamExt;
use rentstream_infra::log::{Log, Recorded};
use rentstream_infra::parking::skipped;
use serde_json::{Map, Value};
use sqlx::{Executor, PgConnection};
use uuid::Uuid;

use crate::ahead::OF_ANOTHER_LOG;
use crate::plain::Fold;
use crate::projection::keys_parked;
use crate::slices::{Standing, standings};
use crate::tables::{Generation, Tables, latest, serving, table};
use crate::view::Definition;

/// Events read at once.
const PAGE: usize = 5_000;
/// Differences that are told with all there is to them.
const TOLD: usize = 20;
/// Letters of a member that are told.
const LETTERS: usize = 200;

/// What was found.
#[derive(Debug, Default)]
pub struct Verified {
    /// What all rows have seen.
    pub position: u64,
    /// Rows that were compared.
    pub rows: usize,
    /// Keys that are parked where the view serves, or would be: they aren't compared.
    pub parked: BTreeSet<String>,
    /// Rows that differ.
    pub differing: usize,
    /// The first of them.
    pub differences: Vec<Difference>,
}

/// A row that isn't what the log says.
#[derive(Debug)]
pub struct Difference {
    /// Of the row.
    pub key: Uuid,
    /// Members with what both say; a whole row that is there only once has no name.
    pub members: Vec<(String, Option<Value>, Option<Value>)>,
    /// Who both are.
    pub both: [&'static str; 2],
    /// The events that make the row: position and name.
    pub events: Vec<(u64, String)>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.key)?;
        let told = |value: &Option<Value>| {
            value.as_ref().map_or_else(
                || "nothing".to_owned(),
                |value| value.to_string().chars().take(LETTERS).collect(),
            )
        };
        for (name, served, folded) in &self.members {
            let name = if name.is_empty() { "the row" } else { name };
            let [one, other] = self.both;
            writeln!(f, "    {name}: {} {one}, {} {other}", told(served), told(folded))?;
        }
        let events: Vec<_> =
            self.events.iter().map(|(position, name)| format!("{position} {name}")).collect();
        write!(f, "    from {}", if events.is_empty() { "no event".to_owned() } else { events.join(", ") })
    }
}

/// Verifies a view. `progress` is told the position reached and the one to reach.
///
/// # Errors
/// When Postgres can't be reached.
pub async fn run(
    view: &Definition,
    log: &Log,
    tables: &Tables,
    mut progress: impl FnMut(u64, u64) + Send,
) -> Result<Verified, sqlx::Error> {
    let mut tx = tables.pool().begin().await?;
    tx.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
    let Some(Generation { number, position, furthest, .. }) = serving(&mut tx, view.name).await? else {
        return Ok(Verified::default());
    };
    let slices = standings(&mut tx, view.name, number).await?;
    // From here on nobody can drop it.
    tx.execute(format!("SELECT FROM {} LIMIT 0", table(view.name, number)).as_str()).await?;
    let mut parked: BTreeSet<String> = keys_parked(&mut tx, view, number).await?.into_iter().collect();

    let mut fold = Fold::of(view);
    each(view, log, furthest, |recorded| {
        // Each slice up to where it is.
        let seen =
            |slice: &Standing| slice.position >= recorded.position && slice.slice.may_have(view, recorded);
        if view.is_about(recorded) && slices.iter().any(seen) {
            fold.take(std::slice::from_ref(recorded));
        }
        progress(recorded.position, furthest);
    })
    .await?;
    let folded: HashMap<Uuid, String> = fold.rest().collect::<Result<_, _>>()?;
    parked.extend(fold.parked.0);
    let mut verified = Verified { position, parked, ..Verified::default() };
    let mut found = compare(&mut tx, view, number, folded, &mut verified).await?;
    columns(&mut tx, view, number, &mut found).await?;
    verified.differing = found.len();
    verified.differences = explain(view, log, furthest, found, ["served", "by the log"]).await?;
    Ok(verified)
}

/// Compares the rows that serve with those that served before, as after a rebuild: those that events have changed since
/// are left out, so both are of the same position. None where there's nothing to compare with.
///
/// # Errors
/// When Postgres can't be reached.
pub async fn before_and_now(
    view: &Definition,
    log: &Log,
    tables: &Tables,
) -> Result<Option<Verified>, sqlx::Error> {
    let mut tx = tables.pool().begin().await?;
    tx.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
    let (now, before) = (serving(&mut tx, view.name).await?, latest(&mut tx, view.name, "old").await?);
    let (Some(now), Some(before)) = (now, before) else { return Ok(None) };
    if before.version == OF_ANOTHER_LOG || before.furthest > now.furthest {
        return Ok(None);
    }
    let mut left_out = BTreeSet::new();
    for generation in [now.number, before.number] {
        left_out.extend(keys_parked(&mut tx, view, generation).await?);
    }
    let Generation { furthest: position, .. } = now;
    let mut from = before.position.min(now.position);
    while from < position {
        let page = log.page(from, PAGE.min(usize::try_from(position - from).unwrap_or(PAGE))).await?;
        let Some(last) = page.last() else { break };
        from = last.position;
        let keys = page.iter().filter_map(|recorded| (view.key)(recorded.event().ok()?));
        left_out.extend(keys.map(|key| key.to_string()));
    }
    // Of the rows that are alike, which nearly all are, the key alone.
    let statement = format!(
        "SELECT key, CASE WHEN o.row IS DISTINCT FROM n.row THEN o.row END,
             CASE WHEN o.row IS DISTINCT FROM n.row THEN n.row END
         FROM {} o FULL JOIN {} n USING (key)",
        table(view.name, before.number),
        table(view.name, now.number)
    );
    let (mut verified, mut found) = (Verified { position, ..Verified::default() }, Found::new());
    let mut rows = sqlx::query_as::<_, (Uuid, Option<String>, Option<String>)>(&statement).fetch(&mut *tx);
    while let Some((key, old, new)) = rows.try_next().await? {
        if left_out.contains(&key.to_string()) {
            continue;
        }
        verified.rows += 1;
        let differs = if old == new { vec![] } else { members(old.as_deref(), new.as_deref()) };
        if !differs.is_empty() {
            verified.differing += 1;
            // A new definition may change all of them.
            if found.len() < TOLD {
                found.insert(key, differs);
            }
        }
    }
    drop(rows);
    verified.differences = explain(view, log, position, found, ["before", "now"]).await?;
    Ok(Some(verified))
}

/// What differs, by key.
type Found = BTreeMap<Uuid, Vec<(String, Option<Value>, Option<Value>)>>;

/// Every event up to a position but for those that are left out for good.
async fn each(
    view: &Definition,
    log: &Log,
    to: u64,
    mut take: impl FnMut(&Recorded),
) -> Result<(), sqlx::Error> {
    let skipped = skipped(log.pool(), view.name).await?;
    let mut from = 0;
    while from < to {
        let page = log.page(from, PAGE.min(usize::try_from(to - from).unwrap_or(PAGE))).await?;
        let Some(last) = page.last() else { return Ok(()) };
        from = last.position;
        page.iter().filter(|recorded| !skipped.contains(&recorded.position)).for_each(&mut take);
    }
    Ok(())
}

/// Compares the rows of a generation with these.
async fn compare(
    connection: &mut PgConnection,
    view: &Definition,
    generation: i32,
    mut folded: HashMap<Uuid, String>,
    verified: &mut Verified,
) -> Result<Found, sqlx::Error> {
    let statement = format!("SELECT key, row FROM {}", table(view.name, generation));
    let mut served = sqlx::query_as::<_, (Uuid, String)>(&statement).fetch(connection);
    let mut found = Found::new();
    let is_parked = |key: &Uuid| !verified.parked.is_empty() && verified.parked.contains(&key.to_string());
    while let Some((key, row)) = served.try_next().await? {
        let says = folded.remove(&key);
        if is_parked(&key) {
            continue;
        }
        verified.rows += 1;
        if says.as_ref() != Some(&row) {
            let other = members(Some(&row), says.as_deref());
            if !other.is_empty() {
                found.insert(key, other);
            }
        }
    }
    for (key, row) in folded.into_iter().filter(|(key, _)| !is_parked(key)) {
        verified.rows += 1;
        found.insert(key, members(None, Some(&row)));
    }
    Ok(found)
}

/// The members that differ between two rows.
fn members(served: Option<&str>, folded: Option<&str>) -> Vec<(String, Option<Value>, Option<Value>)> {
    let value =
        |row: Option<&str>| row.map(|row| serde_json::from_str(row).unwrap_or_else(|_| Value::from(row)));
    match (value(served), value(folded)) {
        (Some(Value::Object(served)), Some(Value::Object(folded))) => {
            let names: BTreeSet<&String> = served.keys().chain(folded.keys()).collect();
            let member = |row: &Map<String, Value>, name: &String| row.get(name).cloned();
            let both = |name| (String::clone(name), member(&served, name), member(&folded, name));
            names.into_iter().map(both).filter(|(_, served, folded)| served != folded).collect()
        }
        (served, folded) if served == folded => vec![],
        (served, folded) => vec![(String::new(), served, folded)],
    }
}

/// Finds columns that don't say what their row says.
async fn columns(
    connection: &mut PgConnection,
    view: &Definition,
    generation: i32,
    found: &mut Found,
) -> Result<(), sqlx::Error> {
    for (name, kind) in view.columns {
        let statement = format!(
            "SELECT key, {name}::text, row::json->>'{name}' FROM {}
             WHERE {name} IS DISTINCT FROM (row::json->>'{name}')::{kind}",
            table(view.name, generation)
        );
        let others: Vec<(Uuid, Option<String>, Option<String>)> =
            sqlx::query_as(&statement).fetch_all(&mut *connection).await?;
        for (key, column, row) in others {
            let other = (format!("the column {name}"), column.map(Value::from), row.map(Value::from));
            found.entry(key).or_default().push(other);
        }
    }
    Ok(())
}

/// The first of them with the events that make their rows.
async fn explain(
    view: &Definition,
    log: &Log,
    position: u64,
    found: Found,
    both: [&'static str; 2],
) -> Result<Vec<Difference>, sqlx::Error> {
    let mut differences: BTreeMap<Uuid, Difference> = found
        .into_iter()
        .take(TOLD)
        .map(|(key, members)| (key, Difference { key, members, both, events: vec![] }))
        .collect();
    if !differences.is_empty() {
        each(view, log, position, |recorded| {
            let Ok(event) = recorded.event() else { return };
            let touched = (view.key)(event).and_then(|key| differences.get_mut(&key));
            if let Some(difference) = touched {
                difference.events.push((recorded.position, event.name()));
            }
        })
        .await?;
    }
    Ok(differences.into_values().collect())
}
