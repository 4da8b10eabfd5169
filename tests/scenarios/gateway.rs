//! The single entrance in production: row 40 before several replicas of either API, behind this machine's nginx.

use futures::future::join_all;
use rentstream_infra::http::problem::Problem;
use rentstream_tests::gateway::Gateway;
use rentstream_tests::replica::Replica;
use rentstream_tests::shop::{card, order};
use rentstream_tests::{Customer, World, book, ebook};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

/// The replicas' own limit is looked at elsewhere.
const SETTINGS: [(&str, &str); 2] = [("RENTSTREAM_RATE_LIMIT", "off"), ("RENTSTREAM_TRUSTED_PROXIES", "1")];

/// Two replicas of either API, and what is behind them; no gateway yet.
struct Shop {
    world: World,
    writes: [Replica; 2],
    reads: [Replica; 2],
}

impl Shop {
    async fn open() -> Self {
        let world = World::of_roles(&["relay", "react", "project"]).await;
        let (one, two, three, four) = futures::join!(
            Replica::of(&world, "command-api", &SETTINGS),
            Replica::of(&world, "command-api", &SETTINGS),
            Replica::of(&world, "query-api", &SETTINGS),
            Replica::of(&world, "query-api", &SETTINGS),
        );
        world.serves("reads", three.address());
        world.views_are_made().await;
        Self { world, writes: [one, two], reads: [three, four] }
    }

    async fn gateway(&self, settings: &[(&str, &str)]) -> Gateway {
        let addresses = |of: &[Replica; 2]| [of[0].address().to_owned(), of[1].address().to_owned()];
        let (writes, reads) = (addresses(&self.writes), addresses(&self.reads));
        Gateway::start(&self.world, &[&writes[0], &writes[1]], &[&reads[0], &reads[1]], settings).await
    }
}

/// What the description says: the method and path of each route, with ids of nothing in it.
fn routes(described: &Value) -> Vec<(Method, String)> {
    let paths = described["paths"].as_object().unwrap();
    let mut routes = Vec::new();
    for (path, methods) in paths {
        let path: String = path
            .split('/')
            .map(|part| if part.starts_with('{') { Uuid::nil().to_string() } else { part.to_owned() })
            .collect::<Vec<_>>()
            .join("/");
        for method in methods.as_object().unwrap().keys() {
            routes.push((method.to_uppercase().parse().unwrap(), path.clone()));
        }
    }
    routes
}

#[tokio::test]
async fn every_route_of_both_apis_is_reached_through_one_port() {
    let shop = Shop::open().await;
    let world = &shop.world;
    // Each API describes the whole.
    let described = async |api: &Replica| {
        world.ask_at(api.address(), Method::GET, "/openapi.json").await.expect(200).body
    };
    let whole = described(&shop.writes[0]).await;
    assert_eq!(described(&shop.reads[0]).await, whole);
    let _gateway = shop.gateway(&[]).await;
    assert_eq!(world.get("/openapi.json").await.expect(200).body, whole);
    let (mut by_writes, mut by_reads) = (0, 0);
    for (method, path) in routes(&whole) {
        let through = world.ask(method.clone(), &path).by(world.manager());
        if path.ends_with("/stream") {
            // It stays open; that it begins is enough here.
            through.watch().await;
            continue;
        }
        let through = through.await;
        if path.starts_with("/health/") || path == "/metrics" {
            through.refused(404, "no-such-route");
            continue;
        }
        let straight = async |api: &Replica| {
            let answer = world.ask_at(api.address(), method.clone(), &path).by(world.manager()).await;
            let is_there = answer.status != 405 && answer["type"] != "no-such-route";
            is_there.then(|| (answer.status, answer["type"].clone()))
        };
        let (writes, reads) = (straight(&shop.writes[0]).await, straight(&shop.reads[0]).await);
        by_writes += usize::from(writes.is_some());
        by_reads += usize::from(reads.is_some());
        let expected = writes.or(reads).unwrap_or_else(|| panic!("no API has {method} {path}"));
        assert_eq!((through.status, through["type"].clone()), expected, "{method} {path}");
    }
    assert!(by_writes >= 12 && by_reads >= 14, "{by_writes} writes and {by_reads} reads");
    world.get("/health").await.expect(200);
    world.get("/v1/nothing").await.refused(404, "no-such-route");
    world.get("/nothing").await.refused(404, "no-such-route");
    world.ask(Method::PUT, "/v1/items").await.refused(405, "method-not-allowed");
}

