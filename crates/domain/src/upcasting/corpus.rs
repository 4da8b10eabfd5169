//! The frozen corpus: an example of every shape that was ever stored, which must read for ever.
//!
//! `corpus/<Aggregate>/<Event>.<version>.json` has examples, each with how it's stored, and what it reads into (as it
//! would be stored today, and as Rust shows it). `corpus/frozen` has a fingerprint of each as it's stored. With
//! `RENTSTREAM_CORPUS=write` the test fills in what a new example lacks; it never changes what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{env, fs};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use strum::VariantNames;

use super::{LIFTS, Stored};
use crate::Event;
use crate::customer::CustomerEvent;
use crate::delivery::DeliveryEvent;
use crate::payment::PaymentEvent;
use crate::rental::RentalEvent;
use crate::stock::StockEvent;

const ID: &str = "0197a3f0-0000-7000-8000-000000000000";

const EVENTS: [(&str, &[&str]); 5] = [
    ("Customer", CustomerEvent::VARIANTS),
    ("Delivery", DeliveryEvent::VARIANTS),
    ("Payment", PaymentEvent::VARIANTS),
    ("Rental", RentalEvent::VARIANTS),
    ("Stock", StockEvent::VARIANTS),
];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    /// To the byte.
    stored: Box<RawValue>,
    #[serde(default)]
    reads: Value,
    #[serde(default)]
    means: String,
}

/// Every example with its name, as in `Rental/RentalAccepted.1 #2`.
type Corpus = BTreeMap<String, Example>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The files' names, as in `Rental/RentalAccepted.1`.
fn names() -> BTreeSet<String> {
    let of = |aggregate: &str| {
        let entries =
            fs::read_dir(folder().join(aggregate)).unwrap_or_else(|error| panic!("{aggregate}: {error}"));
        let name = |entry: std::io::Result<fs::DirEntry>| {
            let path = entry.unwrap().path();
            format!("{aggregate}/{}", path.file_stem().unwrap().to_str().unwrap())
        };
        entries.map(name).collect::<Vec<_>>()
    };
    EVENTS.iter().flat_map(|(aggregate, _)| of(aggregate)).collect()
}

fn examples(name: &str) -> Vec<Example> {
    let text = fs::read_to_string(folder().join(format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn corpus() -> Corpus {
    let numbered = |name: String| {
        let examples = examples(&name).into_iter();
        (1..).zip(examples).map(|(n, example)| (format!("{name} #{n}"), example)).collect::<Vec<_>>()
    };
    names().into_iter().flat_map(numbered).collect()
}

fn read(name: &str, example: &Example) -> (Value, String) {
    let (aggregate, rest) = name.split_once('/').unwrap();
    let (event, version) = rest.split_once(' ').unwrap().0.split_once('.').unwrap();
    let stored = Stored { event, version, payload: example.stored.get() };
    let read = Event::decode(aggregate, ID, stored)
        .unwrap_or_else(|error| panic!("{name} no longer reads: {error}"));
    assert_eq!(read.name(), event, "{name} reads into another event");
    let written = match &read {
        Event::Customer(_, event) => serde_json::to_value(event),
        Event::Stock(_, event) => serde_json::to_value(event),
        Event::Rental(_, event) => serde_json::to_value(event),
        Event::Payment(_, event) => serde_json::to_value(event),
        Event::Delivery(_, event) => serde_json::to_value(event),
    };
    (written.unwrap(), format!("{read:?}").replace(ID, "ID"))
}

fn fingerprint(example: &Example) -> String {
    let hash = Sha256::digest(example.stored.get());
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn frozen() -> BTreeMap<String, String> {
    let text = fs::read_to_string(folder().join("frozen")).unwrap_or_default();
    let entry = |line: &str| line.split_once("  ").map(|(print, name)| (name.to_owned(), print.to_owned()));
    text.lines().filter_map(entry).collect()
}

/// Fills in what new examples lack.
fn write() {
    for name in names() {
        let mut examples = examples(&name);
        for (n, example) in (1..).zip(&mut examples).filter(|(_, example)| example.reads.is_null()) {
            (example.reads, example.means) = read(&format!("{name} #{n}"), example);
        }
        let text = serde_json::to_string_pretty(&examples).unwrap();
        fs::write(folder().join(format!("{name}.json")), text + "\n").unwrap();
    }
    let mut frozen = frozen();
    for (name, example) in corpus() {
        frozen.entry(name).or_insert_with(|| fingerprint(&example));
    }
    let lines: String = frozen.iter().map(|(name, print)| format!("{print}  {name}\n")).collect();
    fs::write(folder().join("frozen"), lines).unwrap();
}

#[test]
fn every_event_ever_stored_reads_as_it_did() {
    if env::var("RENTSTREAM_CORPUS").is_ok_and(|wish| wish == "write") {
        write();
    }
    for (name, example) in corpus() {
        let (reads, means) = read(&name, &example);
        assert_eq!(reads, example.reads, "{name} reads into something else");
        assert_eq!(means, example.means, "{name} reads into something else");
    }
}

#[test]
fn every_version_of_every_event_has_an_example() {
    let known: BTreeSet<String> = EVENTS
        .iter()
        .flat_map(|(aggregate, events)| events.iter().map(move |event| (aggregate, *event)))
        .flat_map(|(aggregate, event)| {
            (1..=LIFTS.version(event)).map(move |version| format!("{aggregate}/{event}.{version}"))
        })
        .collect();
    let found = names();
    assert_eq!(known.difference(&found).collect::<Vec<_>>(), Vec::<&String>::new(), "without an example");
    assert_eq!(found.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new(), "an example of nothing");
    for name in found {
        assert!(!examples(&name).is_empty(), "{name} has no example");
    }
}

#[test]
fn no_example_is_changed_or_taken_away() {
    let found: BTreeMap<_, _> =
        corpus().into_iter().map(|(name, example)| (name, fingerprint(&example))).collect();
    let frozen = frozen();
    let names: BTreeSet<_> = found.keys().chain(frozen.keys()).collect();
    let other: Vec<_> = names.into_iter().filter(|name| found.get(*name) != frozen.get(*name)).collect();
    assert_eq!(
        other,
        Vec::<&String>::new(),
        "what is stored for ever was changed, or is not in corpus/frozen yet"
    );
}
