//! A running system: databases of its own, a nats-server of its own, and the executable in its roles.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rentstream_infra::http::auth::{Auth, Role};
use rentstream_infra::servers::{Nats, start_nats, start_nats_on};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::keeper::Running;
use crate::{failing, servers};

/// What signs every token.
pub const SECRET: &str = "a secret that only scenarios know, 32 or more";
/// Whatever a scenario waits for must have come by then.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at what is waited for.
pub(crate) const LOOK: Duration = Duration::from_millis(15);

/// A port where nobody listens, and none that the system gives to whoever connects: it stays free. No scenario is given
/// one that another has, which may listen there now and then only.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    std::iter::repeat_with(|| fastrand::u16(10_240..30_000))
        // Another's isn't even tried: it may be about to listen.
        .filter(|port| GIVEN.lock().unwrap().insert(*port))
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("world-").tempdir_in(servers::folder()).unwrap()
}

/// A handle on a running system; tells where it is and what this scenario has seen of it.
pub struct World {
    pub(crate) system: Arc<System>,
    pub(crate) http: reqwest::Client,
    pub(crate) auth: Auth,
    pub(crate) log: PgPool,
    pub(crate) views: PgPool,
    /// The last `Rentstream-Position` of a write.
    pub(crate) seen: AtomicU64,
}

/// What the handles share.
pub(crate) struct System {
    folder: TempDir,
    pub(crate) log_url: String,
    pub(crate) views_url: String,
    nats_url: String,
    settings: Vec<(String, String)>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    addresses: BTreeMap<&'static str, String>,
    running: Vec<Running>,
    nats: Option<Nats>,
}

impl System {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn address(&self, of: &str) -> String {
        let known = self.inner().addresses.get(of).cloned();
        known.unwrap_or_else(|| panic!("nothing of this world serves {of}"))
    }
}

impl World {
    /// The world that scenarios share which break nothing: `rentstream up`.
    pub async fn shared() -> Self {
        static SHARED: OnceCell<Arc<System>> = OnceCell::const_new();
        let system = SHARED
            .get_or_init(|| async {
                let world = Self::up(&[]).await;
                world.system.clone()
            })
            .await;
        Self::of(system.clone())
    }

    /// A world of one's own: `rentstream up` with these settings beside the usual ones.
    pub async fn up(settings: &[(&str, &str)]) -> Self {
        let world = Self::bare(settings).await;
        world.start_up(&[]).await;
        world
    }

    /// A world in which each role is a process of its own, but for those that a scenario starts itself.
    pub async fn of_roles(roles: &[&str]) -> Self {
        let (log, views) = Self::databases().await;
        Self::of_roles_on(&log, &views, roles).await
    }

    /// As [`World::of_roles`], with a log that is elsewhere.
    pub async fn with_log(log_url: &str, roles: &[&str]) -> Self {
        let (_, views) = Self::databases().await;
        Self::of_roles_on(log_url, &views, roles).await
    }

    /// As [`World::of_roles`], on databases that are elsewhere.
    pub async fn of_roles_on(log_url: &str, views_url: &str, roles: &[&str]) -> Self {
        Self::with_roles(roles, async |settings| Self::on(log_url, views_url, settings).await).await
    }

    /// As [`World::of_roles`], on a NATS that is elsewhere and with these settings beside the usual ones.
    pub async fn with_nats(nats_url: &str, more: &[(&str, &str)], roles: &[&str]) -> Self {
        let (log, views) = Self::databases().await;
        let made = async |settings: &[(&str, &str)]| {
            servers::executable().await;
            Self::made(&log, &views, nats_url, None, folder(), &[settings, more].concat())
        };
        Self::with_roles(roles, made).await
    }

    async fn with_roles(roles: &[&str], made: impl AsyncFnOnce(&[(&str, &str)]) -> Self) -> Self {
        let gateway = servers::sandbox().await;
        let settings = [("PAYMENT_GATEWAY_URL", &*gateway), ("PAYMENT_GATEWAY_KEY", "sk_test_scenarios")];
        let world = made(&settings).await;
        world.serves("gateway", &gateway);
        let migrated = world.run(&["migrate"]).await;
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        for role in roles.iter().filter(|role| !role.ends_with("-api")) {
            world.start(role, &[]);
        }
        for role in roles.iter().filter(|role| role.ends_with("-api")) {
            world.start_api(role).await;
        }
        if roles.contains(&"project") && roles.contains(&"query-api") {
            world.views_are_made().await;
        }
        world
    }

