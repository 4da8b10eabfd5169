//! Rebuilding a view over HTTP, for operators. It's answered when it's begun; `GET /v1/views` shows how far it is.

use aide::OperationOutput;
use aide::axum::ApiRouter;
use aide::axum::routing::post_with;
use aide::generate::GenContext;
use aide::openapi::{Operation, Response as Described};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use rentstream_infra::http::Problem;
use rentstream_infra::http::auth::{Caller, Role};
use rentstream_infra::http::body::{Body, MaybeBody};
use rentstream_infra::http::docs::told;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::{Alone, Rebuilt, Unbuilt};
use crate::parking::Named;
use crate::reads::Reads;
use crate::slices;
use crate::view::Definition;

/// The routes.
pub(crate) fn routes() -> ApiRouter<Reads> {
    let anew = told("Rebuilds a view while the old rows serve", "operator", &[(409, "view-rebuilding")]);
    let back = told(
        "Lets the rows from before the last rebuild serve again, once they have seen what came since",
        "operator",
        &[(409, "view-rebuilding"), (409, "nothing-older")],
    );
    ApiRouter::new()
        .api_route("/v1/views/{name}/rebuild", post_with(rebuild, anew))
        .api_route("/v1/views/{name}/rollback", post_with(roll_back, back))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct How {
    /// Shares of the view's keys that several workers can project at once; as many as there were where it isn't said.
    #[schemars(range(min = 1, max = slices::MOST))]
    slices: Option<i32>,
}

/// What was begun.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RebuildBegun")]
struct Begun {
    view: &'static str,
}

/// 202.
struct Accepted(Begun);

impl IntoResponse for Accepted {
    fn into_response(self) -> Response {
        (StatusCode::ACCEPTED, Json(self.0)).into_response()
    }
}

impl OperationOutput for Accepted {
    type Inner = Begun;

    fn inferred_responses(ctx: &mut GenContext, operation: &mut Operation) -> Vec<(Option<u16>, Described)> {
        let described = Json::<Begun>::operation_response(ctx, operation);
        described.map(|described| (Some(202), described)).into_iter().collect()
    }
}

/// Begins a rebuild.
async fn rebuild(
    State(reads): State<Reads>,
    caller: Caller,
    Named(view): Named,
    MaybeBody(Body { value: How { slices }, .. }): MaybeBody<How>,
) -> Result<Accepted, Problem> {
    caller.must_be(&[Role::Operator])?;
    if slices.is_some_and(|slices| !(1..=slices::MOST).contains(&slices)) {
        return Err(Problem::invalid("slices", format!("it must be from 1 to {}", slices::MOST)));
    }
    let alone = begin(&reads, &caller, &view).await?.sliced(slices);
    let log = reads.log.clone();
    spawn(&reads, view.name, async move { alone.build(&log, |_, _| ()).await });
    Ok(Accepted(Begun { view: view.name }))
}

/// Begins to roll back.
async fn roll_back(
    State(reads): State<Reads>,
    caller: Caller,
    Named(view): Named,
) -> Result<Accepted, Problem> {
    let older = begin(&reads, &caller, &view).await?.older().await?;
    let log = reads.log.clone();
    spawn(&reads, view.name, async move { older.roll_back(&log, |_, _| ()).await });
    Ok(Accepted(Begun { view: view.name }))
}

async fn begin(reads: &Reads, caller: &Caller, view: &Definition) -> Result<Alone, Problem> {
    caller.must_be(&[Role::Operator])?;
    reads.tables.ensure(view).await.map_err(Unbuilt::Away)?;
    let alone = Alone::with(view, &reads.tables).await?;
    info!(view = view.name, by = caller.subject, "A rebuild or a rollback begins");
    Ok(alone)
}

/// Goes on without the client, until the process takes nothing new any more; the next rebuild throws away what was
/// given up.
fn spawn(
    reads: &Reads,
    view: &'static str,
    work: impl Future<Output = Result<Rebuilt, Unbuilt>> + Send + 'static,
) {
    let closing = reads.closing.clone();
    tokio::spawn(async move {
        tokio::select! {
            done = work => if let Err(error) = done {
                warn!(view, %error, "The view could not be made anew");
            },
            () = closing.cancelled() => warn!(view, "Making the view anew is given up, as the process ends"),
        }
    });
}

impl From<Unbuilt> for Problem {
    fn from(unbuilt: Unbuilt) -> Self {
        let why = unbuilt.to_string();
        match unbuilt {
            Unbuilt::Busy(_) => Self::new(StatusCode::CONFLICT, "view-rebuilding", why),
            Unbuilt::NothingOlder(_) => Self::new(StatusCode::CONFLICT, "nothing-older", why),
            Unbuilt::Away(error) => {
                warn!(%error, "A view can't be rebuilt");
                Self::unavailable(
                    "views-unavailable",
                    "the log or the views can't be reached, come back soon",
                )
            }
        }
    }
}
