//! `docs/acceptance.md` says by which scenarios each behaviour is proven; here it's held to that.

use std::path::Path;

const BEHAVIOURS: usize = 40;

#[test]
fn every_behaviour_names_scenarios_that_exist() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(here.join("../docs/acceptance.md")).unwrap();
    let mut rows = Vec::new();
    for line in table.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let Some(row) = cells.first().and_then(|cell| cell.parse::<usize>().ok()) else { continue };
        rows.push(row);
        // Every second piece stands between backticks.
        let named: Vec<&str> = cells[cells.len() - 1].split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "behaviour {row} names no scenario");
        for name in named {
            let (module, scenario) = name.split_once("::").unwrap_or_else(|| panic!("{name} has no module"));
            let file = here.join("scenarios").join(module).with_extension("rs");
            let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
            let is_there =
                text.contains(&format!("fn {scenario}()")) || text.contains(&format!(": {scenario},"));
            assert!(is_there, "behaviour {row} names {name}, which is not there");
        }
    }
    assert_eq!(rows, (1..=BEHAVIOURS).collect::<Vec<_>>());
}
