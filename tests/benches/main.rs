//! What the shop's backend costs, each figure beside its yardstick: `make bench`, or `make bench ONLY=store,hot`; what
//! `make bench ONLY="store --print"` finds is said and not written down.
//!
//! Never true in here: a figure without a yardstick from the same run, a phase without a bound in time and in
//! count, an answer that nobody looked at, a figure of a debug build in the document.
//!
//! Reading order: [`write_path`] and [`read_side`] (the sections, one file each), [`yardstick`] (what they're held
//! against), [`load`] (callers in a closed or an open loop, and what they measure), [`shop`] and
//! [`read_side::filling`] (what is there before a phase begins), [`ground`], [`system`] and [`usage`] (servers,
//! databases, processes and what they take), [`report`] and [`machine`] (`docs/benchmarks.md`).

mod ground;
mod load;
mod machine;
mod read_side;
mod report;
mod shop;
mod spread;
mod system;
mod usage;
mod write_path;
mod yardstick;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use futures::future::LocalBoxFuture;

use crate::ground::Ground;
use crate::machine::Wanted;
use crate::report::{Document, Part};

/// As the program has it: what is measured in process is the program's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often each figure is taken.
pub(crate) const ROUNDS: usize = if TRIAL { 2 } else { 3 };
/// A debug build tries the sections out: nobody keeps its figures.
const TRIAL: bool = cfg!(debug_assertions);
/// A trial takes so much less of what is large.
pub(crate) const LESS: usize = if TRIAL { 20 } else { 1 };

/// Figures that belong together.
struct Section {
    /// By which it's chosen.
    name: &'static str,
    title: &'static str,
    /// Whether it's taken where no section was asked for; else it takes too long for that.
    usual: bool,
    run: for<'a> fn(&'a Ground) -> LocalBoxFuture<'a, Result<Part>>,
}

/// All of them, in the document's order.
const SECTIONS: [Section; 16] = [
    Section {
        name: "store",
        title: "Commands to many aggregates, in process",
        usual: true,
        run: |ground| Box::pin(write_path::store::run(ground)),
    },
    Section {
        name: "streams",
        title: "Streams of many events",
        usual: true,
        run: |ground| Box::pin(write_path::streams::run(ground)),
    },
    Section {
        name: "hot",
        title: "One item that everybody wants",
        usual: true,
        run: |ground| Box::pin(write_path::hot::run(ground)),
    },
    Section {
        name: "http",
        title: "Commands over HTTP",
        usual: true,
        run: |ground| Box::pin(write_path::http::run(ground)),
    },
    Section {
        name: "rentals",
        title: "Whole rentals, everything running",
        usual: true,
        run: |ground| Box::pin(write_path::rentals::run(ground)),
    },
    Section {
        name: "replicas",
        title: "Two command APIs on one log",
        usual: true,
        run: |ground| Box::pin(write_path::replicas::run(ground)),
    },
    Section {
        name: "memory",
        title: "Memory and disk",
        usual: true,
        run: |ground| Box::pin(write_path::memory::run(ground)),
    },
    Section {
        name: "live",
        title: "A view that follows the log",
        usual: true,
        run: |ground| Box::pin(read_side::live::run(ground)),
    },
    Section {
        name: "rebuild",
        title: "A view made anew",
        usual: true,
        run: |ground| Box::pin(read_side::rebuild::run(ground)),
    },
    Section {
        name: "growth",
        title: "A view made anew from 5,000,000 events",
        usual: false,
        run: |ground| Box::pin(read_side::rebuild::growth(ground)),
    },
    Section {
        name: "visible",
        title: "From a write to its customer's eyes",
        usual: true,
        run: |ground| Box::pin(read_side::visible::run(ground)),
    },
    Section {
        name: "history",
        title: "A page of a long history",
        usual: true,
        run: |ground| Box::pin(read_side::history::run(ground)),
    },
    Section {
        name: "watchers",
        title: "Customers who watch",
        usual: true,
        run: |ground| Box::pin(read_side::watchers::run(ground)),
    },
    Section {
        name: "relay",
        title: "A backlog for the stream",
        usual: true,
        run: |ground| Box::pin(read_side::relay::run(ground)),
    },
    Section {
        name: "rebuild-under-load",
        title: "A view made anew while the shop goes on",
        usual: true,
        run: |ground| Box::pin(read_side::under_load::run(ground)),
    },
    Section {
        name: "roles",
        title: "What each role costs",
        usual: true,
        run: |ground| Box::pin(read_side::roles::run(ground)),
    },
];

fn main() -> ExitCode {
    // Without `--bench` it's `cargo test` that builds and starts everything there is.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("make bench takes the figures; make bench ONLY=store,hot some of them");
        return ExitCode::SUCCESS;
    }
    let ran = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run()));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The sections that were asked for; the usual ones where none was.
fn chosen() -> Result<Vec<&'static Section>> {
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .flat_map(|names| names.split(',').map(str::to_owned).collect::<Vec<_>>())
        .filter(|name| !name.is_empty())
        .collect();
    if let Some(unknown) = asked.iter().find(|name| SECTIONS.iter().all(|section| section.name != **name)) {
        let known: Vec<_> = SECTIONS.iter().map(|section| section.name).collect();
        bail!("there is no section {unknown}; there are {}", known.join(", "));
    }
    Ok(SECTIONS
        .iter()
        .filter(|section| {
            (asked.is_empty() && section.usual) || asked.iter().any(|name| name == section.name)
        })
        .collect())
}

async fn run() -> Result<()> {
    let sections = chosen()?;
    let ground = Ground::make().await?;
    let (machine, settings) = (machine::describe(&ground).await?, machine::settings(&ground).await?);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("docs").join("benchmarks.md");
    let mut document = Document::open(path, settings, SECTIONS.map(|section| section.name).to_vec());
    let only_said = std::env::args().any(|argument| argument == "--print");
    let mut failed = Vec::new();
    for section in sections {
        let began = std::time::Instant::now();
        eprintln!("{} ({})", section.title, section.name);
        let (stamp, wanted) = (machine::stamp(section.name, &machine)?, Wanted::until_now());
        match (section.run)(&ground).await.with_context(|| section.name.to_owned()) {
            Ok(part) => {
                eprintln!("{part}\n{} took {:.0} s", section.name, began.elapsed().as_secs_f64());
                if TRIAL || only_said {
                    continue;
                }
                // Kept at once, whatever becomes of the rest.
                document.put(
                    section.name,
                    &format!("## {}\n\n{stamp} {}\n\n{part}", section.title, wanted.since()),
                )?;
            }
            Err(error) => {
                eprintln!("{error:#}");
                failed.push(section.name);
            }
        }
    }
    ground.end(!failed.is_empty()).await?;
    if failed.is_empty() { Ok(()) } else { bail!("these sections failed: {}", failed.join(", ")) }
}
