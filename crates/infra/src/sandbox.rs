//! A payment gateway to develop and test against. Speaks the part of Stripe's API that the client in
//! [`crate::gateway`] uses, over real HTTP, with Stripe's test payment methods and its idempotency keys.
//! Moves no money.
//!
//! Beside Stripe's API, without a key:
//!
//! - `POST /sandbox/mode` `{"mode": "ok" | "slow" | "failing" | "losing" | "down"}` makes the weather, `GET` tells it.
//!   Slow: the work is done at once and the answer comes after 10 s, or as soon as the weather improves.
//!   Failing: 500, nothing done and nothing kept. Losing: a charge is made, and the connection is closed
//!   before its answer; everything else goes well. Down: the connection is closed without an answer, and
//!   nothing is done. A restart brings `ok` back.
//! - `GET /sandbox/ledger` lists what was charged and refunded, for tests to compare.
//!
//! What differs from Stripe: one account, whatever the key; idempotency keys are never forgotten; a failure
//! made by the weather is not kept under its idempotency key (Stripe keeps those that happen once it has
//! begun the work).

mod answer;
mod books;
mod cards;
mod errands;
mod form;
mod journal;
mod once;
mod routes;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

/// How late a slow answer is.
const SLOW: Duration = Duration::from_secs(10);
/// How long open connections may take to end once the sandbox is shut down.
const FAREWELL: Duration = Duration::from_secs(3);

/// Serves the sandbox until `shutdown`. With a `journal`, a file of JSON lines, its state survives a restart
/// and a kill at any moment; without one it is kept in memory.
///
/// # Errors
/// When the journal can't be read, or holds something else than a sandbox's journal.
pub async fn serve(
    listener: TcpListener,
    journal: Option<PathBuf>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let books = match journal {
        Some(path) => tokio::task::spawn_blocking(move || books::Books::open(&path)).await??,
        None => books::Books::default(),
    };
    let sandbox = Arc::new(Sandbox {
        books: std::sync::Mutex::new(books),
        mode: watch::Sender::new(Mode::Ok),
        shutdown: shutdown.clone(),
    });
    let server = axum::serve(listener, routes::router(sandbox))
        .with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        ended = server.into_future() => ended,
        // A client that never finishes its request would keep the sandbox from ending.
        () = overdue => Ok(()),
    }
}

/// The weather at the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Ok,
    Slow,
    Failing,
    Losing,
    Down,
}

struct Sandbox {
    books: std::sync::Mutex<books::Books>,
    mode: watch::Sender<Mode>,
    shutdown: CancellationToken,
}

impl Sandbox {
    /// The books. Nothing panics while it holds them; if something did, they are whole all the same, as they
    /// change in one step after the journal has the entry.
    fn books(&self) -> std::sync::MutexGuard<'_, books::Books> {
        self.books.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn mode(&self) -> Mode {
        *self.mode.borrow()
    }

    fn turn(&self, mode: Mode) {
        let mut books = self.books();
        // The work of whoever still waits for a slow answer is done: no reason to refuse it to others.
        books.in_flight.clear();
        self.mode.send_replace(mode);
        drop(books);
        tracing::info!(?mode, "the sandbox gateway's weather has changed");
    }

    /// Keeps an answer back while the weather is slow.
    async fn linger(&self) {
        if self.mode() != Mode::Slow {
            return;
        }
        let mut mode = self.mode.subscribe();
        tokio::select! {
            _ = timeout(SLOW, mode.wait_for(|mode| *mode != Mode::Slow)) => {}
            () = self.shutdown.cancelled() => {}
        }
    }
}
