//! What the databases and the gateway say, beside HTTP: for what must have happened exactly once, and for
//! knowing that everything is at rest.

use chrono::{DateTime, Utc};
use rentstream_domain::processes;
use rentstream_infra::log::{Log, Recorded};
use rentstream_infra::settings::Crash;
use rentstream_projections::views;
use serde_json::{Value, json};
use sqlx::Row;
use uuid::Uuid;

use crate::{Rental, World};

/// Whether all is at rest at a moment, and what it looks like.
const AT_REST: &str = "
    SELECT h.position AS head,
        (SELECT coalesce(min(c.position), 0) FROM checkpoints c WHERE c.reader NOT LIKE 'notify-%') AS slowest,
        (SELECT count(*) FROM checkpoints c WHERE c.reader NOT LIKE 'notify-%') AS processes,
        -- One that was tried is being driven, or waits for another try; one that wasn't waits for its time.
        (SELECT count(*) FROM tasks t WHERE t.due_at <= now() OR t.attempts > 0) AS active,
        (SELECT coalesce(json_agg(t), '[]'::json)::text FROM tasks t) AS tasks,
        (SELECT coalesce(json_agg(c), '[]'::json)::text FROM checkpoints c) AS checkpoints
    FROM log_head h";

/// How far the processes are.
struct Processes {
    head: i64,
    /// They have read the whole log.
    read: bool,
    /// Tasks that somebody is at, or should be.
    active: i64,
    state: String,
}

impl Processes {
    fn at_rest(&self) -> bool {
        self.read && self.active == 0
    }
}

impl World {
    /// Waits until every process has read the whole log and has nothing to do now, and every view has seen it.
    /// Notices may still be on their way: their endpoints say what has arrived.
    pub async fn settle(&self) -> u64 {
        let seen = std::sync::Mutex::new(String::new());
        let settled = tokio::time::timeout(crate::world::PATIENCE, async {
            self.within(crate::world::PATIENCE * 2, "all is at rest", || async {
                let (head, state) = self.at_rest().await;
                *seen.lock().unwrap() = state;
                head
            })
            .await
        })
        .await;
        settled.unwrap_or_else(|_| panic!("it did not come to rest: {}", seen.lock().unwrap()))
    }

    /// Waits until every process has read the whole log and done what it owes, be its time come or not. Views may
    /// be behind, or not there at all.
    pub async fn finish(&self) {
        // What is done may ask for more.
        for _ in 0..2 {
            let read = || async { self.processes().await.is_ok_and(|rest| rest.read).then_some(()) };
            self.until("the processes have read the log", read).await;
            self.leases_run_out().await;
            let rest = || async { self.processes().await.is_ok_and(|rest| rest.at_rest()).then_some(()) };
            self.until("the processes have done what they owe", rest).await;
        }
    }

    async fn at_rest(&self) -> (Option<u64>, String) {
        let log = match self.processes().await {
            Ok(log) => log,
            Err(error) => return (None, error.to_string()),
        };
        let head = log.head;
        let views = sqlx::query("SELECT count(*) AS count, min(position) AS slowest FROM serving")
            .fetch_one(&self.views)
            .await;
        let (count, slowest) = match views {
            Ok(row) => (row.get::<i64, _>("count"), row.get::<Option<i64>, _>("slowest").unwrap_or(-1)),
            Err(error) => return (None, error.to_string()),
        };
        let rest = log.at_rest() && usize::try_from(count) == Ok(views::ALL.len()) && slowest >= head;
        let state = format!("head {head}, {count} views from {slowest} on, {}", log.state);
        (rest.then_some(head.unsigned_abs()), state)
    }

    async fn processes(&self) -> Result<Processes, sqlx::Error> {
        let row = sqlx::query(AT_REST).fetch_one(&self.log).await?;
        let head: i64 = row.get("head");
        let all = row.get::<i64, _>("processes").unsigned_abs() == processes::names().count() as u64;
        Ok(Processes {
            head,
            read: all && row.get::<i64, _>("slowest") == head,
            active: row.get("active"),
            state: format!(
                "processes {}, tasks {}",
                row.get::<String, _>("checkpoints"),
                row.get::<String, _>("tasks"),
            ),
        })
    }

    /// Waits until JetStream holds what the log holds now, by what `rentstream check` says of it.
    pub async fn mirrored(&self) {
        let head = self.head().await;
        let said = std::sync::Mutex::new(String::new());
        let holds = || {
            let said = said.lock().unwrap();
            let mirrored =
                said.lines().find_map(|line| line.strip_prefix("mirror: ")?.split(' ').next()?.parse().ok());
            mirrored.is_some_and(|mirrored: u64| mirrored >= head)
        };
        let mirrored = tokio::time::timeout(crate::world::PATIENCE, async {
            while !holds() {
                let output = self.run(&["check"]).await;
                *said.lock().unwrap() = String::from_utf8_lossy(&output.stdout).into_owned();
            }
        });
        let mirrored = mirrored.await;
        assert!(
            mirrored.is_ok(),
            "the mirror does not hold the log's {head} events: {}",
            said.lock().unwrap()
        );
    }