    /// Databases and a nats-server, and nothing that runs on them yet.
    pub async fn bare(settings: &[(&str, &str)]) -> Self {
        let (log, views) = Self::databases().await;
        Self::on(&log, &views, settings).await
    }

    /// The addresses of two empty databases.
    async fn databases() -> (String, String) {
        let postgres = servers::postgres().await;
        let number = servers::number();
        let (log, views) = (format!("log_{number}"), format!("views_{number}"));
        tokio::join!(async { postgres.ensure_database(&log).await.unwrap() }, async {
            postgres.ensure_database(&views).await.unwrap();
        });
        (postgres.url(&log), postgres.url(&views))
    }

    /// As [`World::bare`], on databases that are elsewhere.
    pub async fn on(log_url: &str, views_url: &str, settings: &[(&str, &str)]) -> Self {
        servers::executable().await;
        let folder = folder();
        let nats = start_nats(&folder.path().join("nats")).await.unwrap();
        let url = nats.url();
        Self::made(log_url, views_url, &url, Some(nats), folder, settings)
    }

    fn made(
        log_url: &str,
        views_url: &str,
        nats_url: &str,
        nats: Option<Nats>,
        folder: TempDir,
        settings: &[(&str, &str)],
    ) -> Self {
        let system = System {
            log_url: log_url.to_owned(),
            views_url: views_url.to_owned(),
            nats_url: nats_url.to_owned(),
            settings: settings.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            folder,
            inner: Mutex::new(Inner { nats, ..Inner::default() }),
        };
        Self::of(Arc::new(system))
    }

    /// A handle of its own for each scenario: connections belong to a test's runtime.
    fn of(system: Arc<System>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        failing::remember();
        let http = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build().unwrap();
        let pool = |url: &str| PgPoolOptions::new().max_connections(4).connect_lazy(url).unwrap();
        let (log, views) = (pool(&system.log_url), pool(&system.views_url));
        Self { system, http, auth: Auth::new(SECRET), log, views, seen: AtomicU64::new(0) }
    }

