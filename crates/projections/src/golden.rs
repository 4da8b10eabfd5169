//! Keeps `VERSION` honest: what each view makes of every shape of event that was ever stored, as a hash beside the
//! version that made it. With `RENTSTREAM_OUTCOMES=write` the test notes a version that was raised and examples that
//! are new; it never notes another outcome of the same version.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::{env, fs};

use rentstream_domain::Event;
use rentstream_infra::log::{Decoded, Recorded};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::fixtures;
use crate::rows::Rows;
use crate::view::{Definition, Touch};
use crate::views::ALL;

const ID: &str = "0197a3f0-0000-7000-8000-000000000000";

/// What is in the repository.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Noted {
    /// Of the frozen corpus, as in `Rental/RentalAccepted.1 #2`.
    examples: Vec<String>,
    views: BTreeMap<String, Outcome>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Outcome {
    version: i32,
    rows: String,
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/views/outcomes.json")
}

#[derive(Deserialize)]
struct Example {
    stored: Box<RawValue>,
}

/// Every example of the corpus as the log would have it.
fn corpus() -> BTreeMap<String, Recorded> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../domain/corpus");
    let text = fs::read_to_string(folder.join("frozen")).unwrap();
    let names = text.lines().filter_map(|line| Some(line.split_once("  ")?.1.to_owned()));
    names.map(|name| (name.clone(), recorded(&folder, &name))).collect()
}

fn recorded(folder: &Path, name: &str) -> Recorded {
    let (stem, number) = name.split_once(" #").unwrap();
    let (aggregate_type, event) = stem.split_once('/').unwrap();
    let (event_type, event_version) = event.split_once('.').unwrap();
    let examples = fs::read_to_string(folder.join(format!("{stem}.json"))).unwrap();
    let examples: Vec<Example> = serde_json::from_str(&examples).unwrap();
    Recorded {
        aggregate_type: aggregate_type.to_owned(),
        aggregate_id: ID.to_owned(),
        event_type: event_type.to_owned(),
        event_version: event_version.to_owned(),
        payload: examples.into_iter().nth(number.parse::<usize>().unwrap() - 1).unwrap().stored,
        decoded: Decoded::default(),
        ..fixtures::recorded(1)
    }
}

/// What a view makes of events, each alone, and after each other one.
fn outcome(view: &Definition, events: &[Recorded]) -> String {
    let mut hash = Sha256::new();
    let later: Vec<Recorded> =
        events.iter().map(|recorded| Recorded { position: 2, ..recorded.clone() }).collect();
    for first in events {
        let Some(key) = (view.key)(first.event().unwrap()) else {
            hash.update("nothing\n");
            continue;
        };
        hash.update(key);
        let alone = || {
            let mut rows = (view.rows)();
            rows.learn(&[key], HashMap::new());
            let after = fold(&mut *rows, key, first);
            (rows, after)
        };
        hash.update(alone().1);
        for second in later.iter().filter(|second| (view.key)(second.event().unwrap()).is_some()) {
            hash.update(fold(&mut *alone().0, key, second));
        }
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The row after an event, or that it's parked.
fn fold(rows: &mut dyn Rows, key: Uuid, recorded: &Recorded) -> String {
    let event: &Event = recorded.event().unwrap();
    let folded = rows.fold(&[Touch { key, event, recorded }], &HashSet::new());
    folded.rows.into_iter().next().map_or_else(|| "parked\n".to_owned(), |(_, row)| row + "\n")
}

fn outcomes(examples: &[String], corpus: &BTreeMap<String, Recorded>) -> BTreeMap<String, Outcome> {
    let events: Vec<Recorded> = examples.iter().map(|name| corpus[name].clone()).collect();
    let of = |view: &Definition| Outcome { version: view.version, rows: outcome(view, &events) };
    ALL.iter().map(|view| (view.name.to_owned(), of(view))).collect()
}

#[test]
fn what_a_view_makes_of_events_changes_with_its_version_only() {
    let corpus = corpus();
    let noted = fs::read_to_string(file()).unwrap_or_else(|_| "{\"examples\":[],\"views\":{}}".to_owned());
    let mut noted: Noted = serde_json::from_str(&noted).unwrap();
    let now = outcomes(&noted.examples, &corpus);
    for (view, Outcome { version, rows }) in &noted.views {
        let other = now.get(view).filter(|now| now.version == *version && now.rows != *rows);
        assert!(
            other.is_none(),
            "the view {view} makes other rows than its version {version} did: raise its VERSION, so that it's rebuilt \
             where it serves, then run this test with RENTSTREAM_OUTCOMES=write"
        );
    }
    if env::var("RENTSTREAM_OUTCOMES").is_ok_and(|wish| wish == "write") {
        let known: BTreeSet<String> = noted.examples.iter().cloned().collect();
        noted.examples.extend(corpus.keys().filter(|name| !known.contains(*name)).cloned());
        noted.views = outcomes(&noted.examples, &corpus);
        fs::write(file(), serde_json::to_string_pretty(&noted).unwrap() + "\n").unwrap();
    }
    let all: BTreeSet<&String> = noted.examples.iter().collect();
    assert!(
        all == corpus.keys().collect() && noted.views == outcomes(&noted.examples, &corpus),
        "a version was raised, or a view or an example is new: run this test with RENTSTREAM_OUTCOMES=write"
    );
}

#[test]
fn a_view_is_given_the_events_that_touch_its_rows_and_is_made_of_every_aggregate_that_it_names() {
    let corpus = corpus();
    for view in ALL {
        let touching = corpus.values().filter(|recorded| (view.key)(recorded.event().unwrap()).is_some());
        let touching: BTreeSet<&str> = touching.map(|recorded| recorded.aggregate_type.as_str()).collect();
        assert_eq!(touching, view.aggregates.iter().copied().collect(), "{}", view.name);
    }
}

#[test]
fn whatever_makes_rows_or_tables_other_ones_changes_the_fingerprint() {
    let [view, ..] = ALL;
    let changed = [
        Definition { version: view.version + 1, ..view },
        Definition { columns: &[("other", "text")], ..view },
        Definition { indexes: &["(other)"], ..view },
        Definition { extensions: &["other"], ..view },
    ];
    let prints: HashSet<i64> = changed.iter().chain([&view]).map(Definition::fingerprint).collect();
    assert_eq!(prints.len(), 5);
}
