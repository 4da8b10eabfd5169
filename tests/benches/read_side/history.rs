//! A page of the history: whether it's as quick for a customer of 100,000 rentals as for one of a single one.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use uuid::Uuid;

use super::{Backend, HISTORY, filling};
use crate::ROUNDS;
use crate::ground::Ground;
use crate::load::connection::{Connection, get};
use crate::load::{Bound, Caller, closed};
use crate::report::Part;
use crate::spread::{Spread, figure, reach};
use crate::system::manager;

/// One after the other: the page's time, not the machine's throughput.
const CALLERS: usize = 1;
/// How long each phase takes, in seconds.
const PHASE: u64 = 3;
/// Rentals of a page where nobody says how many.
const PAGE: usize = 50;
/// How many times the single rental's page it may take.
const WITHIN: f64 = 1.2;

/// A page that is asked for again and again.
struct Page {
    connection: Connection,
    request: String,
    rentals: usize,
}

impl Page {
    async fn of(address: SocketAddr, customer: Uuid, limit: usize, rentals: usize) -> Result<Vec<Self>> {
        let request = get(&format!("/v1/customers/{customer}/rentals?limit={limit}"), &manager()?);
        let connections = Connection::several(address, CALLERS).await?;
        let of = |connection| Self { connection, request: request.clone(), rentals: rentals.min(limit) };
        Ok(connections.into_iter().map(of).collect())
    }
}

impl Caller for Page {
    async fn call(&mut self) -> Result<()> {
        let answer = self.connection.ask(&self.request).await?;
        answer.expect(200)?;
        let shown = answer.body.windows(RENTAL.len()).filter(|part| *part == RENTAL).count();
        ensure!(shown == self.rentals, "{shown} of {} rentals are shown", self.rentals);
        Ok(())
    }
}

/// What each rental has once.
const RENTAL: &[u8] = b"\"rental_id\"";

/// What each round told of a page, in milliseconds.
#[derive(Default)]
struct Figures {
    p50: Vec<f64>,
    p99: Vec<f64>,
}

pub(crate) async fn run(ground: &Ground) -> Result<Part> {
    let past = filling::long_past(ground).await?;
    let backend = Backend::on(ground, "history", &past.url).await?;
    backend.build(HISTORY).await?;
    let api = backend.start(ground, &["query-api"]).await?;
    ground.rest().await?;

    let mut pages = Vec::new();
    for (customer, rentals) in past.customers.iter().zip([1, 100, past.rentals / 10]) {
        for limit in [1, PAGE] {
            let page = Page::of(api.address, *customer, limit, rentals).await?;
            let (_, page) = closed(page, Bound::seconds(1)).await?;
            pages.push((rentals, limit, Some(page), Figures::default()));
        }
    }
    for _ in 0..ROUNDS {
        for (_, _, page, figures) in &mut pages {
            let (run, back) = closed(page.take().unwrap_or_default(), Bound::seconds(PHASE)).await?;
            figures.p50.push(run.within(0.5));
            figures.p99.push(run.within(0.99));
            *page = Some(back);
        }
    }
    let single: Vec<f64> = pages.first().map(|(_, _, _, figures)| figures.p50.clone()).unwrap_or_default();
    let hundred: Vec<f64> = pages.get(3).map(|(_, _, _, figures)| figures.p50.clone()).unwrap_or_default();
    let rows: Vec<Vec<String>> = pages
        .iter()
        .map(|(rentals, limit, _, Figures { p50, p99 })| {
            let times = Spread::of_ratios(p50, &single);
            let judged = *rentals > PAGE * 10;
            vec![
                figure(*rentals as f64),
                figure((*limit).min(*rentals) as f64),
                Spread::of(p50).to_string(),
                Spread::of(p99).to_string(),
                times.to_string(),
                if *limit == PAGE { Spread::of_ratios(p50, &hundred).to_string() } else { String::new() },
                if judged {
                    reach(&format!("≤ {WITHIN} × one rental's"), times.median <= WITHIN)
                } else {
                    String::new()
                },
            ]
        })
        .collect();
    drop((api, pages));
    backend.end(ground).await?;

    let mut part = Part::default();
    part.text(&format!(
        "`GET /v1/customers/{{id}}/rentals` over one connection to one `rentstream query-api`, one request after the other, \
         for customers of 1, 100 and {} rentals; {} rows are in the table, and the largest customer's are spread all over \
         it. The log was filled by COPY with real events (rentals that nothing was left for, so no address is to be opened), the table by a rebuild. The \
         newest rental alone, and a whole page of {PAGE}: that has {PAGE} times as much in it, so it's also held against \
         the whole page of the customer with 100. Milliseconds; ratios of p50.",
        figure(past.rentals as f64 / 10.0),
        figure(past.rentals as f64),
    ));
    part.table(
        &["rentals", "on the page", "p50", "p99", "÷ one rental's", "÷ a hundred's whole page", "reach"],
        &rows,
    );
    Ok(part)
}
