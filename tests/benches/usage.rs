//! What processes take of the machine, as Linux tells it.

use anyhow::{Context, Result};

/// Linux tells of processors' time in hundredths of a second.
const TICKS: f64 = 100.0;

/// Seconds of processors' time that a process has had.
pub(crate) fn cpu(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Its name, in brackets, may have spaces in it.
    let (_, fields) = stat.rsplit_once(')').context("no name is told")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| -> Result<f64> { Ok(fields.get(at).context("no time is told")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / TICKS)
}

/// Megabytes of memory, as in `VmRSS:`.
pub(crate) fn memory(pid: u32, name: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no memory is told")?;
    let kibibytes: f64 = line.split_whitespace().next().unwrap_or_default().parse()?;
    Ok(kibibytes * 1_024.0 / 1e6)
}
