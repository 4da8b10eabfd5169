//! Finding items: all that is offered, or what is searched for.
//!
//! An item is found when each searched word begins one of its words or stands within one. Where no item is
//! found so, slips are forgiven: a word without its particle will do, and one that sounds alike but for a
//! few letters. A page's cursor tells which of the two its list is, so a list that has begun stays what it
//! is while items come and go.

use rentstream_infra::http::Problem;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::Row;
use crate::reads::{At, Reads, degraded_since};
use crate::search;
use crate::waiting::unavailable;

/// Longer than any title is no search.
pub(super) const LONGEST: usize = 200;

/// Postgres cuts text into pieces of three letters: of fewer it finds nothing by index.
const PIECE: usize = 3;

/// What an item that is found as it was typed scores more than one that is just similar.
const AS_TYPED: i64 = 1_000_000;

/// What is searched for: words.
pub(super) struct Sought(Vec<String>);

/// By what found items are sorted: score, best first; then the order in which they were registered.
type Place = [i64; 2];

/// The `q` parameter. A blank one counts as none.
///
/// # Errors
/// A problem that names the field.
pub(super) fn sought(q: Option<&str>) -> Result<Option<Sought>, Problem> {
    let Some(q) = q.map(str::trim).filter(|q| !q.is_empty()) else { return Ok(None) };
    if q.chars().count() > LONGEST {
        return Err(Problem::invalid("q", format!("it must not be longer than {LONGEST} characters")));
    }
    let mut words = search::words(q);
    let mut seen = std::collections::HashSet::new();
    words.retain(|word| seen.insert(word.clone()));
    Ok(Some(Sought(words)))
}

/// All that is offered, in the order in which it was registered.
pub(super) async fn all(
    reads: &Reads,
    shop: Option<&str>,
    after: Option<i64>,
    limit: i64,
) -> Result<(At, Vec<(i64, Row)>), Problem> {
    // One statement, so rows and position are of one moment.
    let rows = sqlx::query(concat!(
        "SELECT v.position, ",
        degraded_since!(""),
        ", r.place, r.row FROM serving v LEFT JOIN LATERAL (
             SELECT c.registered_position AS place, c.row FROM catalogue c
             WHERE c.offered AND c.registered_position > $1 AND ($2::text IS NULL OR c.shop = $2)
             ORDER BY c.registered_position LIMIT $3
         ) r ON true
         WHERE v.name = 'catalogue'"
    ))
    .bind(after.unwrap_or(0))
    .bind(shop)
    .bind(limit + 1)
    .fetch_all(reads.tables.pool())
    .await
    .map_err(unavailable)?;
    Ok(read(&rows, |row| row.get::<Option<i64>, _>("place")))
}

/// What is searched for, best matches first.
pub(super) async fn find(
    reads: &Reads,
    sought: &Sought,
    shop: Option<&str>,
    after: Option<Place>,
    limit: i64,
) -> Result<(At, Vec<(Place, Row)>), Problem> {
    let as_typed = after.is_none_or(|[score, _]| score >= AS_TYPED);
    if as_typed {
        let found = run(reads, sought, &Matching::AsTyped, shop, after, limit).await?;
        if after.is_some() || !found.1.is_empty() {
            return Ok(found);
        }
    }
    run(reads, sought, &Matching::Similar, shop, after, limit).await
}

enum Matching {
    AsTyped,
    Similar,
}

async fn run(
    reads: &Reads,
    Sought(words): &Sought,
    matching: &Matching,
    shop: Option<&str>,
    after: Option<Place>,
    limit: i64,
) -> Result<(At, Vec<(Place, Row)>), Problem> {
    let statement = statement(words, matching);
    let all: Vec<String> = words.iter().map(|word| prefix(word, matching)).collect();
    let [score, place] = after.unwrap_or([i64::MAX, i64::MAX]);
    let mut query = sqlx::query(&statement)
        .bind(shop)
        .bind(score)
        .bind(place)
        .bind(limit + 1)
        .bind(all.join(" & "))
        .bind(search::spelt(words));
    for (word, prefix) in words.iter().zip(&all) {
        query = query.bind(prefix).bind(search::letters(word)).bind(word);
    }
    let rows = query.fetch_all(reads.tables.pool()).await.map_err(unavailable)?;
    Ok(read(&rows, |row| Some([row.get::<Option<i64>, _>("score")?, row.get("place")])))
}

