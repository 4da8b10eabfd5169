//! Postgres and NATS by TLS: each role speaks it by its settings, and says what is wrong where it can't.

use std::path::{Path, PathBuf};

use rentstream_infra::servers::Postgres;
use rentstream_tests::authority::Authority;
use rentstream_tests::keeper::Running;
use rentstream_tests::{World, book, nats, servers};

/// A world whose servers speak TLS only and know by certificate who comes; nothing of it runs yet.
struct Guarded {
    world: World,
    postgres: Postgres,
    nats: (Running, String),
    /// The authority's certificate; another's, that has signed nothing here.
    ca: PathBuf,
    other: PathBuf,
    /// Who we are to NATS.
    ours: (PathBuf, PathBuf),
}

/// The address of a database by TLS, for whom this authority has signed.
fn verified(postgres: &Postgres, database: &str, ca: &Path) -> String {
    format!("{}?sslmode=verify-full&sslrootcert={}", postgres.url(database), ca.display())
}

impl Guarded {
    async fn open(name: &str) -> Self {
        let folder = servers::open_folder(name);
        let (authority, stranger) = (Authority::found("ours"), Authority::found("another"));
        let (ca, other) = (authority.write(&folder, "ca"), stranger.write(&folder, "other"));
        let postgres = servers::own_postgres(&folder.join("postgres")).await;
        for database in ["log", "views"] {
            postgres.ensure_database(database).await.unwrap();
        }
        authority.secure(&postgres).await;
        let (log, views) = (verified(&postgres, "log", &ca), verified(&postgres, "views", &ca));
        let world = World::of_roles_on(&log, &views, &[]).await;
        let (certificate, key) = authority.sign("127.0.0.1").write(&folder, "nats");
        let tls =
            format!("tls {{ cert_file: {certificate:?}, key_file: {key:?}, ca_file: {ca:?}, verify: true }}");
        let nats = nats::start(&world, "guarded-nats", &tls, &[]).await;
        let ours = authority.sign("rentstream").write(&folder, "ours");
        Self { world, postgres, nats, ca, other, ours }
    }

    /// What a role gets beside the databases' addresses.
    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("NATS_URL", format!("tls://{}", self.nats.1)),
            ("NATS_CA_FILE", self.ca.display().to_string()),
            ("NATS_CERT_FILE", self.ours.0.display().to_string()),
            ("NATS_KEY_FILE", self.ours.1.display().to_string()),
        ]
    }

    /// Starts a role, or runs a command, with some of them changed.
    fn process(&self, role: &str, changes: &[(&'static str, String)]) -> Running {
        let settings = [self.settings(), changes.to_vec()].concat();
        let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, &**value)).collect();
        self.world.process(role, &settings)
    }

    /// What a role says that doesn't start with this change.
    async fn refused(&self, role: &str, change: &[(&'static str, String)]) -> String {
        let mut running = self.process(role, change);
        let status = running.end(rentstream_tests::world::PATIENCE).await;
        let said = running.log_tail();
        assert!(!status.success(), "{role} with {change:?} ends well: {said}");
        said.lines().last().unwrap_or_default().to_owned()
    }
}

#[tokio::test]
async fn every_role_speaks_tls_to_postgres_and_nats() {
    let guarded = Guarded::open("encrypted").await;
    let world = &guarded.world;
    let settings = guarded.settings();
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, &**value)).collect();
    for role in ["relay", "project", "react"] {
        world.start(role, &settings);
    }
    for role in ["command-api", "query-api"] {
        world.start_api_with(role, &settings).await;
    }
    world.views_are_made().await;

    let minji = world.customer("Min-ji").await;
    let book = world.item(book()).await;
    world.deposit(&minji, 5_000).await.expect(200);
    let rental = world.rent(&minji, book).await;
    world.settle().await;
    assert_eq!(world.row(&minji, &rental).await["status"], "accepted");

    let open = "SELECT count(*) FROM pg_stat_activity a LEFT JOIN pg_stat_ssl USING (pid)
                WHERE a.application_name LIKE 'rentstream%' AND ssl IS NOT TRUE";
    let open: i64 = sqlx::query_scalar(open).fetch_one(world.log_pool()).await.unwrap();
    assert_eq!(open, 0, "every connection of the program is encrypted");

    // The wake-up lines are there, too.
    let listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'";
    let listening: i64 = sqlx::query_scalar(listening).fetch_one(world.log_pool()).await.unwrap();
    assert!(listening > 0);

    let head = world.head().await;
    let mirrored = format!("mirror: {head} of {head}");
    world
        .until("the stream holds the log", || async {
            let mut check = guarded.process("check", &[]);
            let status = check.end(rentstream_tests::world::PATIENCE).await;
            let said = check.log_tail();
            assert!(status.success(), "{said}");
            said.contains(&mirrored).then_some(())
        })
        .await;
    for command in ["migrate", "verify", "rebuild my-page"] {
        let mut running = guarded.process(command, &[]);
        let status = running.end(rentstream_tests::world::PATIENCE).await;
        assert!(status.success(), "{command}: {}", running.log_tail());
    }
}

