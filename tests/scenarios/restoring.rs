//! The log is restored to an earlier moment, beside a stream and views that have seen more.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Output;

use futures::future::join_all;
use rentstream_projections::views;
use rentstream_tests::{Customer, World, book, servers};
use sqlx::{Connection, Executor, PgConnection};
use uuid::Uuid;

/// The roles of a shop, as production runs them.
const ROLES: [&str; 5] = ["relay", "project", "react", "command-api", "query-api"];

/// The scripts that an operator has.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/backup").join(name)
}

/// Runs one of them to its end.
async fn run(name: &str, url: &str, arguments: &[&Path]) -> Output {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    for version in std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten() {
        path.push(":");
        path.push(OsString::from(version.path().join("bin")));
    }
    let mut command = tokio::process::Command::new("sh");
    command.arg(script(name)).args(arguments).env_clear().env("PATH", path).env("DATABASE_URL", url);
    command.kill_on_drop(true).output().await.unwrap()
}

/// As [`run`], and it goes well; gives what it prints.
async fn well(name: &str, url: &str, arguments: &[&Path]) -> String {
    let output = run(name, url, arguments).await;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{name}: {}", said(&output.stderr));
    said(&output.stdout)
}

/// What a refused command says.
fn refusal(output: &Output) -> String {
    assert!(!output.status.success());
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    said(&output.stdout) + &said(&output.stderr)
}

/// A shop with some history.
struct Shop {
    world: World,
    minji: Customer,
    book: Uuid,
}

impl Shop {
    async fn open(world: World) -> Self {
        let (minji, book) = (world.customer("Min-ji").await, world.item(book().units(50)).await);
        let shop = Self { world, minji, book };
        let rented = shop.rent(3).await;
        shop.rest().await;
        shop.world.deliver(&rented[0]).await.expect(200);
        shop.world.cancel(&shop.minji, &rented[1]).await.expect(202);
        shop.rest().await;
        shop
    }

    async fn rent(&self, rentals: usize) -> Vec<rentstream_tests::Rental> {
        join_all((0..rentals).map(|_| self.world.rent(&self.minji, self.book))).await
    }

    async fn rest(&self) -> u64 {
        let head = self.world.settle().await;
        self.world.mirrored().await;
        head
    }

    async fn close(&self) {
        for role in ROLES {
            self.world.stop(role).await;
        }
    }

    /// The versions of the views that serve, each once.
    async fn versions(&self) -> Vec<i32> {
        let versions = sqlx::query_scalar("SELECT DISTINCT version FROM views WHERE state = 'serving'");
        versions.fetch_all(self.world.views_pool()).await.unwrap()
    }

    /// The log was restored: what has seen more is refused, made anew, and the shop goes on.
    async fn goes_on(&self, restored: u64, rentals: usize) {
        let Self { world, minji, .. } = self;
        assert_eq!(world.head().await, restored);
        let refused = refusal(&world.run(&["relay"]).await);
        assert!(refused.contains(&format!("the log ends at {restored}")), "{refused}");
        assert!(refused.contains("rentstream relay --reset-stream"), "{refused}");
        let checked = refusal(&world.run(&["check"]).await);
        assert!(checked.contains("mirror: the stream RENTSTREAM holds position"), "{checked}");
        assert!(checked.contains("Rebuild it: rentstream rebuild my-page"), "{checked}");

        // Though the log grows past what they have seen, the views are not projected on.
        world.start("project", &[]);
        world
            .until("every view is refused", || async { (self.versions().await == [-1]).then_some(()) })
            .await;
        world.start("react", &[]);
        world.start_api("command-api").await;
        self.rent(8).await;
        world.finish().await;
        world.stop("project").await;
        let refused = refusal(&world.run(&["relay"]).await);
        assert!(refused.contains("hold different events at position"), "{refused}");
        let checked = refusal(&world.run(&["check"]).await);
        assert!(checked.contains("Rebuild it: rentstream rebuild my-page"), "{checked}");
        world.start("project", &[]);

        let reset = world.run(&["relay", "--reset-stream"]).await;
        assert!(reset.status.success(), "{}", String::from_utf8_lossy(&reset.stderr));
        world.start("relay", &[]);
        for view in views::ALL {
            let rebuilt = world.run(&["rebuild", view.name]).await;
            assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
        }
        world.start_api("query-api").await;
        self.rent(1).await;
        self.rest().await;
        assert_eq!(world.history(minji).await.len(), rentals + 8 + 1);
        world.check_at_rest().await;
    }
}

