//! Keeps a view: projects it for as long as the rows that serve are of this program's definition, and rebuilds it by
//! itself where they aren't. The old rows serve meanwhile, as they are.

use std::fmt;
use std::time::Duration;

use rentstream_infra::feed::Source;
use rentstream_infra::log::{Log, pause};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::ahead::{self, Ahead};
use crate::rebuild::{Alone, Unbuilt};
use crate::sharing;
use crate::tables::{Generation, Tables};
use crate::view::Definition;

/// How often it's looked whether a view that can't be projected is rebuilt.
const LOOK: Duration = Duration::from_secs(1);
/// After a rebuild that failed, doubling up to the second.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_AT_MOST: Duration = Duration::from_secs(60);

/// Why a view isn't projected on.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stands {
    /// Its rows follow from another log; an operator has put that there and decides.
    Ahead(Ahead),
    /// It's rebuilt by whoever is first.
    Due(&'static str, i32, i32),
    /// It's left to replicas of the later version, as each would rebuild what the other has.
    Later(&'static str, i32, i32),
    /// Somebody of another definition has taken over since.
    Replaced(&'static str),
}

impl fmt::Display for Stands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ahead(ahead) => ahead.fmt(f),
            Self::Due(view, theirs, ours) => write!(
                f,
                "the view {view} was folded by another definition (version {theirs}, this program has {ours}): it's \
                 rebuilt now, the old rows serve meanwhile"
            ),
            Self::Later(view, theirs, ours) => write!(
                f,
                "the view {view} was folded by a later version of the program ({theirs}, this one has {ours}): it's \
                 not projected here. To fold it by this one: rentstream rebuild {view}"
            ),
            Self::Replaced(view) => write!(
                f,
                "the view {view} was rebuilt by a program with another definition of the same version: it's not \
                 projected here. To fold it by this one: rentstream rebuild {view}"
            ),
        }
    }
}

/// Keeps a view until shutdown. Any number of replicas may.
pub async fn keep(view: Definition, source: Source, log: Log, tables: Tables, shutdown: CancellationToken) {
    let keeper = Keeper { view, log, tables };
    let (mut projected, mut said, mut failed, mut retry) = (false, None, false, RETRY);
    while !shutdown.is_cancelled() {
        match keeper.look(projected).await {
            Ok(None) => {
                (projected, said) = (true, None);
                sharing::run(view, source.clone(), keeper.tables.clone(), shutdown.clone()).await;
                continue;
            }
            Ok(Some(stands)) => {
                let due = matches!(stands, Stands::Due(..));
                if said.as_ref() != Some(&stands) {
                    match stands {
                        Stands::Ahead(_) => error!("{stands}"),
                        Stands::Due(..) | Stands::Later(..) | Stands::Replaced(_) => warn!("{stands}"),
                    }
                    said = Some(stands);
                }
                if due && let Err(error) = keeper.rebuild(&shutdown).await {
                    warn!(view = view.name, %error, "The view could not be rebuilt, will try again");
                    pause(&shutdown, retry).await;
                    retry = (retry * 2).min(RETRY_AT_MOST);
                }
            }
            Err(error) if !std::mem::replace(&mut failed, true) => {
                warn!(view = view.name, %error, "The view or the log can't be read, will try again");
            }
            Err(_) => {}
        }
        pause(&shutdown, LOOK).await;
    }
}

struct Keeper {
    view: Definition,
    log: Log,
    tables: Tables,
}

impl Keeper {
    /// Why the view isn't to be projected on, if it isn't. `projected`: whether it was, by this very program.
    async fn look(&self, projected: bool) -> Result<Option<Stands>, sqlx::Error> {
        let Self { view, log, tables } = self;
        // There may be nothing yet, not even the database.
        let serving = tables.ensure(view).await?;
        if let Some(ahead) = ahead::refused(view, log, tables).await? {
            return Ok(Some(Stands::Ahead(ahead)));
        }
        let Generation { version: theirs, .. } = serving;
        Ok(match (serving.is_of(view), theirs) {
            (true, _) => None,
            _ if theirs > view.version => Some(Stands::Later(view.name, theirs, view.version)),
            _ if theirs == view.version && projected => Some(Stands::Replaced(view.name)),
            _ => Some(Stands::Due(view.name, theirs, view.version)),
        })
    }

    /// Rebuilds it, if nobody does or has by now.
    async fn rebuild(&self, shutdown: &CancellationToken) -> Result<(), Unbuilt> {
        let Self { view, log, tables } = self;
        let rebuilding = async {
            let alone = match Alone::with(view, tables).await {
                Err(Unbuilt::Busy(_)) => return Ok(()),
                alone => alone?,
            };
            if !tables.ensure(view).await?.is_of(view) {
                alone.build(log, |_, _| ()).await?;
            }
            Ok(())
        };
        tokio::select! {
            rebuilt = rebuilding => rebuilt,
            () = shutdown.cancelled() => {
                info!(view = view.name, "The rebuild is given up; the next start begins it again");
                Ok(())
            }
        }
    }
}
