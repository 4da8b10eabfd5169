//! The same request again, with its Idempotency-Key: on every write, across processes, and long after.

use std::future::IntoFuture;

use futures::future::join_all;
use rentstream_tests::shop::{card, order};
use rentstream_tests::{Answer, Rental, World, book};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn every_write_done_twice_by_one_key_is_done_once() {
    let world = World::up(&[]).await;
    let (minji, item) = (world.customer("Min-ji").await, world.item(book().units(9)).await);
    let another = world.item(book()).await;
    let (brought, kept, called_off) =
        futures::join!(world.rent(&minji, item), world.rent(&minji, item), world.rent(&minji, item));
    world.settle().await;
    world.deliver(&kept).await.expect(200);
    let (manager, courier) = (world.manager(), world.courier());
    let customer = format!("/v1/customers/{}", minji.id);
    let units = format!("/v1/items/{item}/units");
    let complete = |rental: &Rental| format!("/v1/deliveries/{}/complete", rental.delivery.unwrap());
    let end = |rental: &Rental, how: &str| format!("/v1/rentals/{}/{how}", rental.id);
    let (mut dearer, mut more) = (book().body().clone(), order(&minji, item, &card()));
    dearer["price"] = json!(1501);
    more["units"] = json!(2);
    let (post, patch, delete) = (Method::POST, Method::PATCH, Method::DELETE);
    let shop = |method, path, body, other_path, other_body, status| {
        (method, &manager as &str, (path, body), (other_path, other_body), status)
    };
    let mine = |path, body, other_path, other_body, status| {
        (&post, minji.as_ref(), (path, body), (other_path, other_body), status)
    };
    let at = |path: &str| path.to_owned();
    let writes = [
        shop(
            &post,
            at("/v1/customers"),
            json!({ "name": "Jun" }),
            at("/v1/customers"),
            json!({ "name": "X" }),
            201,
        ),
        shop(
            &patch,
            customer.clone(),
            json!({ "phone": "1" }),
            customer.clone(),
            json!({ "phone": "2" }),
            200,
        ),
        shop(
            &post,
            format!("{customer}/points"),
            json!({ "amount": 70 }),
            format!("{customer}/points"),
            json!({ "amount": 71 }),
            200,
        ),
        shop(&post, at("/v1/items"), book().body().clone(), at("/v1/items"), dearer, 201),
        shop(
            &patch,
            format!("/v1/items/{item}"),
            json!({ "price": 1600 }),
            format!("/v1/items/{another}"),
            json!({ "price": 1600 }),
            200,
        ),
        shop(&post, units.clone(), json!({ "add": 3 }), units.clone(), json!({ "withdraw": 3 }), 200),
        mine(at("/v1/rentals"), order(&minji, item, &card()), at("/v1/rentals"), more, 201),
        mine(
            end(&called_off, "cancel"),
            json!({}),
            end(&called_off, "cancel"),
            json!({ "reason": "no" }),
            202,
        ),
        mine(end(&kept, "return"), Value::Null, end(&brought, "cancel"), Value::Null, 200),
        (&post, &courier, (complete(&brought), Value::Null), (complete(&kept), Value::Null), 200),
        shop(
            &delete,
            format!("/v1/items/{item}"),
            Value::Null,
            format!("/v1/items/{another}"),
            Value::Null,
            200,
        ),
    ];
    for (n, (method, token, (path, body), (other_path, other_body), status)) in writes.into_iter().enumerate()
    {
        let key = format!("write-{n}");
        let ask = |path: &str, body: &Value| {
            let ask = world.ask(method.clone(), path).by(token).key(&key);
            if body.is_null() { ask.into_future() } else { ask.json(body).into_future() }
        };
        let first = ask(&path, &body).await.expect(status);
        world.settle().await;
        let head = world.head().await;
        assert_eq!(ask(&path, &body).await.expect(status).body, first.body, "{method} {path}");
        ask(&other_path, &other_body).await.refused(422, "idempotency-key-reused");
        assert_eq!(world.head().await, head, "{method} {path} was done twice");
    }
    world.check_at_rest().await;
}

/// Sends the same to two processes in turn, all at once.
async fn to_both<F>(world: &World, both: [&str; 2], times: usize, ask: impl Fn() -> F) -> Vec<Answer>
where
    F: Future<Output = Answer>,
{
    let asked = (0..times).map(|n| {
        world.serves("writes", both[n % 2]);
        ask()
    });
    join_all(asked.collect::<Vec<_>>()).await
}

/// One that was done, the others the same or told to come back.
fn one_answer(answers: &[Answer], status: u16) -> &Answer {
    let (flying, known): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.status == 409 && answer["type"] == "request-in-flight");
    for answer in flying {
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
    }
    let first = *known.first().unwrap_or_else(|| panic!("nobody knows: {answers:?}"));
    for answer in known {
        assert_eq!((answer.status, &answer.body, answer.position()), (status, &first.body, first.position()));
    }
    first
}