#[tokio::test]
async fn a_shop_that_is_restored_from_a_dump_goes_on() {
    let shop = Shop::open(World::of_roles(&ROLES).await).await;
    let (world, url) = (&shop.world, shop.world.log_url());
    let dumped = world.head().await;
    let folder = world.folder().join("backup");
    let written = well("dump.sh", url, &[&folder]).await;
    let dumps: Vec<&Path> = written.lines().map(Path::new).collect();
    shop.rent(2).await;
    let forgotten = world.customer("Jun").await;
    shop.rest().await;
    shop.close().await;

    let refused = run("restore.sh", url, &dumps).await;
    assert!(refusal(&refused).contains("restore into an empty one"));
    let (server, name) = url.rsplit_once('/').unwrap();
    let mut admin = PgConnection::connect(&format!("{server}/postgres")).await.unwrap();
    admin.execute(format!("DROP DATABASE {name} WITH (FORCE)").as_str()).await.unwrap();
    admin.execute(format!("CREATE DATABASE {name}").as_str()).await.unwrap();
    let said = well("restore.sh", url, &dumps).await;
    assert_eq!(said.trim(), format!("restored up to position {dumped}"));
    let change = sqlx::query("DELETE FROM events").execute(world.log_pool()).await.unwrap_err().to_string();
    assert!(change.contains("append-only"), "{change}");
    shop.goes_on(dumped, 3).await;
    world.get(&format!("/v1/customers/{}", forgotten.id)).by(&forgotten).after_seen().await.expect(404);
}

#[tokio::test]
async fn a_shop_that_is_recovered_to_a_moment_goes_on() {
    let folder = servers::folder().join("postgres-that-is-recovered");
    let archive = servers::open_folder("archive");
    let postgres = servers::archiving_postgres(&folder, &script("archive.sh"), &archive).await;
    postgres.ensure_database("log").await.unwrap();
    let url = postgres.url("log");
    // The views are elsewhere: they are not restored.
    let shop = Shop::open(World::with_log(&url, &ROLES).await).await;
    let world = &shop.world;
    let backup = world.folder().join("backup");
    let base = well("base.sh", &url, &[&backup]).await;
    shop.rent(1).await;
    let before = shop.rest().await;
    world.log_pool().execute("SELECT pg_create_restore_point('before')").await.unwrap();
    shop.rent(2).await;
    shop.rest().await;
    shop.close().await;
    let last: String = sqlx::query_scalar("SELECT pg_walfile_name(pg_switch_wal())")
        .fetch_one(world.log_pool())
        .await
        .unwrap();
    world.until("the archive has it all", || async { archive.join(&last).exists().then_some(()) }).await;
    postgres.stop().await;

    std::fs::rename(folder.join("data"), folder.join("data.old")).unwrap();
    let [base, archive, data] = [Path::new(base.trim()), &archive, &folder.join("data")];
    well("recover.sh", &url, &[base, archive, data, Path::new("name"), Path::new("before")]).await;
    let _postgres = servers::own_postgres(&folder).await;
    world
        .until("it's promoted", || async {
            let recovering = sqlx::query_scalar::<_, bool>("SELECT pg_is_in_recovery()");
            (!recovering.fetch_one(world.log_pool()).await.ok()?).then_some(())
        })
        .await;
    shop.goes_on(before, 4).await;
}