#[tokio::test]
async fn a_shops_day_goes_through_the_gateway_to_all_replicas() {
    let shop = Shop::open().await;
    let gateway = shop.gateway(&[]).await;
    let world = &shop.world;
    let (minji, book) = (world.customer("Min-ji").await, world.item(book().units(50)).await);
    let rentals = join_all((0..20).map(|_| world.rent(&minji, book))).await;
    assert_eq!(world.history(&minji).await.len(), 20);
    world.cancel(&minji, &rentals[0]).await.expect(202);
    world.settle().await;
    assert_eq!(world.row(&minji, &rentals[0]).await["status"], "cancelled");
    world.check_at_rest().await;
    for replica in shop.writes.iter().chain(&shop.reads) {
        assert!(replica.answered(world).await > 0, "a {} had nothing to do", replica.role());
    }
    drop(gateway);
}

#[tokio::test]
async fn a_stream_through_the_gateway_tells_at_once_and_is_resumed_at_another_replica() {
    let shop = Shop::open().await;
    let _gateway = shop.gateway(&[]).await;
    let world = &shop.world;
    let (minji, ebook) = (world.customer("Min-ji").await, world.item(ebook()).await);
    let path = format!("/v1/customers/{}/stream", minji.id);
    let mut watch = world.get(&path).by(&minji).watch().await;
    let first = world.rent(&minji, ebook).await;
    // The stream stays open, so what was held back somewhere would not come in time.
    let is = |id: Uuid| move |told: &rentstream_tests::watching::Told| told.data["rental_id"] == json!(id);
    watch.until(is(first.id)).await;
    world.settle().await;
    let last_id = watch.last_id.clone().unwrap();
    // Its replica dies; the other has all that came meanwhile.
    shop.reads[0].kill();
    let second = world.rent(&minji, ebook).await;
    let mut resumed = world.get(&path).by(&minji).header("last-event-id", &last_id).watch().await;
    let told = resumed.until(is(second.id)).await;
    assert!(told.iter().all(|told| told.id > last_id.parse().unwrap()), "{told:?}");
}

