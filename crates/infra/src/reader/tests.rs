use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::sync::{RwLock, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Concern, Gathered, Handled, Handler, Page, REST_AT_MOST, WORK_AT_LEAST, leaves_room, rest, run};
use crate::feed::{Feed, PAGE};
use crate::log::{Log, Recorded};
use crate::testing::{deposit, fill, log};

/// What was handled: from, to, and the positions of the events.
type Call = (u64, u64, Vec<u64>);

/// By what a deposit's amount says, an event is for now, for soon or nothing.
#[derive(Clone, Default)]
struct Notes {
    calls: Arc<Mutex<Vec<Call>>>,
    place: Arc<Mutex<u64>>,
    /// Up to where pages were made ready.
    prepared: Arc<watch::Sender<u64>>,
    /// Nothing is handled while it's held.
    turn: Arc<RwLock<()>>,
}

const NOW: i64 = 2;
const SOON: i64 = 3;

impl Handler for Notes {
    type Error = Infallible;

    type Ready = Page;

    const PATIENCE: Duration = Duration::from_millis(300);

    fn name(&self) -> &str {
        "notes"
    }

    async fn checkpoint(&self) -> Result<u64, Infallible> {
        Ok(*self.place.lock().unwrap())
    }

    fn concern(&self, recorded: &Recorded) -> Concern {
        let says = |amount: i64| recorded.payload.get().contains(&format!("\"amount\":{amount},"));
        match (says(NOW), says(SOON)) {
            (true, _) => Concern::Now,
            (_, true) => Concern::Soon,
            _ => Concern::No,
        }
    }

    async fn prepare(&self, page: Page) -> Result<Page, Infallible> {
        self.prepared.send_replace(page.to);
        Ok(page)
    }

    async fn handle(&self, Page { from, to, events }: Page) -> Result<Handled, Infallible> {
        let _turn = self.turn.read().await;
        let mut place = self.place.lock().unwrap();
        if *place != from {
            return Ok(Handled::Elsewhere);
        }
        *place = to;
        self.calls.lock().unwrap().push((from, to, events.iter().map(|event| event.position).collect()));
        Ok(Handled::Done)
    }
}

impl Notes {
    fn start(&self, log: &Log) -> CancellationToken {
        let stop = CancellationToken::new();
        tokio::spawn(run(self.clone(), Feed::new(log.clone(), None), stop.clone()));
        stop
    }