#[tokio::test]
async fn one_key_at_two_processes_at_once_is_one_effect_and_one_answer() {
    let world = World::of_roles(&["relay", "react", "project", "command-api", "query-api"]).await;
    let one = world.address("writes");
    world.start_api("command-api").await;
    let other = world.address("writes");
    let both = [one.as_str(), other.as_str()];
    let minji = world.customer("Min-ji").await;
    let item = world.item(book().units(30)).await;
    let body = order(&minji, item, &card());
    for round in 0..10 {
        let key = format!("rent-{round}");
        let rent = || world.post("/v1/rentals").by(&minji).key(&key).json(&body).into_future();
        let answers = to_both(&world, both, 6, rent).await;
        let rental = one_answer(&answers, 201)["rental_id"].clone();
        assert_eq!(world.charges_for(&rental).await, [(1500, 0)]);
    }
    assert_eq!(world.count_all("RentalRequested").await, 10);

    // The last unit can be withdrawn once: who comes second with the same key is not refused.
    let manager = world.manager();
    for round in 0..10 {
        let last = world.item(book().units(1)).await;
        let (path, key) = (format!("/v1/items/{last}/units"), format!("withdraw-{round}"));
        let withdraw =
            || world.post(&path).by(&manager).key(&key).json(&json!({ "withdraw": 1 })).into_future();
        let answers = to_both(&world, both, 6, withdraw).await;
        assert_eq!(one_answer(&answers, 200)["available"], 0);
    }
    assert_eq!(world.count_all("UnitsWithdrawn").await, 10);

    // While the gateway is slow nobody knows better than that it's held.
    world.gateway("slow").await;
    let rent = || world.post("/v1/rentals").by(&minji).key("slow").json(&body).into_future();
    let answers = to_both(&world, both, 4, rent).await;
    let held = one_answer(&answers, 202)["rental_id"].clone();
    world.gateway("ok").await;
    let accepted = || async { (world.count_all("RentalAccepted").await == 11).then_some(()) };
    world.until("the held rental is accepted", accepted).await;
    assert_eq!(world.charges_for(&held).await, [(1500, 0)]);
    world.settle().await;
    world.check_at_rest().await;
}

#[tokio::test]
async fn an_old_answer_is_purged_and_the_rental_is_not_doubled_all_the_same() {
    let world = World::up(&[("RENTSTREAM_IDEMPOTENCY_KEEP", "3600")]).await;
    let minji = world.customer("Min-ji").await;
    let item = world.item(book().units(5)).await;
    let body = order(&minji, item, &card());
    let rent = |key: &str| world.post("/v1/rentals").by(&minji).key(key).json(&body).into_future();
    let first = rent("old").await.expect(201);
    rent("fresh").await.expect(201);
    world.settle().await;
    world.age_answer("old", 3601).await;
    world.stop("up").await;
    world.start_up(&[]).await;
    let gone = || async { (!world.answer_is_kept("old").await).then_some(()) };
    world.until("the old answer is purged", gone).await;
    assert!(world.answer_is_kept("fresh").await);

    let again = rent("old").await.expect(201);
    assert_eq!(again["rental_id"], first["rental_id"]);
    world.settle().await;
    assert_eq!(world.count_all("RentalRequested").await, 2);
    assert_eq!(world.charges_for(&first["rental_id"]).await, [(1500, 0)]);
    assert_eq!(world.available(item).await, 3);
    world.check_at_rest().await;
}

#[tokio::test]
async fn a_refusal_that_could_not_be_kept_was_no_answer_and_the_key_may_be_answered_otherwise() {
    let world = World::up(&[]).await;
    let (manager, item) = (world.manager(), world.item(book().units(0)).await);
    let path = format!("/v1/items/{item}/units");
    let withdraw =
        || world.post(&path).by(&manager).key("withdraw").json(&json!({ "withdraw": 1 })).into_future();
    let away = "CREATE FUNCTION is_away() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN RAISE EXCEPTION 'it is away' USING ERRCODE = 'connection_failure'; END $$;
                CREATE TRIGGER is_away BEFORE INSERT ON idempotency FOR EACH ROW EXECUTE FUNCTION is_away()";
    sqlx::raw_sql(away).execute(world.log_pool()).await.unwrap();
    withdraw().await.refused(503, "log-unavailable");

    let back = "DROP TRIGGER is_away ON idempotency; DROP FUNCTION is_away";
    sqlx::raw_sql(back).execute(world.log_pool()).await.unwrap();
    world.post(&path).by(&manager).json(&json!({ "add": 1 })).await.expect(200);
    let done = withdraw().await.expect(200);
    assert_eq!(withdraw().await.expect(200).body, done.body);
    assert_eq!(world.count_all("UnitsWithdrawn").await, 1);
}