#[tokio::test]
async fn what_the_gateway_turns_away_is_told_as_the_apis_tell_it() {
    let shop = Shop::open().await;
    let world = &shop.world;
    let allowed = "https://shop.example";
    let settings = [
        ("GATEWAY_RATE", "5"),
        ("GATEWAY_BURST", "10"),
        ("GATEWAY_STREAMS", "2"),
        ("GATEWAY_CORS_ORIGINS", "https://desk.example https://shop.example"),
    ];
    let gateway = shop.gateway(&settings).await;
    let problem = |status: u16, kind: &'static str| {
        let status = reqwest::StatusCode::from_u16(status).unwrap();
        Problem::new(status, kind, "").body()["title"].clone()
    };

    // Too large.
    let large = vec![b' '; 80 * 1024];
    let answer = world.post("/v1/items").by(world.manager()).bytes(large).await.refused(413, "too-large");
    assert_eq!((&answer["title"], &answer["status"]), (&problem(413, "too-large"), &json!(413)));
    assert!(!answer["detail"].as_str().unwrap().is_empty());

    // A page elsewhere may ask if it's the shop's.
    let preflight = async |origin: &str| {
        let ask = world.ask(Method::OPTIONS, "/v1/rentals").header("origin", origin);
        ask.header("access-control-request-method", "POST").await
    };
    let answer = preflight(allowed).await.expect(204);
    assert_eq!(answer.header("access-control-allow-origin"), Some(allowed));
    assert!(answer.header("access-control-allow-methods").unwrap().contains("PATCH"));
    assert!(answer.header("access-control-allow-headers").unwrap().contains("Idempotency-Key"));
    assert_eq!(answer.header("vary"), Some("Origin"));
    for other in
        ["https://shopxexample", "https://shop.example.evil", "https://desk.example https://shop.example"]
    {
        let answer = preflight(other).await.refused(405, "method-not-allowed");
        assert_eq!(answer.header("access-control-allow-origin"), None, "{other}");
    }
    let answer = world.get("/v1/items").header("origin", allowed).await.expect(200);
    assert_eq!(answer.header("access-control-allow-origin"), Some(allowed));
    assert!(answer.header("access-control-expose-headers").unwrap().contains("Rentstream-Position"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));

    // A stream too many.
    let minji = Customer::of(world, Uuid::now_v7());
    let path = format!("/v1/customers/{}/stream", minji.id);
    let open = [world.get(&path).by(&minji).watch().await, world.get(&path).by(&minji).watch().await];
    let refused = world.get(&path).by(&minji).try_watch().await;
    refused.err().expect("two are open").refused(429, "rate-limited");
    drop(open);

    // Too often.
    let answers = join_all((0..60).map(|_| async { world.get("/v1/items").await })).await;
    let refused: Vec<_> = answers.into_iter().filter(|answer| answer.status != 200).collect();
    assert!(refused.len() >= 40, "{} of 60 were refused", refused.len());
    for answer in refused {
        let answer = answer.refused(429, "rate-limited");
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert!(answer.header("x-request-id").is_some());
        assert_eq!((&answer["title"], &answer["status"]), (&problem(429, "rate-limited"), &json!(429)));
    }
    // How the gateway does can always be asked.
    world.get("/health").await.expect(200);

    // Nobody is there.
    for replica in &shop.reads {
        replica.kill();
    }
    world
        .until("the gateway says that nobody is there", || async {
            let answer = world.get("/v1/items").await;
            (answer.status == 503).then(|| answer.refused(503, "unavailable"))
        })
        .await;
    drop(gateway);
}