    /// Starts `rentstream up` and waits until it serves and its views are there.
    pub async fn start_up(&self, more: &[(&str, &str)]) {
        let addresses = self.folder().join("data/addresses.env");
        let _ = std::fs::remove_file(&addresses);
        self.start("up", more);
        let written = self
            .until("`rentstream up` writes its addresses", || async {
                self.must_run("up");
                std::fs::read_to_string(&addresses)
                    .ok()
                    .filter(|text| text.contains("RENTSTREAM_URL=http") && text.ends_with('\n'))
            })
            .await;
        let find = |name: &str| {
            written
                .lines()
                .find_map(|line| Some(line.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
                .unwrap()
        };
        let (api, gateway) = (find("RENTSTREAM_URL"), find("PAYMENT_GATEWAY_URL"));
        self.serves("writes", &api);
        self.serves("reads", &api);
        self.serves("gateway", &gateway);
        self.ready("writes").await;
        self.views_are_made().await;
    }

    /// Starts one role, as in `command-api` or `react fulfilling`, and does not wait for it.
    pub fn start(&self, role: &str, more: &[(&str, &str)]) {
        let running = self.process(role, more);
        self.system.inner().running.push(running);
    }

    /// As [`World::start`]; the process is the caller's to keep.
    pub fn process(&self, role: &str, more: &[(&str, &str)]) -> Running {
        let mut settings: Vec<(String, String)> = [
            ("DATABASE_URL", self.system.log_url.as_str()),
            ("VIEWS_DATABASE_URL", self.system.views_url.as_str()),
            ("NATS_URL", self.system.nats_url.as_str()),
            ("RENTSTREAM_JWT_SECRET", SECRET),
            ("RENTSTREAM_LISTEN", "127.0.0.1:0"),
            ("RUST_BACKTRACE", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        settings.push(("RENTSTREAM_DATA".into(), self.folder().join("data").display().to_string()));
        settings.extend(self.system.settings.iter().cloned());
        settings.extend(more.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        // The last word counts.
        let settings: Vec<_> = settings.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect();
        let log = self.folder().join(format!("{}.log", role.replace(' ', "-")));
        let arguments: Vec<&str> = role.split(' ').collect();
        let program = servers::folder().join("rentstream");
        Running::start(&program, &arguments, &settings, &log)
    }

    /// Starts a role that serves HTTP, `command-api` or `query-api`, and waits until it does.
    pub async fn start_api(&self, role: &str) {
        self.start_api_with(role, &[]).await;
    }

    /// As [`World::start_api`], with these settings beside the usual ones.
    pub async fn start_api_with(&self, role: &str, more: &[(&str, &str)]) {
        let port = free_port();
        let what = if role == "query-api" { "reads" } else { "writes" };
        let listen = format!("127.0.0.1:{port}");
        self.start(role, &[more, &[("RENTSTREAM_LISTEN", listen.as_str())]].concat());
        self.serves(what, &format!("http://127.0.0.1:{port}"));
        self.ready(what).await;
    }

    /// Notes where something is served.
    pub fn serves(&self, what: &'static str, url: &str) {
        self.system.inner().addresses.insert(what, url.to_owned());
    }

    /// The log's database.
    pub fn log_pool(&self) -> &PgPool {
        &self.log
    }

    /// The views' database.
    pub fn views_pool(&self) -> &PgPool {
        &self.views
    }

    /// Where the log is.
    pub fn log_url(&self) -> &str {
        &self.system.log_url
    }

    /// Where the views are.
    pub fn views_url(&self) -> &str {
        &self.system.views_url
    }

    /// Where NATS is.
    pub fn nats_url(&self) -> &str {
        &self.system.nats_url
    }

    /// Where `writes`, `reads` or the `gateway` are.
    pub fn address(&self, of: &str) -> String {
        self.system.address(of)
    }

    /// The world's own folder.
    pub fn folder(&self) -> PathBuf {
        self.system.folder.path().to_owned()
    }

    async fn ready(&self, what: &str) {
        let address = self.address(what);
        self.until(&format!("{what} are ready"), || async {
            self.all_must_run();
            self.is_ready(&address).await.then_some(())
        })
        .await;
    }

    /// Whether what is served at an address says that it's ready.
    pub async fn is_ready(&self, address: &str) -> bool {
        self.says_yes(address, "/health/ready").await
    }

    /// Whether there is something good at a path of an address.
    pub async fn says_yes(&self, address: &str, path: &str) -> bool {
        let answer = self.http.get(format!("{address}{path}")).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Waits until every view serves, be it empty.
    pub async fn views_are_made(&self) {
        self.until("the views are made", || async {
            self.all_must_run();
            let views = self.get("/v1/views").by(self.operator()).attempt().await.ok()?;
            let items = views.body["items"].as_array()?;
            let serving = items.iter().filter(|view| view["state"] == "serving").count();
            (serving == rentstream_projections::views::ALL.len()).then_some(())
        })
        .await;
    }

    /// Waits for something, within bounds.
    pub async fn until<T, F: Future<Output = Option<T>>>(&self, what: &str, look: impl Fn() -> F) -> T {
        self.within(PATIENCE, what, look).await
    }

    /// As [`World::until`], with a bound of one's own.
    pub async fn within<T, F: Future<Output = Option<T>>>(
        &self,
        bound: Duration,
        what: &str,
        look: impl Fn() -> F,
    ) -> T {
        let deadline = Instant::now() + bound;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(Instant::now() < deadline, "waited {bound:?} in vain: {what}");
            tokio::time::sleep(LOOK).await;
        }
    }

    fn take(&self, role: &str) -> Running {
        let mut inner = self.system.inner();
        let at = inner.running.iter().position(|running| running.name() == role);
        inner.running.swap_remove(at.unwrap_or_else(|| panic!("{role} does not run in this world")))
    }

    fn must_run(&self, role: &str) {
        let mut inner = self.system.inner();
        let running = inner.running.iter_mut().find(|running| running.name() == role).unwrap();
        if let Some(status) = running.ended() {
            let tail = running.log_tail();
            drop(inner);
            panic!("`{role}` has ended ({status}):\n{tail}");
        }
    }

    fn all_must_run(&self) {
        let roles: Vec<String> =
            self.system.inner().running.iter().map(|running| running.name().to_owned()).collect();
        roles.iter().for_each(|role| self.must_run(role));
    }

    /// Waits until a process has ended by itself, and tells how.
    pub async fn ends(&self, role: &str) -> std::process::ExitStatus {
        let mut running = self.take(role);
        running.end(PATIENCE).await
    }

    /// SIGKILL to a process.
    pub fn kill(&self, role: &str) {
        self.take(role).kill();
    }

    /// SIGTERM to a process; see [`World::ends`].
    pub fn terminate(&self, role: &str) {
        let mut inner = self.system.inner();
        inner.running.iter_mut().find(|running| running.name() == role).unwrap().terminate();
    }

    /// SIGTERM to a process, and waits until it has ended well.
    pub async fn stop(&self, role: &str) {
        self.terminate(role);
        let status = self.ends(role).await;
        assert!(status.success(), "`{role}` ended with {status}");
    }

    /// Stops the nats-server.
    pub async fn stop_nats(&self) {
        let nats = self.system.inner().nats.take().unwrap();
        nats.stop().await;
    }

    /// Starts the nats-server again where it was.
    pub async fn start_nats(&self) {
        let port = self.system.nats_url.rsplit(':').next().unwrap().parse().unwrap();
        let nats = start_nats_on(&self.nats_folder(), port).await.unwrap();
        self.system.inner().nats = Some(nats);
    }

    /// Wipes what the stopped nats-server has stored.
    pub fn wipe_nats(&self) {
        assert!(self.system.inner().nats.is_none(), "stop it first");
        std::fs::remove_dir_all(self.nats_folder().join("jetstream")).unwrap();
    }

    fn nats_folder(&self) -> PathBuf {
        self.folder().join("nats")
    }

    /// Runs a subcommand to its end, as an operator would on the same settings. It may have all of the log to read.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::new(Path::new(servers::executable().await));
        command
            .args(arguments)
            .env_clear()
            .env("DATABASE_URL", &self.system.log_url)
            .env("VIEWS_DATABASE_URL", &self.system.views_url)
            .env("NATS_URL", &self.system.nats_url)
            .env("RENTSTREAM_JWT_SECRET", SECRET)
            .env("RENTSTREAM_DATA", self.folder().join("data"))
            .env("RUST_LOG", "warn")
            .kill_on_drop(true);
        let ended = tokio::time::timeout(PATIENCE * 4, command.output()).await;
        ended.unwrap_or_else(|_| panic!("{arguments:?} does not end")).unwrap()
    }

    /// `rentstream check` finds nothing wrong; gives what it prints.
    pub async fn check(&self) -> String {
        let output = self.run(&["check"]).await;
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "`rentstream check` found something:\n{said}");
        assert!(said.contains(" 0 violations"), "{said}");
        said
    }

    /// [`World::check`], and no process owes anything.
    pub async fn check_at_rest(&self) {
        let said = self.check().await;
        assert!(said.contains("0 under way"), "{said}");
    }

    /// A token.
    pub fn token(&self, role: Role, subject: &str) -> String {
        self.auth.mint(role, subject, Duration::from_secs(3600)).unwrap()
    }

    /// The shop's token.
    pub fn manager(&self) -> String {
        self.token(Role::Manager, "manager")
    }

    /// A courier's token.
    pub fn courier(&self) -> String {
        self.token(Role::Courier, "courier")
    }

    /// The operator's token.
    pub fn operator(&self) -> String {
        self.token(Role::Operator, "operator")
    }

    /// The last position that a write of this scenario was answered with.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// What the processes have logged.
    pub fn logs(&self) -> String {
        self.system.inner().running.iter().map(Running::log_tail).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.system.inner().running.iter_mut().for_each(Running::show);
            // Above all that it's easily overlooked.
            eprintln!("--- {}", failing::why());
        }
    }
}
