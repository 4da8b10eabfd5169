//! Customers and staff that an identity provider knows: tokens by its keys, and the customer a subject is bound to.

use std::future::IntoFuture;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::Utc;
use futures::future::join_all;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rentstream_tests::identity::{Provider, Signer, claims};
use rentstream_tests::shop::{card, order};
use rentstream_tests::{World, book};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

async fn world_with(provider: &Provider) -> World {
    let settings = provider.settings();
    World::up(&settings.each_ref().map(|(name, value)| (*name, value.as_str()))).await
}

#[tokio::test]
async fn a_providers_tokens_are_accepted_and_its_keys_change_without_a_restart() {
    let keys = [Signer::rsa("first"), Signer::p256("second"), Signer::ed25519("third")];
    let provider = Provider::start(&keys.each_ref()).await;
    let world = world_with(&provider).await;
    for signer in &keys {
        let manager = signer.token("manager", "auth0|boss");
        world.post("/v1/items").by(&manager).json(book().body()).await.expect(201);
        let refused = world.get("/v1/rentals").by(signer.token("courier", "rider")).await;
        let refused = refused.refused(403, "forbidden");
        assert_eq!(refused["detail"], "this is for the role manager");
    }
    // A list of roles does as well, and the shop's own tokens go on.
    let mut listed = claims("", "auth0|boss");
    listed["roles"] = json!(["offline_access", "courier", "manager"]);
    world.get("/v1/rentals").by(keys[0].sign(&listed)).await.expect(200);
    world.get("/v1/rentals").by(world.manager()).await.expect(200);

    let fourth = Signer::ed25519("fourth");
    provider.publish(&[&fourth]);
    let manager = fourth.token("manager", "auth0|boss");
    let rotated = || async { (world.get("/v1/rentals").by(&manager).await.status == 200).then_some(()) };
    world.until("the new key is accepted", rotated).await;
    let withdrawn = world.get("/v1/rentals").by(keys[0].token("manager", "auth0|boss")).await;
    assert!(withdrawn.refused(401, "unauthorized")["detail"].as_str().unwrap().contains("key"));
}

#[tokio::test]
async fn a_providers_token_that_is_wrong_in_anything_is_refused_and_it_says_why() {
    let (rsa, ed, stranger) = (Signer::rsa("rsa"), Signer::ed25519("ed"), Signer::ed25519("ed"));
    let provider = Provider::start(&[&rsa, &ed]).await;
    let world = world_with(&provider).await;
    let now = Utc::now().timestamp();
    let but = |name: &str, value: Value| {
        let mut claims = claims("manager", "boss");
        claims[name] = value;
        claims
    };
    let without = |name: &str| {
        let mut claims = claims("manager", "boss");
        claims.as_object_mut().unwrap().remove(name);
        claims
    };
    let good = claims("manager", "boss");
    let named = |algorithm, kid: &str| Header { kid: Some(kid.to_owned()), ..Header::new(algorithm) };
    // What is public is no secret: signing with it proves nothing.
    let public = [rsa.jwk["n"].as_str(), ed.jwk["x"].as_str()].map(|key| {
        let bytes = URL_SAFE_NO_PAD.decode(key.unwrap()).unwrap();
        jsonwebtoken::encode(&named(Algorithm::HS256, "rsa"), &good, &EncodingKey::from_secret(&bytes))
            .unwrap()
    });
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let none = format!("{}.{}.", part(json!({ "alg": "none", "kid": "ed" })), part(good.clone()));
    let mut own_key = named(Algorithm::EdDSA, "ed");
    own_key.jwk = serde_json::from_value(stranger.jwk.clone()).ok();
    assert!(own_key.jwk.is_some());

    for (token, why) in [
        (ed.sign(&but("exp", json!(now - 60))), "the token has expired"),
        (ed.sign(&but("nbf", json!(now + 3600))), "the token is not valid yet"),
        (ed.sign(&but("iss", json!("https://id.example.org/"))), "the token is from another issuer"),
        (ed.sign(&but("iss", json!("rentstream"))), "the token is from another issuer"),
        (ed.sign(&but("aud", json!("another-shop"))), "the token is for another audience"),
        (ed.sign(&but("aud", json!(["a", "b"]))), "the token is for another audience"),
        (ed.sign(&without("aud")), "the token does not say for whom it is"),
        (ed.sign(&without("iss")), "the token does not say who issued it"),
        (ed.sign(&without("exp")), "the token does not say when it expires"),
        (ed.sign(&without("sub")), "the token does not say whose it is"),
        (ed.sign(&but("sub", json!(""))), "the token's `sub` can't be used"),
        (ed.sign(&but("sub", json!("a\u{0}b"))), "the token's `sub` can't be used"),
        (ed.sign(&but("sub", json!("x".repeat(256)))), "the token's `sub` can't be used"),
        (stranger.sign(&good), "the token's signature does not fit"),
        (stranger.sign_as(&own_key, &good), "the token's signature does not fit"),
        (ed.sign_as(&named(Algorithm::EdDSA, "rsa"), &good), "the token's algorithm is not accepted"),
        (rsa.sign_as(&named(Algorithm::RS512, "rsa"), &good), "the token's algorithm is not accepted"),
        (
            ed.sign_as(&Header::new(Algorithm::EdDSA), &good),
            "the token is signed with a key that the identity provider doesn't have",
        ),
        (public[0].clone(), "the token's signature does not fit"),
        (public[1].clone(), "the token's signature does not fit"),
        (none, "the token can't be accepted"),
        ("a.b.c".to_owned(), "the token can't be accepted"),
    ] {
        let refused = world.get("/v1/rentals").by(&token).await.refused(401, "unauthorized");
        assert_eq!(refused["detail"], why);
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
        let refused = world.post("/v1/customers").by(&token).json(&json!({ "name": "Min-ji" })).await;
        refused.refused(401, "unauthorized");
    }
    for role in [json!("owner"), json!(["a", "b"]), json!(7), Value::Null] {
        let refused = world.get("/v1/rentals").by(ed.sign(&but("role", role))).await;
        assert!(refused.refused(403, "forbidden")["detail"].as_str().unwrap().contains("`role`"));
    }
    // Clocks may differ a little.
    let just_now = Utc::now().timestamp() - 1;
    world.get("/v1/rentals").by(ed.sign(&but("exp", json!(just_now)))).await.expect(200);
    world.get("/v1/rentals").by(ed.sign(&but("aud", json!(["other", good["aud"]])))).await.expect(200);
    assert_eq!(world.head().await, 0);
}