#[tokio::test]
async fn a_request_keeps_its_id_on_its_whole_way() {
    let shop = Shop::open().await;
    let gateway = shop.gateway(&[]).await;
    let world = &shop.world;
    let sent = "from-the-page_1.2";
    let answer = world.get("/v1/items").header("x-request-id", sent).await.expect(200);
    assert_eq!(answer.headers.get_all("x-request-id").iter().collect::<Vec<_>>(), [sent]);
    // One that is no id is not taken over, and none is made up where there is one already.
    let answer = world.get("/v1/items").header("x-request-id", "a b\"}{").await.expect(200);
    let made = answer.header("x-request-id").unwrap().to_owned();
    assert!(made.len() == 32 && made.chars().all(|c| c.is_ascii_hexdigit()), "{made}");
    let logged = || async { gateway.log().contains(&format!(r#""request_id":"{made}""#)).then_some(()) };
    world.until("the gateway logs the request", logged).await;
}

#[tokio::test]
async fn each_caller_has_an_own_limit_behind_the_gateway() {
    let shop = Shop::open().await;
    let strict = [("RENTSTREAM_RATE_LIMIT", "1"), ("RENTSTREAM_TRUSTED_PROXIES", "1")];
    let replica = Replica::of(&shop.world, "query-api", &strict).await;
    let world = &shop.world;
    // The balancer before the gateway, which is us, says who asks.
    let settings = [("GATEWAY_TRUSTED_PROXIES", "127.0.0.1")];
    let gateway = Gateway::start(world, &[shop.writes[0].address()], &[replica.address()], &settings).await;
    let ask =
        |from: &'static str| async move { world.get("/v1/items").header("x-forwarded-for", from).await };
    let answers = join_all((0..15).map(|_| ask("1.1.1.1"))).await;
    assert!(answers.iter().any(|answer| answer.status == 429), "{answers:?}");
    // Somebody else's address is not worn out, and cannot be claimed by who writes more into the header.
    ask("2.2.2.2").await.expect(200);
    let answers = join_all((0..5).map(|_| ask("3.3.3.3, 1.1.1.1"))).await;
    let refused = answers.into_iter().find(|answer| answer.status == 429).expect("these are still 1.1.1.1's");
    assert!(
        refused.refused(429, "rate-limited").header("ratelimit").is_some(),
        "it was the API that counted"
    );
    drop(gateway);
}

/// Rents, deposits and looks, each of these so many times in a row; gives every answer that isn't what it should be.
async fn busy(world: &World, minji: &Customer, item: Uuid, number: usize, times: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    let page = format!("/v1/customers/{}", minji.id);
    let points = format!("{page}/points");
    for time in 0..times {
        let key = |what: &str| format!("{what}-{number}-{time}");
        let rent = world.post("/v1/rentals").by(minji).key(&key("rent")).json(&order(minji, item, &card()));
        // Without a key: the gateway sees to it.
        let deposit = world.post(&points).by(world.manager()).json(&json!({ "amount": 10 }));
        let look = world.get(&page).by(minji);
        for (asked, status) in [(rent, 201), (deposit, 200), (look, 200)] {
            match asked.attempt().await {
                Ok(answer) if answer.status == status => {}
                other => wrong.push(format!("{other:?}")),
            }
        }
    }
    wrong
}

#[tokio::test]
async fn replicas_that_die_in_the_middle_of_requests_are_not_noticed() {
    const CALLERS: usize = 6;
    const TIMES: usize = 25;
    let shop = Shop::open().await;
    let _gateway = shop.gateway(&[]).await;
    let world = &shop.world;
    let (minji, ebook) = (world.customer("Min-ji").await, world.item(ebook()).await);
    world.settle().await;
    let load = async { join_all((0..CALLERS).map(|number| busy(world, &minji, ebook, number, TIMES))).await };
    let killing = async {
        for replica in [&shop.writes[0], &shop.reads[0], &shop.writes[1], &shop.reads[1]] {
            replica.kill();
            replica.again(world).await;
            // It's in use again before the other one dies.
            let before = replica.answered(world).await;
            let used = || async { (replica.answered(world).await > before).then_some(()) };
            world.until("the gateway asks it again", used).await;
        }
    };
    let (wrong, ()) = futures::join!(load, killing);
    let wrong: Vec<_> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{} of {}: {wrong:#?}", wrong.len(), CALLERS * TIMES * 3);
    world.settle().await;
    let all = i64::try_from(CALLERS * TIMES).unwrap();
    for event in ["RentalRequested", "RentalAccepted", "PointsDeposited"] {
        assert_eq!(world.count_all(event).await, all, "{event}");
    }
    let page = world.my_page(&minji).await;
    assert_eq!(page["points"], json!(all * 10));
    assert_eq!(world.ledger().await["totals"]["charged"], json!(all * 900));
    world.check_at_rest().await;
}

#[tokio::test]
async fn a_gateway_that_is_told_of_another_replica_asks_that_one() {
    let shop = Shop::open().await;
    let world = &shop.world;
    let reads = [shop.reads[0].address()];
    let mut gateway = Gateway::start(world, &[shop.writes[0].address()], &reads, &[]).await;
    world.item(book()).await;
    gateway.reload(&[shop.writes[1].address()], &reads);
    shop.writes[0].stop().await;
    world
        .until("the other one is asked", || async {
            let ask = world.post("/v1/items").by(world.manager()).json(book().body());
            ask.attempt().await.is_ok_and(|answer| answer.status == 201).then_some(())
        })
        .await;
    assert!(shop.writes[1].answered(world).await > 0);
}
