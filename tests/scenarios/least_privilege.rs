//! Each role of the program with a login of its own, which may do no more than it needs.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use rentstream_infra::relay::{Mirror, STREAM};
use rentstream_tests::endpoints::Endpoints;
use rentstream_tests::keeper::Running;
use rentstream_tests::{World, book};
use reqwest::Method;
use sqlx::{Connection, Executor, PgConnection};

const ROLES: &str = include_str!("../../deploy/postgres/roles.sql");
const PERMISSIONS: &str = include_str!("../../deploy/nats/permissions.conf");

/// The address of a database for another login.
fn login(url: &str, name: &str) -> String {
    let (_, place) = url.rsplit_once('@').unwrap();
    format!("postgres://{name}:{name}-password@{place}")
}

/// The code that a statement is refused with.
async fn refused(connection: &mut PgConnection, statement: &str) -> Option<String> {
    let error = connection.execute(statement).await.err()?;
    Some(error.as_database_error()?.code()?.into_owned())
}

struct Logins<'a> {
    world: &'a World,
    /// Where the nats-server is that asks who comes.
    nats: String,
}

/// Its address for a user.
fn nats_login(address: &str, user: &str) -> String {
    format!("nats://{user}:{user}-p%40ss@{address}")
}

/// A nats-server with the permissions that an operator gives it.
async fn nats(world: &World) -> (Running, String) {
    std::fs::write(world.folder().join("permissions.conf"), PERMISSIONS).unwrap();
    let passwords = [("RELAY_PASSWORD", "relay-p@ss"), ("READER_PASSWORD", "reader-p@ss")];
    let passwords = passwords.map(|(name, value)| (name.to_owned(), value.to_owned()));
    rentstream_tests::nats::start(world, "closed-nats", "include ../permissions.conf", &passwords).await
}

impl Logins<'_> {
    /// A setting that stands in a file.
    fn in_file(&self, name: &str, value: &str) -> PathBuf {
        let path = self.world.folder().join(name);
        std::fs::write(&path, format!("{value}\n")).unwrap();
        path
    }

    /// What a role of the program gets: the log by this login, the views and NATS by theirs.
    fn settings(&self, role: &str, login: &str) -> Vec<(&'static str, String)> {
        let log = self.in_file(&format!("{role}.log-url"), &self::login(self.world.log_url(), login));
        let views =
            self.in_file(&format!("{role}.views-url"), &self::login(self.world.views_url(), "shop_views"));
        let user = if role == "relay" { "relay" } else { "reader" };
        let nats = self.in_file(&format!("{role}.nats-url"), &nats_login(&self.nats, user));
        vec![
            ("DATABASE_URL", String::new()),
            ("DATABASE_URL_FILE", log.display().to_string()),
            ("VIEWS_DATABASE_URL", String::new()),
            ("VIEWS_DATABASE_URL_FILE", views.display().to_string()),
            ("RUST_LOG", "debug,sqlx=info".to_owned()),
            ("NATS_URL", String::new()),
            ("NATS_URL_FILE", nats.display().to_string()),
        ]
    }
}