    /// Drops the views' database, whoever is connected to it.
    pub async fn drop_views(&self) {
        use sqlx::{Connection, Executor, PgConnection};
        let (server, name) = self.system.views_url.rsplit_once('/').unwrap();
        let mut admin = PgConnection::connect(&format!("{server}/postgres")).await.unwrap();
        admin.execute(format!("DROP DATABASE {name} WITH (FORCE)").as_str()).await.unwrap();
        admin.close().await.unwrap();
    }

    /// From now on nothing can be written to the log's aggregates of this type, as in `Stock`: to the system
    /// they can't be reached. See [`World::reachable`].
    pub async fn unreachable(&self, aggregate_type: &str) {
        let statement = format!(
            "CREATE FUNCTION is_away() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN RAISE EXCEPTION '% is away', NEW.aggregate_type USING ERRCODE = 'connection_failure'; END $$;
             CREATE TRIGGER is_away BEFORE INSERT ON events FOR EACH ROW
             WHEN (NEW.aggregate_type = '{aggregate_type}') EXECUTE FUNCTION is_away()"
        );
        sqlx::raw_sql(&statement).execute(&self.log).await.unwrap();
    }

    /// What was unreachable is there again.
    pub async fn reachable(&self) {
        let statement = "DROP TRIGGER is_away ON events; DROP FUNCTION is_away";
        sqlx::raw_sql(statement).execute(&self.log).await.unwrap();
    }

    /// What a process's last try for a rental failed by, if it did.
    pub async fn last_error(&self, process: &str, rental: Uuid) -> Option<String> {
        let found = sqlx::query_scalar(
            "SELECT last_error FROM tasks t WHERE process = $1 AND t::text LIKE '%' || $2 || '%'",
        );
        found.bind(process).bind(rental.to_string()).fetch_optional(&self.log).await.unwrap().flatten()
    }

    /// The log's head.
    pub async fn head(&self) -> u64 {
        let head: i64 =
            sqlx::query_scalar("SELECT position FROM log_head").fetch_one(&self.log).await.unwrap();
        head.unsigned_abs()
    }

    /// What happened to a rental, its payment, its delivery and its units, in order.
    pub async fn events(&self, rental: Uuid) -> Vec<String> {
        sqlx::query_scalar(
            "SELECT event_type FROM events
             WHERE aggregate_id = $1 OR payload::text LIKE '%' || $1 || '%' ORDER BY position",
        )
        .bind(rental.to_string())
        .fetch_all(&self.log)
        .await
        .unwrap()
    }

    /// How often something happened to a rental.
    pub async fn count(&self, rental: Uuid, event: &str) -> usize {
        self.events(rental).await.iter().filter(|name| *name == event).count()
    }

    /// All events of a kind.
    pub async fn count_all(&self, event: &str) -> i64 {
        self.try_count_all(event).await.unwrap()
    }

    /// As [`World::count_all`], of a log that may be away.
    ///
    /// # Errors
    /// While it is.
    pub async fn try_count_all(&self, event: &str) -> Result<i64, sqlx::Error> {
        let counted = sqlx::query_scalar("SELECT count(*) FROM events WHERE event_type = $1");
        counted.bind(event).fetch_one(&self.log).await
    }

    /// The whole log.
    pub async fn all_events(&self) -> Vec<Recorded> {
        let log = Log::open(&self.system.log_url, 1, Crash::default()).unwrap();
        log.page(0, usize::MAX >> 1).await.unwrap()
    }

    /// When the event at a position was recorded.
    pub async fn recorded_at(&self, position: u64) -> DateTime<Utc> {
        sqlx::query_scalar("SELECT recorded_at FROM events WHERE position = $1")
            .bind(position.cast_signed())
            .fetch_one(&self.log)
            .await
            .unwrap()
    }

    /// Every row of a view, as in `customer-history`.
    pub async fn rows(&self, view: &str) -> Vec<(String, String)> {
        sqlx::query(&format!("SELECT key::text AS key, row FROM {} ORDER BY key", view.replace('-', "_")))
            .try_map(|row: sqlx::postgres::PgRow| Ok((row.try_get("key")?, row.try_get("row")?)))
            .fetch_all(&self.views)
            .await
            .unwrap()
    }

    /// Every row of every view.
    pub async fn all_rows(&self) -> Vec<(&'static str, Vec<(String, String)>)> {
        let mut all = Vec::new();
        for view in views::ALL {
            all.push((view.name, self.rows(view.name).await));
        }
        all
    }

