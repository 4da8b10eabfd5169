//! What the figures were taken on.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use chrono::Utc;

use crate::ground::Ground;

/// Writes that are synced to know the disk.
const SYNCS: usize = 200;
/// A disk whose syncs take more than so many times as long as they may is not at rest.
const RESTLESS: u32 = 2;
/// How long it's waited for.
const REST: Duration = Duration::from_secs(30);

fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn line<'a>(text: &'a str, name: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
    found.unwrap_or("unknown").trim()
}

/// The machine and its servers.
pub(crate) async fn describe(ground: &Ground) -> Result<String> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kibibytes: f64 = line(&memory, "MemTotal").trim_end_matches(" kB").parse().unwrap_or_default();
    let folder = ground.folder().display().to_string();
    let disk = said_by("df", &["--output=fstype", &folder]).lines().last().unwrap_or("unknown").to_owned();
    let nats = said_by("nats-server", &["--version"]).trim_start_matches("nats-server: ").to_owned();
    Ok(format!(
        "{}, {cores} cores, {:.0} GB, Linux {}, data on {disk}, Postgres {}, nats-server {nats}",
        line(&cpu, "model name"),
        kibibytes / 1e6,
        kernel.trim(),
        ground.setting("server_version").await?
    ))
}

/// What Postgres is set to that its speed depends on.
pub(crate) async fn settings(ground: &Ground) -> Result<String> {
    let mut list = Vec::new();
    for setting in
        ["fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size", "min_wal_size"]
    {
        list.push(format!("{setting} = {}", ground.setting(setting).await?));
    }
    Ok(list.join(", "))
}

/// When, of which commit, how, on what and beside what a section was taken.
pub(crate) fn stamp(section: &str, machine: &str) -> Result<String> {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let commit = said_by("git", &["rev-parse", "--short", "HEAD"]);
    let changed = !said_by("git", &["status", "--porcelain", "--", "../crates"]).is_empty();
    Ok(format!(
        "`make bench ONLY={section}` on {} of {commit}{}, on {machine}; the machine's load before was {}, a synced write of \
         8 kB took {} µs.",
        Utc::now().format("%Y-%m-%d %H:%M UTC"),
        if changed { " with changes" } else { "" },
        load.split(' ').next().unwrap_or_default(),
        synced(Path::new(env!("CARGO_TARGET_TMPDIR")))?
    ))
}

/// Processors' time of the whole machine until now, in ticks.
pub(crate) struct Wanted {
    all: u64,
    /// What the machine's host gave to others, where the machine is a virtual one.
    stolen: u64,
}

impl Wanted {
    pub(crate) fn until_now() -> Self {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let ticks = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
        let ticks: Vec<u64> = ticks.map(|ticks| ticks.parse().unwrap_or_default()).collect();
        // user nice system idle iowait irq softirq steal: what is idle or waits for the disk wants nothing.
        let [user, nice, system, _, _, irq, softirq, stolen] = *ticks.first_chunk().unwrap_or(&[0; 8]);
        Self { all: user + nice + system + irq + softirq + stolen, stolen }
    }

    /// What has been missing since, as a sentence: figures of a section that lacked much of it say little.
    pub(crate) fn since(&self) -> String {
        let now = Self::until_now();
        let wanted = (now.all - self.all).max(1) as f64;
        let stolen = (now.stolen - self.stolen) as f64 / wanted * 100.0;
        format!(
            "Of the processors' time that was wanted meanwhile, the machine's host gave {stolen:.0} % to others."
        )
    }
}

/// Microseconds that it takes to write a page and sync it, half of the time.
fn synced(folder: &Path) -> Result<u128> {
    let mut times = syncs(folder)?;
    times.sort_unstable();
    Ok(times[SYNCS / 2].as_micros())
}

/// How long it takes to write a page and sync it, one after the other.
fn syncs(folder: &Path) -> Result<Vec<Duration>> {
    use std::io::Write;
    let path = folder.join("synced");
    let mut file = std::fs::File::create(&path).context("write to the disk")?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let began = Instant::now();
        file.write_all(&[0; 8192])?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    std::fs::remove_file(&path)?;
    Ok(times)
}

/// The disk, as it is with nothing else to do.
pub(crate) struct Disk {
    folder: PathBuf,
    /// What its syncs take then, together.
    rested: Duration,
}

impl Disk {
    /// A disk that is at rest now.
    pub(crate) fn of(folder: &Path) -> Result<Self> {
        Ok(Self { folder: folder.to_owned(), rested: syncs(folder)?.iter().sum() })
    }

    /// Waits until it is so again, within bounds: for a while it has to do with what was dropped before.
    pub(crate) async fn rest(&self) -> Result<()> {
        let began = Instant::now();
        while syncs(&self.folder)?.iter().sum::<Duration>() > self.rested * RESTLESS {
            if began.elapsed() > REST {
                eprintln!("the disk has not come to rest within {} s", REST.as_secs());
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    }
}
