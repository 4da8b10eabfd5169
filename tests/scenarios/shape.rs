//! The arrows between the crates: domain ← infra ← {command-api, projections} ← rentstream ← tests; and what deploy/
//! sets, which must be settings.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
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

/// Everything below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Words in capitals that start or end as this program's settings do.
fn settings(text: &str) -> BTreeSet<&str> {
    let ours = |word: &&str| {
        let starts = ["RENTSTREAM_", "PAYMENT_GATEWAY_", "SMTP_", "WEBHOOK_", "KAKAO_", "RUST_LOG", "OTEL_"];
        let ends = ["DATABASE_URL", "NATS_URL", "DATABASE_URL_FILE", "NATS_URL_FILE"];
        starts.iter().any(|start| word.starts_with(start)) || ends.iter().any(|end| word.ends_with(end))
    };
    text.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')).filter(ours).collect()
}

#[test]
fn what_deploy_sets_is_a_setting() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let example = std::fs::read_to_string(root.join(".env.example")).unwrap();
    let known: BTreeSet<&str> =
        example.lines().filter_map(|line| Some(line.trim_start_matches('#').split_once('=')?.0)).collect();
    let mut seen = 0;
    for file in files(&root.join("deploy")) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        // Scripts have variables of their own.
        if !(name.ends_with(".yaml") || name.ends_with(".env") || name == "Dockerfile") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for setting in settings(&text) {
            // Every setting can be read from a file instead.
            let setting = setting.strip_suffix("_FILE").unwrap_or(setting);
            assert!(
                known.contains(setting),
                "{} sets {setting}, which .env.example doesn't know",
                file.display()
            );
            seen += 1;
        }
    }
    assert!(seen > 20, "only {seen} settings were found in deploy/");
}