    async fn reached(&self, position: u64) -> Vec<Call> {
        let reached = async {
            while *self.place.lock().unwrap() < position {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), reached).await.expect("the reader gets there");
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

/// So many events, of which the first is for now.
fn one_urgent_of(events: usize) -> Vec<Arc<Recorded>> {
    let recorded = |amount: i64| {
        let recorded: Recorded = serde_json::from_value(serde_json::json!({
            "position": 1, "event_id": Uuid::nil(), "aggregate_type": "Customer", "aggregate_id": "",
            "sequence": 1, "event_type": "PointsDeposited", "event_version": "1",
            "payload": { "amount": amount, "at": null }, "metadata": {}, "recorded_at": "2026-01-01T00:00:00Z",
        }))
        .unwrap();
        Arc::new(recorded)
    };
    let mut page = vec![recorded(0); events];
    page[0] = recorded(NOW);
    page
}

#[tokio::test]
async fn who_is_behind_gathers_a_page_of_its_own_before_it_handles_anything() {
    let mut gathered = Gathered::after(0);
    for _ in 0..3 {
        gathered.take(&Notes::default(), one_urgent_of(PAGE));
        assert!(!gathered.is_due());
    }
    assert_eq!(gathered.page.events.len(), 3);
    // The end of the log.
    gathered.take(&Notes::default(), one_urgent_of(1));
    assert!(gathered.is_due());

    let mut gathered = Gathered::after(0);
    let all_urgent = vec![one_urgent_of(1).remove(0); PAGE];
    gathered.take(&Notes::default(), all_urgent);
    assert!(gathered.is_due());
}

#[tokio::test]
async fn what_does_not_concern_a_reader_moves_its_place_once_for_many() {
    let (log, notes) = (log().await, Notes::default());
    let _stop = notes.start(&log).drop_guard();
    for _ in 0..50 {
        fill(&log, 1).await;
    }
    let calls = notes.reached(50).await;
    assert!(calls.len() <= 10, "{calls:?}");
    assert!(calls.iter().all(|(_, _, events)| events.is_empty()), "{calls:?}");
}

#[tokio::test]
async fn what_is_for_soon_waits_for_what_is_for_now_and_nothing_is_out_of_order() {
    let (log, notes) = (log().await, Notes::default());
    let customer = Uuid::now_v7();
    log.append(deposit(customer, 0, 0)).await.unwrap();
    for (version, amount) in [(1, SOON), (2, 9), (3, SOON), (4, NOW), (5, SOON)] {
        log.append(deposit(customer, version, amount)).await.unwrap();
    }
    let _stop = notes.start(&log).drop_guard();
    assert_eq!(notes.reached(6).await, [(0, 6, vec![2, 4, 5, 6])], "a page is one");
    log.append(deposit(customer, 6, SOON)).await.unwrap();
    assert_eq!(notes.reached(7).await, [(6, 7, vec![7])], "nor does it wait for ever");
}

#[tokio::test]
async fn a_reader_whose_place_has_moved_reads_on_from_there_and_handles_nothing_twice() {
    let (log, one) = (log().await, Notes::default());
    let other = one.clone();
    let _stops = [one.start(&log).drop_guard(), other.start(&log).drop_guard()];
    let customer = Uuid::now_v7();
    log.append(deposit(customer, 0, 0)).await.unwrap();
    for version in 1..=200 {
        log.append(deposit(customer, version, if version % 3 == 0 { NOW } else { SOON })).await.unwrap();
    }
    let calls = one.reached(201).await;
    let handled: Vec<u64> = calls.iter().flat_map(|(_, _, events)| events.clone()).collect();
    assert_eq!(handled, (2..=201).collect::<Vec<_>>());
    assert!(calls.windows(2).all(|pair| pair[0].1 == pair[1].0), "{calls:?}");
}

#[tokio::test]
async fn the_next_page_is_made_ready_while_one_is_handled_and_handled_only_if_that_is_done() {
    let (log, notes) = (log().await, Notes::default());
    let customer = Uuid::now_v7();
    log.append(deposit(customer, 0, 0)).await.unwrap();
    let mut prepared = notes.prepared.subscribe();
    let mut ready = async |position: u64| {
        let ready = prepared.wait_for(|prepared| *prepared == position);
        tokio::time::timeout(Duration::from_secs(20), ready).await.expect("it's made ready").unwrap();
    };
    let _stop = notes.start(&log).drop_guard();
    assert_eq!(notes.reached(1).await, [(0, 1, vec![])]);

    let handling = notes.turn.write().await;
    for version in 1..=2 {
        log.append(deposit(customer, version, NOW)).await.unwrap();
        ready(version + 1).await;
    }
    drop(handling);
    assert_eq!(notes.reached(3).await, [(1, 2, vec![2]), (2, 3, vec![3])]);

    let handling = notes.turn.write().await;
    for version in 3..=4 {
        log.append(deposit(customer, version, NOW)).await.unwrap();
        ready(version + 1).await;
    }
    // Another replica was quicker with the first of them, and has done more.
    *notes.place.lock().unwrap() = 5;
    drop(handling);
    log.append(deposit(customer, 5, NOW)).await.unwrap();
    assert_eq!(notes.reached(6).await, [(5, 6, vec![6])]);
}

#[test]
fn the_readers_of_a_process_rest_so_that_together_they_leave_room_and_who_is_alone_or_behind_does_not() {
    let (work, processors) = (Duration::from_millis(2), available_parallelism().unwrap().get());
    assert!(!leaves_room(10, 0), "alone");
    assert!(!leaves_room(PAGE, 100), "behind");
    assert!(leaves_room(10, 1));
    assert_eq!(rest(work, processors), work, "one of the others for each processor");
    assert_eq!(rest(work, 3 * processors), 3 * work);
    assert_eq!(rest(Duration::ZERO, processors), WORK_AT_LEAST, "to look costs something, too");
    assert_eq!(rest(Duration::from_secs(1), processors), REST_AT_MOST);
}