#[tokio::test]
async fn forged_keys_do_not_make_us_hammer_the_provider() {
    let ed = Signer::ed25519("ed");
    let provider = Provider::start(&[&ed]).await;
    let world = world_with(&provider).await;
    let manager = ed.token("manager", "boss");
    world.get("/v1/rentals").by(&manager).await.expect(200);
    let began = std::time::Instant::now();
    let forged: Vec<String> =
        (0..200).map(|n| Signer::ed25519(&format!("forged-{n}")).token("manager", "boss")).collect();
    for answer in join_all(forged.iter().map(|token| world.get("/v1/rentals").by(token).into_future())).await
    {
        answer.refused(401, "unauthorized");
    }
    let (asked, most) = (provider.asked(), 3 + began.elapsed().as_secs() / 5);
    assert!(u64::from(asked) <= most, "the provider was asked {asked} times");
    world.get("/v1/rentals").by(&manager).await.expect(200);
}

#[tokio::test]
async fn while_the_provider_is_away_known_keys_go_on_and_without_any_one_is_asked_to_come_back() {
    let ed = Signer::ed25519("ed");
    let mut provider = Provider::start(&[&ed]).await;
    provider.stop();
    let world = world_with(&provider).await;
    let manager = ed.token("manager", "boss");
    let away = world.get("/v1/rentals").by(&manager).await.refused(503, "identity-provider-unavailable");
    assert!(away.header("retry-after").is_some());
    world.get("/v1/rentals").by(world.manager()).await.expect(200);
    world.get("/v1/items").await.expect(200);

    provider.listen().await;
    let back = || async { (world.get("/v1/rentals").by(&manager).await.status == 200).then_some(()) };
    world.until("the provider's tokens are accepted", back).await;
    provider.stop();
    world.get("/v1/rentals").by(&manager).await.expect(200);
    let unknown = Signer::ed25519("unknown").token("manager", "boss");
    world.get("/v1/rentals").by(&unknown).await.refused(401, "unauthorized");
    world.get("/v1/rentals").by(&manager).await.expect(200);
}