    /// Who did what is of this kind, each once.
    pub async fn actors(&self, event: &str) -> Vec<String> {
        sqlx::query_scalar(
            "SELECT metadata->>'actor' FROM events WHERE event_type = $1
             GROUP BY 1 ORDER BY min(position)",
        )
        .bind(event)
        .fetch_all(&self.log)
        .await
        .unwrap()
    }

    /// Whether any event or kept answer says this.
    pub async fn mentioned(&self, text: &str) -> bool {
        let found = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM events e WHERE e::text LIKE '%' || $1 || '%')
                 OR EXISTS (SELECT FROM idempotency i WHERE i::text LIKE '%' || $1 || '%')",
        );
        found.bind(text).fetch_one(&self.log).await.unwrap()
    }

    /// Binds the identity provider's subject to a customer, as a registration does first.
    pub async fn bind(&self, subject: &str, customer: Uuid) {
        sqlx::query("INSERT INTO subjects (issuer, subject, customer_id) VALUES ($1, $2, $3)")
            .bind(crate::identity::ISSUER)
            .bind(subject)
            .bind(customer)
            .execute(&self.log)
            .await
            .unwrap();
    }

    /// Lets so many seconds pass for the answer that is kept for a key.
    pub async fn age_answer(&self, key: &str, seconds: i32) {
        sqlx::query(
            "UPDATE idempotency SET recorded_at = recorded_at - make_interval(secs => $2) WHERE key = $1",
        )
        .bind(key)
        .bind(f64::from(seconds))
        .execute(&self.log)
        .await
        .unwrap();
    }

    /// Whether an answer is kept for a key.
    pub async fn answer_is_kept(&self, key: &str) -> bool {
        let found = sqlx::query_scalar("SELECT EXISTS (SELECT FROM idempotency WHERE key = $1)");
        found.bind(key).fetch_one(&self.log).await.unwrap()
    }

    /// Lets the time pass for which a process that died holds its tasks, and for which the command API is left
    /// alone with a rental.
    pub async fn leases_run_out(&self) {
        sqlx::query("UPDATE tasks SET due_at = now()").execute(&self.log).await.unwrap();
        sqlx::query("UPDATE notices SET due_at = now()").execute(&self.log).await.unwrap();
    }

    /// What a process still has to look at: for each task, what its last try failed by.
    pub async fn tasks(&self, process: &str) -> Vec<Option<String>> {
        let tasks = sqlx::query_scalar("SELECT last_error FROM tasks WHERE process = $1");
        tasks.bind(process).fetch_all(&self.log).await.unwrap()
    }

    /// What the gateway has charged for a rental, and what it has given back: one pair for each charge.
    pub async fn charges(&self, rental: &Rental) -> Vec<(i64, i64)> {
        self.charges_for(&json!(rental.id)).await
    }

    /// As [`World::charges`], by the rental's id.
    pub async fn charges_for(&self, rental: &Value) -> Vec<(i64, i64)> {
        self.charges_named("rental_id", rental).await
    }

    /// As [`World::charges`], by the payment's id.
    pub async fn charges_of(&self, payment: &Value) -> Vec<(i64, i64)> {
        self.charges_named("payment", payment).await
    }

    async fn charges_named(&self, by: &str, id: &Value) -> Vec<(i64, i64)> {
        let ledger = self.ledger().await;
        let charges = ledger["charges"].as_array().unwrap().iter();
        let of_it = charges.filter(|charge| charge["metadata"][by] == *id);
        of_it
            .map(|charge| (charge["amount"].as_i64().unwrap(), charge["refunded"].as_i64().unwrap()))
            .collect()
    }

    /// The gateway's whole ledger.
    pub async fn ledger(&self) -> Value {
        let url = format!("{}/sandbox/ledger", self.address("gateway"));
        self.http.get(url).send().await.unwrap().json().await.unwrap()
    }

    /// What `GET /metrics` of `writes` or `reads` says.
    pub async fn metrics(&self, of: &str) -> String {
        self.metrics_at(&self.address(of)).await
    }

    /// What `GET /metrics` of the process at an address says.
    pub async fn metrics_at(&self, address: &str) -> String {
        self.http.get(format!("{address}/metrics")).send().await.unwrap().text().await.unwrap()
    }

    /// The weather at the gateway: `ok`, `slow`, `failing`, `losing` or `down`.
    pub async fn gateway(&self, mode: &str) {
        let url = format!("{}/sandbox/mode", self.address("gateway"));
        let answer = self.http.post(url).json(&json!({ "mode": mode })).send().await.unwrap();
        assert!(answer.status().is_success(), "{:?}", answer.text().await);
    }
}
