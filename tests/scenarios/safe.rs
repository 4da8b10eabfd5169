//! Safe: rows 38 and 39.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::Utc;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rentstream_tests::shop::{card, order};
use rentstream_tests::world::SECRET;
use rentstream_tests::{World, book};
use reqwest::Method;
use serde_json::{Value, json};

fn signed(claims: &Value, algorithm: Algorithm, secret: &str) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes()))
        .unwrap()
}

#[tokio::test]
async fn a_token_that_is_missing_expired_forged_or_unsigned_is_refused() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book()).await;
    let head = || world.history(&minji);
    let before = head().await;

    let in_an_hour = Utc::now().timestamp() + 3600;
    let claims = |iss: &str, exp: i64| json!({ "sub": minji.id, "role": "customer", "iss": iss, "exp": exp });
    let good = claims("rentstream", in_an_hour);
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = |alg: &str| format!("{}.{}.", part(&json!({ "alg": alg, "typ": "JWT" })), part(&good));
    let honest = signed(&good, Algorithm::HS256, SECRET);
    let (rest, signature) = honest.rsplit_once('.').unwrap();
    let header = rest.split('.').next().unwrap();
    let mut promoted = good.clone();
    promoted["role"] = json!("manager");
    let mut eternal = good.clone();
    eternal.as_object_mut().unwrap().remove("exp");
    let but = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        signed(&claims, Algorithm::HS256, SECRET)
    };

    let wrong = [
        ("expired", signed(&claims("rentstream", Utc::now().timestamp() - 60), Algorithm::HS256, SECRET)),
        ("never expires", signed(&eternal, Algorithm::HS256, SECRET)),
        ("another issuer", signed(&claims("elsewhere", in_an_hour), Algorithm::HS256, SECRET)),
        ("another secret", signed(&good, Algorithm::HS256, "another secret, just as long as the right one")),
        ("not valid yet", but("nbf", json!(in_an_hour))),
        ("a role that nobody has", but("role", json!("owner"))),
        ("a subject that can't be stored", but("sub", json!("a\u{0}b"))),
        ("a header that must be understood", {
            let header = part(&json!({ "alg": "HS256", "crit": ["b64"], "b64": false }));
            format!("{header}.{}.{signature}", part(&good))
        }),
        ("another algorithm", signed(&good, Algorithm::HS384, SECRET)),
        ("none", unsigned("none")),
        ("None", unsigned("None")),
        ("no signature", format!("{rest}.")),
        ("another payload", format!("{header}.{}.{signature}", part(&promoted))),
        ("no token at all", "x".to_owned()),
    ];
    let page = format!("/v1/customers/{}", minji.id);
    let body = order(&minji, book, &card());
    for (what, token) in &wrong {
        for answer in [
            world.get(&page).by(token).await,
            world.post("/v1/rentals").by(token).json(&body).await,
            // Where nobody need show a token, a wrong one is refused all the same.
            world.post("/v1/customers").by(token).json(&json!({ "name": "X" })).await,
        ] {
            assert_eq!((answer.status, &answer["type"]), (401, &json!("unauthorized")), "{what}: {answer:?}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{what}");
        }
    }
    world.get(&page).await.refused(401, "unauthorized");
    world.post("/v1/rentals").json(&body).await.refused(401, "unauthorized");
    world.get(&page).header("authorization", "Basic bWluamk6").await.refused(401, "unauthorized");
    world.get(&page).by(&honest).await.expect(200);
    assert_eq!(head().await, before);
}

#[tokio::test]
async fn nobody_sees_or_touches_what_is_another_customers() {
    let world = World::shared().await;
    let (minji, jun) = (world.customer("Min-ji").await, world.customer("Jun").await);
    let book = world.item(book()).await;
    let rental = world.rent(&minji, book).await;
    world.settle().await;
    let (id, of) = (rental.id, minji.id);
    for path in
        [format!("/v1/customers/{of}"), format!("/v1/customers/{of}/rentals"), format!("/v1/rentals/{id}")]
    {
        world.get(&path).by(&jun).after_seen().await.refused(403, "forbidden");
        world.get(&path).by(&minji).after_seen().await.expect(200);
        world.get(&path).by(world.manager()).after_seen().await.expect(200);
    }
    world.cancel(&jun, &rental).await.refused(403, "forbidden");
    world.give_back(&jun, &rental).await.refused(403, "forbidden");
    let in_her_name = order(&minji, book, &card());
    world.post("/v1/rentals").by(&jun).json(&in_her_name).await.refused(403, "forbidden");
    let renamed = json!({ "name": "Jun's now" });
    world
        .ask(Method::PATCH, &format!("/v1/customers/{of}"))
        .by(&jun)
        .json(&renamed)
        .await
        .refused(403, "forbidden");
    world.settle().await;
    assert_eq!(world.row(&minji, &rental).await["status"], "accepted");
    assert!(world.history(&jun).await.is_empty());
}