#[tokio::test]
async fn whoever_registers_with_a_providers_token_is_that_customer_from_then_on() {
    let ed = Signer::ed25519("ed");
    let provider = Provider::start(&[&ed]).await;
    let world = world_with(&provider).await;
    let book = world.item(book()).await;
    // Many providers' subjects look like ids; they are nobody's here.
    let jun = world.customer("Jun").await;
    let posing = ed.token("customer", &jun.id.to_string());
    let page = |id: Uuid| format!("/v1/customers/{id}");
    let refused = world.get(&page(jun.id)).by(&posing).await.refused(403, "forbidden");
    assert!(refused["detail"].as_str().unwrap().contains("register"));
    world.get("/v1/payments").by(&posing).await.refused(403, "forbidden");

    let subject = "auth0|5f7c8ec7c33c6c004bbafe82";
    let minji = ed.token("customer", subject);
    let me = json!({ "name": "Min-ji", "address": "12 Bukchon-ro, Seoul" });
    let register = |key: &str| world.post("/v1/customers").by(&minji).key(key).json(&me).into_future();
    let id = register("first").await.expect(201).id("customer_id");
    assert_ne!(id, jun.id);
    let again = register("first").await.expect(201);
    assert_eq!(again.id("customer_id"), id);
    for key in ["second", "second", "third"] {
        assert_eq!(register(key).await.expect(201).id("customer_id"), id);
    }
    // What another request says of the customer isn't taken: that's for a revision.
    for _ in 0..2 {
        let another =
            world.post("/v1/customers").by(&minji).key("fourth").json(&json!({ "name": "Another" }));
        assert_eq!(another.await.expect(200).id("customer_id"), id);
    }

    let body = json!({ "customer_id": id, "item_id": book, "payment": card() });
    let rental = world.post("/v1/rentals").by(&minji).json(&body).await.expect(201);
    world.post("/v1/rentals").by(&posing).json(&order(&jun, book, &card())).await.refused(403, "forbidden");
    world.settle().await;
    assert_eq!(world.get(&page(id)).by(&minji).after_seen().await.expect(200)["name"], "Min-ji");
    let payments = world.get("/v1/payments").by(&minji).after_seen().await.expect(200).items();
    assert_eq!(payments.iter().map(|row| &row["rental_id"]).collect::<Vec<_>>(), [&rental["rental_id"]]);
    world.get(&page(jun.id)).by(&minji).await.refused(403, "forbidden");
    world.get(&page(id)).by(&jun).await.refused(403, "forbidden");

    // The log knows the customer, not the name that somebody has elsewhere.
    assert_eq!(world.actors("CustomerRegistered").await, ["anonymous", &id.to_string()]);
    assert_eq!(world.actors("RentalRequested").await, [id.to_string()]);
    assert!(!world.mentioned(subject).await);
    world.check_at_rest().await;

    // Who was forgotten is nobody's any more, and may come again as somebody new.
    world.ask(Method::DELETE, &page(id)).by(&minji).await.expect(202);
    world.get(&page(id)).by(&minji).await.refused(403, "forbidden");
    world.get("/v1/payments").by(&minji).await.refused(403, "forbidden");
    let anew = register("first").await.expect(201).id("customer_id");
    assert_ne!(anew, id);
    world.get(&page(id)).by(&minji).await.refused(403, "forbidden");
    assert_eq!(world.get(&page(anew)).by(&minji).after_seen().await.expect(200)["name"], "Min-ji");
}

#[tokio::test]
async fn registering_many_times_at_once_with_one_token_makes_one_customer() {
    let ed = Signer::ed25519("ed");
    let provider = Provider::start(&[&ed]).await;
    let world = world_with(&provider).await;
    let minji = ed.token("customer", "minji");
    let me = json!({ "name": "Min-ji" });
    let register = |n: usize| {
        let ask = world.post("/v1/customers").by(&minji).json(&me);
        if n.is_multiple_of(2) { ask.into_future() } else { ask.key(&format!("key-{n}")).into_future() }
    };
    let answers = join_all((0..20).map(register)).await;
    let id = answers[0].id("customer_id");
    for answer in &answers {
        assert_eq!((answer.status, answer.id("customer_id")), (201, id));
    }
    assert_eq!(world.count_all("CustomerRegistered").await, 1);

    // A crash between the binding and the customer's first event leaves a binding to nobody yet.
    let early = Uuid::now_v7();
    world.bind("jun", early).await;
    let jun = ed.token("customer", "jun");
    world.get(&format!("/v1/customers/{early}")).by(&jun).await.refused(404, "unknown-customer");
    let registered = world.post("/v1/customers").by(&jun).json(&json!({ "name": "Jun" })).await.expect(201);
    assert_eq!(registered.id("customer_id"), early);
}
