use cqrs_es::persist::{EventUpcaster, SerializedEvent};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Lift, Lifts, Stored};

/// An event that has changed twice: a length in metres became one in millimetres, then it got a colour.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum ShelfEvent {
    ShelfBuilt { millimetres: u32, colour: String },
    ShelfPainted { colour: String },
}

const SHELVES: Lifts = Lifts(&[
    Lift { event: "ShelfBuilt", from: 2, lift: with_a_colour },
    Lift { event: "ShelfBuilt", from: 1, lift: in_millimetres },
]);

fn in_millimetres(mut payload: Value) -> Value {
    let built = &mut payload["ShelfBuilt"];
    let metres = built["metres"].as_u64().unwrap_or_default();
    *built = json!({ "millimetres": metres * 1_000 });
    payload
}

fn with_a_colour(mut payload: Value) -> Value {
    payload["ShelfBuilt"]["colour"] = json!("plain");
    payload
}

fn read(event: &str, version: &str, payload: &Value) -> Result<ShelfEvent, String> {
    let payload = payload.to_string();
    SHELVES.read(Stored { event, version, payload: &payload }).map_err(|error| error.0)
}

fn built(millimetres: u32, colour: &str) -> ShelfEvent {
    ShelfEvent::ShelfBuilt { millimetres, colour: colour.to_owned() }
}

#[test]
fn an_old_event_reads_as_what_the_program_knows_from_whichever_version() {
    assert_eq!(
        (SHELVES.version("ShelfBuilt"), SHELVES.version("ShelfPainted"), SHELVES.version("Else")),
        (3, 1, 1)
    );
    let first = json!({ "ShelfBuilt": { "metres": 2 } });
    assert_eq!(read("ShelfBuilt", "1", &first), Ok(built(2_000, "plain")));
    let second = json!({ "ShelfBuilt": { "millimetres": 1_800 } });
    assert_eq!(read("ShelfBuilt", "2", &second), Ok(built(1_800, "plain")));
    let third = json!({ "ShelfBuilt": { "millimetres": 1_800, "colour": "red" } });
    assert_eq!(read("ShelfBuilt", "3", &third), Ok(built(1_800, "red")));
}

#[test]
fn an_event_of_a_version_from_the_future_is_not_read_even_if_its_shape_would_fit() {
    let fits = json!({ "ShelfPainted": { "colour": "red" } });
    assert_eq!(read("ShelfPainted", "1", &fits), Ok(ShelfEvent::ShelfPainted { colour: "red".into() }));
    assert_eq!(
        read("ShelfPainted", "2", &fits).unwrap_err(),
        "ShelfPainted is of version 2, this program reads it up to 1"
    );
}

#[test]
fn a_name_or_a_version_that_is_none_is_not_read() {
    let burnt = json!({ "ShelfBurnt": {} });
    assert!(read("ShelfBurnt", "1", &burnt).unwrap_err().starts_with("ShelfBurnt does not read"));
    let built = json!({ "ShelfBuilt": { "metres": 2 } });
    for none in ["0", "", "1.0", "-1", "latest"] {
        assert_eq!(
            read("ShelfBuilt", none, &built).unwrap_err(),
            format!("ShelfBuilt has no version {none:?}")
        );
    }
}

#[test]
fn the_stock_library_lifts_alike() {
    let lifted = |version: &str, payload: Value| {
        let event = SerializedEvent::new(
            "id".into(),
            1,
            "Shelf".into(),
            "ShelfBuilt".into(),
            version.into(),
            payload,
            json!({}),
        );
        // As cqrs-es goes through them.
        let fold = |event: SerializedEvent, upcaster: Box<dyn EventUpcaster>| {
            if upcaster.can_upcast(&event.event_type, &event.event_version) {
                upcaster.upcast(event)
            } else {
                event
            }
        };
        let event = SHELVES.upcasters().into_iter().fold(event, fold);
        (event.event_version, serde_json::from_value::<ShelfEvent>(event.payload).unwrap())
    };
    let three = "3".to_owned();
    assert_eq!(lifted("1", json!({ "ShelfBuilt": { "metres": 2 } })), (three.clone(), built(2_000, "plain")));
    assert_eq!(
        lifted("2", json!({ "ShelfBuilt": { "millimetres": 5 } })),
        (three.clone(), built(5, "plain"))
    );
    let current = json!({ "ShelfBuilt": { "millimetres": 5, "colour": "red" } });
    assert_eq!(lifted("3", current), (three, built(5, "red")));
}