/// What begins with a word, as Postgres writes a `tsquery`. A word is of letters and digits, so nothing in it
/// ends the quotes.
fn prefix(word: &str, matching: &Matching) -> String {
    match (matching, search::stem(word)) {
        (Matching::Similar, Some(stem)) => format!("('{word}':* | '{stem}':*)"),
        (Matching::AsTyped | Matching::Similar, _) => format!("'{word}':*"),
    }
}

/// The statement for so many words. Each is given as a prefix, by its sound, and as it is.
fn statement(words: &[String], matching: &Matching) -> String {
    let (mut matches, mut similarity) = (String::new(), Vec::new());
    for (n, word) in (7..).step_by(3).zip(words) {
        let (prefix, letters, plain) = (n, n + 1, n + 2);
        let spelt = search::letters(word).len();
        let slips = search::slips(spelt);
        let otherwise = match matching {
            // What sounds alike is found by the index, and is what was typed if it reads alike too.
            Matching::AsTyped if spelt >= PIECE => format!(
                "OR (c.letters LIKE '%' || ${letters} || '%' AND c.plain LIKE '%' || ${plain} || '%')"
            ),
            Matching::Similar if slips > 0 => format!(
                "OR (c.letters %> ${letters} AND EXISTS (
                     SELECT FROM unnest(string_to_array(translate(c.letters, E'\\n', ' '), ' ')) AS l (word)
                     WHERE levenshtein_less_equal(l.word, ${letters}, {slips}) <= {slips}))"
            ),
            Matching::AsTyped | Matching::Similar => String::new(),
        };
        matches += &format!(" AND (c.words @@ ${prefix}::tsquery {otherwise})");
        similarity.push(format!("word_similarity(${letters}, c.letters)"));
    }
    // Of nothing but signs, it's in no text.
    if words.is_empty() {
        matches += " AND false";
        similarity.push("0".to_owned());
    }
    let (base, best) = match matching {
        Matching::AsTyped => (AS_TYPED, "2 * ts_rank('{0, 0.3, 0.5, 1}', c.words, $5::tsquery)".to_owned()),
        Matching::Similar => (0, format!("({}) / {}", similarity.join(" + "), similarity.len())),
    };
    let degraded = degraded_since!("");
    format!(
        "SELECT v.position, {degraded}, r.score, r.place, r.row FROM serving v LEFT JOIN LATERAL (
             -- Rows are written out for the page only, not for all that is found.
             SELECT p.score, p.place, p.row FROM (SELECT f.score, f.place, f.row FROM (
                 SELECT {base} + (1000 * ({best} + similarity(split_part(c.letters, E'\\n', 1), $6)))::bigint AS score,
                     c.registered_position AS place, c.row
                 FROM catalogue c WHERE c.offered AND ($1::text IS NULL OR c.shop = $1){matches}
             ) f
             WHERE f.score < $2 OR (f.score = $2 AND f.place > $3)
             ORDER BY f.score DESC, f.place LIMIT $4) p ORDER BY p.score DESC, p.place
         ) r ON true
         WHERE v.name = 'catalogue'"
    )
}

/// How far the view is, and the rows with what they are sorted by.
fn read<K>(rows: &[PgRow], key: impl Fn(&PgRow) -> Option<K>) -> (At, Vec<(K, Row)>) {
    let at = At::of(rows.first());
    let found = rows.iter().filter_map(|row| Some((key(row)?, serde_json::from_str(row.get("row")).ok()?)));
    (at, found.collect())
}