#[tokio::test]
async fn who_cant_be_trusted_or_wont_have_us_is_named_at_the_start() {
    let guarded = Guarded::open("distrusted").await;
    let (postgres, other) = (&guarded.postgres, &guarded.other);
    let plain = |database| format!("{}?sslmode=disable", postgres.url(database));

    let unknown = "invalid peer certificate: UnknownIssuer; `sslrootcert` should name a file with the certificate \
                   of who signed the server's";
    for role in ["command-api", "relay", "react", "migrate", "check"] {
        let said = guarded.refused(role, &[("DATABASE_URL", verified(postgres, "log", other))]).await;
        assert_eq!(said, format!("rentstream: DATABASE_URL: {unknown}"), "{role}");
    }
    for role in ["query-api", "project"] {
        let said = guarded.refused(role, &[("VIEWS_DATABASE_URL", verified(postgres, "views", other))]).await;
        assert_eq!(said, format!("rentstream: VIEWS_DATABASE_URL: {unknown}"), "{role}");
    }
    let by_environment = [
        ("DATABASE_URL", postgres.url("log")),
        ("PGSSLMODE", "verify-full".to_owned()),
        ("PGSSLROOTCERT", other.display().to_string()),
    ];
    let said = guarded.refused("migrate", &by_environment).await;
    assert_eq!(said, format!("rentstream: DATABASE_URL: {unknown}"));
    let said = guarded.refused("command-api", &[("DATABASE_URL", plain("log"))]).await;
    assert!(said.starts_with("rentstream: DATABASE_URL: no pg_hba.conf entry for host"), "{said}");
    assert!(said.ends_with("no encryption"), "{said}");
    let missing = verified(postgres, "log", Path::new("/nowhere/ca.pem"));
    let said = guarded.refused("command-api", &[("DATABASE_URL", missing)]).await;
    assert_eq!(said, "rentstream: DATABASE_URL: a file that it names for TLS is not there");

    let another = ("NATS_CA_FILE", other.display().to_string());
    for role in ["relay", "project", "react", "check"] {
        let said = guarded.refused(role, std::slice::from_ref(&another)).await;
        assert_eq!(
            said,
            "rentstream: NATS_URL: invalid peer certificate: UnknownIssuer; NATS_CA should be the certificate of \
             who signed the server's",
            "{role}"
        );
    }
    let unset = |name| (name, String::new());
    let plain = [
        ("NATS_URL", format!("nats://{}", guarded.nats.1)),
        unset("NATS_CA_FILE"),
        unset("NATS_CERT_FILE"),
        unset("NATS_KEY_FILE"),
    ];
    let said = guarded.refused("relay", &plain).await;
    assert!(said.contains("NATS_URL: invalid peer certificate: UnknownIssuer; NATS_CA should"), "{said}");
    let said = guarded.refused("relay", &[unset("NATS_CERT_FILE"), unset("NATS_KEY_FILE")]).await;
    assert!(said.ends_with("; NATS_CERT and NATS_KEY should be what the server knows us by"), "{said}");
    let said = guarded.refused("relay", &[unset("NATS_KEY_FILE")]).await;
    assert_eq!(said, "rentstream: NATS_CERT is set without NATS_KEY; it should be set beside it or left out");

    // A server that speaks no TLS isn't spoken to in the clear by who knows its authority.
    let open = nats::start(&guarded.world, "open-nats", "", &[]).await;
    let said = guarded.refused("relay", &[("NATS_URL", format!("nats://{}", open.1))]).await;
    assert!(said.ends_with("; NATS_CA is set, so the server should speak TLS"), "{said}");
}