#[tokio::test]
async fn each_role_works_with_a_login_that_may_do_no_more_than_it_needs() {
    let world = World::of_roles(&[]).await;
    for _ in 0..2 {
        world.log_pool().execute(sqlx::raw_sql(ROLES)).await.unwrap();
    }
    for (name, of) in [
        ("shop_append", "IN ROLE rentstream_append"),
        ("shop_follow", "IN ROLE rentstream_follow"),
        ("shop_query", "IN ROLE rentstream_query"),
        ("shop_views", ""),
    ] {
        let made = format!("CREATE ROLE {name} LOGIN PASSWORD '{name}-password' {of}");
        world.log_pool().execute(&*made).await.unwrap();
    }
    let (_, views) = world.views_url().rsplit_once('/').unwrap();
    world.log_pool().execute(&*format!("ALTER DATABASE {views} OWNER TO shop_views")).await.unwrap();

    let (_server, address) = nats(&world).await;
    let logins = Logins { world: &world, nats: address.clone() };
    let told = Endpoints::start().await;
    for (role, login) in [
        ("notify", "shop_append"),
        ("relay", "shop_follow"),
        ("project", "shop_follow"),
        ("react", "shop_append"),
        ("command-api", "shop_append"),
        ("query-api", "shop_query"),
    ] {
        let settings = [logins.settings(role, login), told.webhook()].concat();
        let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, &**value)).collect();
        if role.ends_with("-api") {
            world.start_api_with(role, &settings).await;
        } else {
            world.start(role, &settings);
        }
    }
    world.views_are_made().await;

    let (minji, jun) = (world.customer("Min-ji").await, world.customer("Jun").await);
    let book = world.item(book()).await;
    world.deposit(&minji, 5_000).await.expect(200);
    let (kept, cancelled) = (world.rent(&minji, book).await, world.rent(&minji, book).await);
    world.settle().await;
    world.deliver(&kept).await.expect(200);
    world.cancel(&minji, &cancelled).await.expect(202);
    world.ask(Method::DELETE, &format!("/v1/customers/{}", jun.id)).by(&jun).await.expect(202);
    world.settle().await;
    assert_eq!(world.row(&minji, &kept).await["status"], "delivered");
    assert_eq!(world.row(&minji, &cancelled).await["status"], "cancelled");
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    let then = format!("/v1/customers/{}/rentals?as_of={now}", minji.id);
    assert_eq!(world.get(&then).by(&minji).await.expect(200).items().len(), 2);

    let waiting = "SELECT count(*) FROM notices WHERE state <> 'sent'";
    world
        .until("the customer is told of every step", || async {
            let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(world.log_pool()).await.unwrap();
            (waiting == 0 && told.webhooks().len() >= 5).then_some(())
        })
        .await;

    let reader = async_nats::ConnectOptions::new()
        .user_and_password("reader".to_owned(), "reader-p@ss".to_owned())
        .connect(&address)
        .await
        .unwrap();
    // What is refused isn't answered.
    let soon = Duration::from_secs(2);
    let context =
        async_nats::jetstream::context::ContextBuilder::new().timeout(soon).ack_timeout(soon).build(reader);
    let head = world.head().await;
    let mirror = world
        .until("the mirror holds the log", || async {
            Mirror::open(&context).await.ok().filter(|mirror| mirror.position() == head)
        })
        .await;
    world
        .until("readers follow it", || async {
            let mirror = Mirror::open(&context).await.ok()?;
            (mirror.stream.cached_info().state.consumer_count >= 2).then_some(())
        })
        .await;
    assert!(context.delete_stream(STREAM).await.is_err());
    assert!(mirror.stream.purge().await.is_err());
    let forged = format!("rentstream.0.Rental.{}.RentalAccepted", minji.id);
    assert!(context.publish(forged, "{}".into()).await.unwrap().await.is_err());
    assert_eq!(Mirror::open(&context).await.unwrap().position(), head);
    assert!(async_nats::connect(&address).await.is_err(), "nobody comes in without a password");

    for role in ["relay", "project", "react", "command-api", "query-api"] {
        let log = std::fs::read_to_string(world.folder().join(format!("{role}.log"))).unwrap();
        assert!(log.contains("DEBUG"), "{role}: {log}");
        for password in ["-p@ss", "-p%40ss", "-password"] {
            assert!(!log.contains(password), "{role} has logged a password");
        }
    }

    let appends = "SELECT * FROM take_head(0, 0)";
    let keys = "SELECT * FROM customer_keys";
    for (name, statements) in [
        (
            "shop_append",
            &[
                "UPDATE events SET payload = '{}'",
                "DELETE FROM events",
                "TRUNCATE events",
                "ALTER TABLE events DISABLE TRIGGER ALL",
                "INSERT INTO events SELECT * FROM events LIMIT 1",
                "UPDATE log_head SET position = 0",
                "DELETE FROM log_head",
                "DELETE FROM customer_keys",
                "UPDATE subjects SET customer_id = customer_id",
                "CREATE TABLE public.mine ()",
                "CREATE TEMP TABLE events ()",
            ][..],
        ),
        ("shop_follow", &[appends, keys, "DELETE FROM events", "UPDATE checkpoints SET position = 0"]),
        (
            "shop_query",
            &[appends, "UPDATE log_head SET position = 0", "DELETE FROM customer_keys", "DELETE FROM events"],
        ),
    ] {
        let mut connection = PgConnection::connect(&login(world.log_url(), name)).await.unwrap();
        for statement in statements {
            let code = refused(&mut connection, statement).await;
            assert_eq!(code.as_deref(), Some("42501"), "{name}: {statement}");
        }
    }
    let elsewhere = PgConnection::connect(&login(world.log_url(), "shop_views")).await.unwrap_err();
    let code = elsewhere.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned());
    assert_eq!(code.as_deref(), Some("42501"));
}
