//! The arrows between the crates: domain ← infra ← {command-api, projections} ← rentstream ← tests.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// What each crate depends on, tests and build scripts of its own aside.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let of = |package: &Value| {
        let all = package["dependencies"].as_array().unwrap().iter();
        all.filter(|dependency| dependency["kind"].is_null()).map(name).collect()
    };
    metadata["packages"].as_array().unwrap().iter().map(|package| (name(package), of(package))).collect()
}

#[test]
fn the_crates_depend_on_each_other_in_one_direction() {
    let all = dependencies();
    let allowed: [(&str, &[&str]); 6] = [
        ("rentstream-domain", &[]),
        ("rentstream-infra", &["rentstream-domain"]),
        ("rentstream-command-api", &["rentstream-domain", "rentstream-infra"]),
        ("rentstream-projections", &["rentstream-domain", "rentstream-infra"]),
        (
            "rentstream",
            &["rentstream-domain", "rentstream-infra", "rentstream-command-api", "rentstream-projections"],
        ),
        (
            "rentstream-tests",
            &[
                "rentstream-domain",
                "rentstream-infra",
                "rentstream-command-api",
                "rentstream-projections",
                "rentstream",
            ],
        ),
    ];
    let known: Vec<&str> = allowed.iter().map(|(name, _)| *name).collect();
    assert_eq!(all.keys().map(String::as_str).collect::<BTreeSet<_>>(), known.into_iter().collect());
    for (name, may) in allowed {
        for dependency in all[name].iter().filter(|dependency| all.contains_key(*dependency)) {
            assert!(may.contains(&dependency.as_str()), "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn the_domain_touches_no_clock_database_network_or_thread() {
    let all = dependencies();
    for outside in ["sqlx", "postgres-es", "axum", "async-nats", "tokio", "reqwest", "rand", "tracing"] {
        assert!(
            !all["rentstream-domain"].contains(outside),
            "rentstream-domain must not depend on {outside}"
        );
    }
}
