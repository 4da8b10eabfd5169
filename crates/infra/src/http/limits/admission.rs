//! So many requests are answered at once; some more wait a little; others are told to come back, before they
//! could wait for long. What was admitted is finished, even if its client hangs up.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{Instrument, Span};

use super::is_bounded;
use crate::http::Problem;
use crate::metrics::METRICS;

/// How long a request waits to be admitted.
const WAIT: Duration = Duration::from_millis(250);

/// Who may come in. Writes and reads don't take each other's places.
#[derive(Clone)]
pub(super) struct Admission {
    writes: Hall,
    reads: Hall,
}

#[derive(Clone)]
struct Hall {
    api: [(&'static str, &'static str); 1],
    places: Arc<Semaphore>,
    /// As many may wait as may be inside.
    seats: Arc<Semaphore>,
}

impl Admission {
    pub(super) fn new(capacity: NonZeroU32) -> Self {
        let places = capacity.get() as usize;
        let hall = |api| {
            let api = [("api", api)];
            // Whoever asks how many were turned away of late needs to have seen none of them before.
            METRICS.http_turned_away.get_or_create(&api).inc_by(0);
            METRICS.http_waiting.get_or_create(&api).inc_by(0);
            Hall { api, places: Arc::new(Semaphore::new(places)), seats: Arc::new(Semaphore::new(places)) }
        };
        Self { writes: hall("writes"), reads: hall("reads") }
    }

    fn hall(&self, method: &Method) -> &Hall {
        if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
            &self.reads
        } else {
            &self.writes
        }
    }
}

impl Hall {
    async fn enter(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Some(place);
        }
        let _seat = self.seats.try_acquire().ok()?;
        let _waiting = Counted::in_(METRICS.http_waiting.get_or_create_owned(&self.api));
        tokio::time::timeout(WAIT, self.places.clone().acquire_owned()).await.ok()?.ok()
    }
}

/// Stands in a gauge for as long as it lives.
struct Counted(Gauge);

impl Counted {
    fn in_(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

pub(super) async fn admit(State(admission): State<Admission>, request: Request, next: Next) -> Response {
    if !is_bounded(&request) {
        return next.run(request).await;
    }
    let hall = admission.hall(request.method());
    let Some(place) = hall.enter().await else {
        METRICS.http_turned_away.get_or_create(&hall.api).inc();
        return Problem::unavailable("overloaded", "too many requests are being answered, come back soon")
            .into_response();
    };
    let counted = Counted::in_(METRICS.http_in_flight.get_or_create_owned(&hall.api));
    // In a task of its own, which keeps the place: a handler is dropped when its client hangs up, and what it
    // has begun would go on uncounted.
    let answered = tokio::spawn(
        async move {
            let (_place, _counted) = (place, counted);
            next.run(request).await
        }
        .instrument(Span::current()),
    );
    match answered.await {
        Ok(response) => response,
        // Where panics are caught, it's said what happened.
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Problem::unavailable("ending", "the program is ending, come back soon").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_comes_when_all_places_and_seats_are_taken_is_turned_away_at_once() {
        let admission = Admission::new(NonZeroU32::new(2).unwrap());
        let hall = admission.hall(&Method::POST);
        let inside = [hall.enter().await.unwrap(), hall.enter().await.unwrap()];
        let waiting = [tokio::spawn(enter(hall.clone())), tokio::spawn(enter(hall.clone()))];
        while hall.seats.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(hall.enter().await.is_none());
        // Reads have places of their own.
        assert!(admission.hall(&Method::GET).enter().await.is_some());
        drop(inside);
        for waited in waiting {
            assert!(waited.await.unwrap().is_some());
        }
    }

    async fn enter(hall: Hall) -> Option<OwnedSemaphorePermit> {
        hall.enter().await
    }

    #[tokio::test]
    async fn who_waits_in_vain_is_turned_away_in_time() {
        let admission = Admission::new(NonZeroU32::MIN);
        let hall = admission.hall(&Method::POST);
        let _inside = hall.enter().await.unwrap();
        assert!(hall.enter().await.is_none());
        assert_eq!(hall.seats.available_permits(), 1);
    }
}
