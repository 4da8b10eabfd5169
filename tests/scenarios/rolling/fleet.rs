//! Replicas of every role behind the gateway, and what must be true of them in the end.

use std::collections::BTreeSet;

use futures::future::join_all;
use rentstream_projections::views;
use rentstream_tests::World;
use rentstream_tests::endpoints::Endpoints;
use rentstream_tests::gateway::Gateway;
use rentstream_tests::replica::Replica;

use super::load::Load;

/// What there are several of, in the order in which they're replaced.
pub(crate) const ROLES: [&str; 5] = ["command-api", "query-api", "project", "react", "relay"];
/// What a rental by card of something digital is told by.
const NOTICES: i64 = 2;

pub(crate) struct Fleet {
    pub(crate) world: World,
    replicas: Vec<(&'static str, Vec<Replica>)>,
    told: Endpoints,
    _notifier: Replica,
    _gateway: Gateway,
}

impl Fleet {
    /// So many of each role; the gateway knows where up to so many may be.
    pub(crate) async fn open(
        running: usize,
        known: usize,
        settings: &[(&'static str, &str)],
        gateway: &[(&str, &str)],
    ) -> Self {
        let world = World::of_roles(&[]).await;
        let told = Endpoints::start().await;
        let settings = [settings, &[("RENTSTREAM_RATE_LIMIT", "off"), ("RUST_LOG", "warn")]].concat();
        let of = |role| (0..known).map(|_| Replica::that_will_be(role, &settings)).collect();
        let replicas: Vec<(_, Vec<_>)> = ROLES.map(|role| (role, of(role))).into();
        let all = replicas.iter().flat_map(|(_, replicas)| &replicas[..running]);
        join_all(all.map(|replica| replica.again(&world))).await;
        let webhook = told.webhook();
        let webhook: Vec<_> = webhook.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let notifier = Replica::of(&world, "notify", &webhook).await;
        let at = |number: usize| replicas[number].1.iter().map(Replica::address).collect::<Vec<_>>();
        let gateway = Gateway::start(&world, &at(0), &at(1), gateway).await;
        world.views_are_made().await;
        Self { world, replicas, told, _notifier: notifier, _gateway: gateway }
    }

    /// Those of a role.
    pub(crate) fn of(&self, role: &str) -> &[Replica] {
        self.replicas.iter().find(|(name, _)| *name == role).map(|(_, replicas)| replicas).unwrap()
    }

    /// Waits until the gateway asks it, if it's one that is asked.
    pub(crate) async fn is_used(&self, replica: &Replica) {
        if replica.role().ends_with("-api") {
            let answers = || async { (replica.answered(&self.world).await > 0).then_some(()) };
            self.world.until("the gateway asks it", answers).await;
        }
    }

    /// All that was answered is there, once; nothing else is; the views say so, and so do they when made anew.
    pub(crate) async fn nothing_was_given_up(&self, load: &Load<'_>) {
        let world = &self.world;
        let (rentals, deposits) = load.done_so_far();
        world.settle().await;
        for (event, times) in
            [("RentalRequested", rentals), ("RentalDelivered", rentals), ("PointsDeposited", deposits)]
        {
            assert_eq!(world.count_all(event).await, times, "{event}");
        }
        assert_eq!(world.ledger().await["totals"]["charged"], rentals * 900);
        let rows = world.all_rows().await;
        let rebuilt = join_all(views::ALL.map(async |view| world.run(&["rebuild", view.name]).await)).await;
        for output in rebuilt {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        for ((view, before), (_, after)) in rows.iter().zip(&world.all_rows().await) {
            assert!(before == after, "{view} is not what the log makes of it");
        }
        world.mirrored().await;
        world.check_at_rest().await;
        let webhooks = || async { (self.told_of() >= rentals * NOTICES).then_some(()) };
        world.until("all is told", webhooks).await;
        assert_eq!(self.told_of(), rentals * NOTICES, "something else was told");
    }

    /// How many notices were told; a try that was cut short is made again under the same id.
    fn told_of(&self) -> i64 {
        let told = self.told.webhooks();
        told.iter().map(|told| told.header("webhook-id")).collect::<BTreeSet<&str>>().len() as i64
    }

    /// Nobody was in the way of the notifier, so it had no reason to tell anything again.
    pub(crate) fn nothing_was_told_twice(&self) {
        assert_eq!(self.told.webhooks().len() as i64, self.told_of());
    }
}