#[tokio::test]
async fn each_role_keeps_to_its_own() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let item = world.item(book()).await;
    let rental = world.rent(&minji, item).await;
    world.settle().await;
    let (courier, operator) = (world.courier(), world.operator());
    for token in [minji.as_ref(), &courier, &operator] {
        let refused = world.get("/v1/rentals").by(token).await.refused(403, "forbidden");
        assert_eq!(refused["detail"], "this is for the role manager");
        world.post("/v1/items").by(token).json(book().body()).await.refused(403, "forbidden");
        world.ask(Method::DELETE, &format!("/v1/items/{item}")).by(token).await.refused(403, "forbidden");
        let units = format!("/v1/items/{item}/units");
        world.post(&units).by(token).json(&json!({ "add": 5 })).await.refused(403, "forbidden");
        let points = format!("/v1/customers/{}/points", minji.id);
        world.post(&points).by(token).json(&json!({ "amount": 5 })).await.refused(403, "forbidden");
    }
    let complete = format!("/v1/deliveries/{}/complete", rental.delivery.unwrap());
    for token in [minji.as_ref(), &operator] {
        world.post(&complete).by(token).await.refused(403, "forbidden");
    }
    for token in [minji.as_ref(), &courier] {
        world.get("/v1/views").by(token).await.refused(403, "forbidden");
    }
    world.get("/v1/items").await.expect(200);
}

#[tokio::test]
async fn no_endpoint_lets_a_client_state_a_fact() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let item = world.item(book()).await;
    for (field, value) in [
        ("status", json!("accepted")),
        ("paid", json!(true)),
        ("rental_id", json!(minji.id)),
        ("payment_id", json!(minji.id)),
        ("price", json!(0)),
        ("due_at", json!("2099-01-01T00:00:00Z")),
    ] {
        let mut forged = order(&minji, item, &card());
        forged[field] = value;
        let refused = world.post("/v1/rentals").by(&minji).json(&forged).await.refused(422, "invalid-field");
        assert_eq!(refused["field"], field);
    }
    let manager = world.manager();
    // Nothing is in stock by being said to be: an item's units come and go, one by one.
    for (method, path, mut body, field) in [
        (Method::POST, "/v1/items".to_owned(), book().body().clone(), "available"),
        (Method::POST, "/v1/items".to_owned(), book().body().clone(), "reserved"),
        (Method::PATCH, format!("/v1/items/{item}"), json!({}), "units"),
        (Method::PATCH, format!("/v1/items/{item}"), json!({}), "available"),
        (Method::POST, format!("/v1/items/{item}/units"), json!({ "add": 1 }), "available"),
        (Method::POST, "/v1/customers".to_owned(), json!({ "name": "Min-ji" }), "points"),
        (Method::PATCH, format!("/v1/customers/{}", minji.id), json!({}), "points"),
        (Method::POST, format!("/v1/customers/{}/points", minji.id), json!({ "amount": 5 }), "balance"),
    ] {
        body[field] = json!(1);
        let refused = world.ask(method, &path).by(&manager).json(&body).await.refused(422, "invalid-field");
        assert_eq!(refused["field"], field, "{path}");
    }
    // What is delivered is the courier's to say, and nobody else's.
    let rental = world.rent(&minji, item).await;
    world.settle().await;
    let complete = format!("/v1/deliveries/{}/complete", rental.delivery.unwrap());
    for token in [minji.as_ref(), &manager, &world.operator()] {
        let refused = world.post(&complete).by(token).await.refused(403, "forbidden");
        assert_eq!(refused["detail"], "this is for the role courier");
    }
    for forged in ["refunded", "status", "paid"] {
        let path = format!("/v1/rentals/{}/cancel", rental.id);
        let refused = world.post(&path).by(&minji).json(&json!({ forged: true })).await;
        assert_eq!(refused.refused(422, "invalid-field")["field"], forged);
    }
    assert_eq!(world.row(&minji, &rental).await["status"], "accepted");
    for path in ["/v1/payments", "/v1/deliveries", "/v1/cancellations", "/v1/rentals/1/deliver", "/v1/events"]
    {
        let answer = world.post(path).by(&manager).json(&json!({})).await;
        assert!([404, 405].contains(&answer.status), "{answer:?}");
    }
    assert_eq!(world.history(&minji).await.len(), 1);
}

#[tokio::test]
async fn every_route_but_the_open_ones_wants_a_token() {
    let world = World::shared().await;
    let id = world.customer("Min-ji").await.id;
    let (get, post) = (Method::GET, Method::POST);
    for (method, path) in [
        (Method::PATCH, format!("/v1/customers/{id}")),
        (Method::DELETE, format!("/v1/customers/{id}")),
        (post.clone(), format!("/v1/customers/{id}/points")),
        (post.clone(), "/v1/items".to_owned()),
        (Method::PATCH, format!("/v1/items/{id}")),
        (Method::DELETE, format!("/v1/items/{id}")),
        (post.clone(), format!("/v1/items/{id}/units")),
        (post.clone(), "/v1/rentals".to_owned()),
        (post.clone(), format!("/v1/rentals/{id}/cancel")),
        (post.clone(), format!("/v1/rentals/{id}/return")),
        (post, format!("/v1/deliveries/{id}/complete")),
        (get.clone(), format!("/v1/customers/{id}")),
        (get.clone(), format!("/v1/customers/{id}/rentals")),
        (get.clone(), "/v1/rentals".to_owned()),
        (get.clone(), format!("/v1/customers/{id}/messages")),
        (get.clone(), format!("/v1/rentals/{id}")),
        (get.clone(), "/v1/payments".to_owned()),
        (get.clone(), "/v1/deliveries".to_owned()),
        (get.clone(), "/v1/views".to_owned()),
        (get.clone(), "/v1/views/my-page/parked".to_owned()),
    ] {
        let refused = world.ask(method, &path).json(&json!({})).await.refused(401, "unauthorized");
        assert_eq!(refused["detail"], "a bearer token is needed", "{path}");
    }
    for open in ["/v1/items", "/health/live", "/health/ready"] {
        world.ask(get.clone(), open).await.expect(200);
    }
}
