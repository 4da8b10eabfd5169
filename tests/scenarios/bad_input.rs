//! Whatever is sent, the answer is a problem that names what is wrong; nothing breaks and nothing is written.

use rentstream_tests::shop::{card, order};
use rentstream_tests::{World, book};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

/// A change to a good body.
fn but(body: &Value, pointer: &str, value: Value) -> Vec<u8> {
    let mut body = body.clone();
    match body.pointer_mut(pointer) {
        Some(place) => *place = value,
        None => body[pointer.trim_start_matches('/')] = value,
    }
    body.to_string().into_bytes()
}

fn without(body: &Value, field: &str) -> Vec<u8> {
    let mut body = body.clone();
    body.as_object_mut().unwrap().remove(field);
    body.to_string().into_bytes()
}

/// What is sent where, and what it must be answered: a status, and the field to blame.
type Case = (Method, String, Vec<u8>, u16, Option<&'static str>);

fn writes(customer: Uuid, item: Uuid, rent: &Value) -> Vec<Case> {
    let good = book().body().clone();
    let post = |path: &str, body: Vec<u8>, field| (Method::POST, path.to_owned(), body, 422, Some(field));
    let mut cases: Vec<Case> = Vec::new();

    for (pointer, value, field) in [
        ("/units", json!(0), "units"),
        ("/units", json!(-1), "units"),
        ("/units", json!(1.5), "units"),
        ("/units", json!(1_001), "units"),
        ("/units", json!(99_999_999_999_u64), "units"),
        ("/units", json!("1"), "units"),
        ("/surprise", json!(1), "surprise"),
        ("/customer_id", json!(1), "customer_id"),
        ("/customer_id", json!("nobody"), "customer_id"),
        ("/item_id", json!("nothing"), "item_id"),
        ("/item_id", Value::Null, "item_id"),
        ("/deliver_to", json!("x".repeat(5_000)), "deliver_to"),
        ("/deliver_to", json!("a\u{0}b"), "deliver_to"),
        ("/deliver_to", json!(["street"]), "deliver_to"),
        ("/payment", json!({ "method": "card" }), "payment.token"),
        ("/payment", json!({ "method": "card", "token": "x".repeat(300) }), "payment.token"),
        ("/payment", json!({ "method": "card", "token": "" }), "payment.token"),
        ("/payment", json!({ "method": "card", "token": "a\u{0}" }), "payment.token"),
        ("/payment", json!({ "method": "card", "token": "t", "cvc": "1" }), "payment.cvc"),
        ("/payment", json!({ "method": "cash" }), "payment.method"),
        ("/payment", json!("points"), "payment"),
        ("/payment", json!(["card", "pm_card_visa"]), "payment"),
    ] {
        cases.push(post("/v1/rentals", but(rent, pointer, value), field));
    }
    for field in ["customer_id", "item_id", "payment"] {
        cases.push(post("/v1/rentals", without(rent, field), field));
    }

    for (pointer, value, field) in [
        ("/title", json!(""), "title"),
        ("/title", json!("   "), "title"),
        ("/title", json!("x".repeat(201)), "title"),
        ("/title", json!("a\u{0}b"), "title"),
        ("/title", json!("a\u{7}b"), "title"),
        ("/title", json!(7), "title"),
        ("/price", json!(-1), "price"),
        ("/price", json!(i64::MAX), "price"),
        ("/price", json!(1e300), "price"),
        ("/price", json!(9.99), "price"),
        ("/price", json!("1500"), "price"),
        ("/price", Value::Null, "price"),
        ("/currency", json!("won"), "currency"),
        ("/units", json!(-1), "units"),
        ("/units", json!(u64::MAX), "units"),
        ("/terms", json!({ "type": "gift" }), "terms.type"),
        ("/terms", json!({ "type": "loan", "days": 0 }), "terms.days"),
        ("/terms", json!({ "type": "loan", "days": 100_000 }), "terms.days"),
        ("/terms", json!({ "type": "loan", "days": -7 }), "terms.days"),
        ("/terms", json!({ "type": "sale", "days": 7 }), "terms.days"),
        ("/terms", json!(["loan", 7]), "terms"),
        ("/fulfilment", json!("teleport"), "fulfilment"),
        ("/tags", json!(vec!["t"; 21]), "tags"),
        ("/tags", json!("novel"), "tags"),
        ("/tags/0", json!("\u{0}"), "tags[0]"),
        ("/available", json!(5), "available"),
    ] {
        cases.push(post("/v1/items", but(&good, pointer, value), field));
    }
    for field in ["title", "price", "terms", "fulfilment", "units"] {
        cases.push(post("/v1/items", without(&good, field), field));
    }
    let revise = format!("/v1/items/{item}");
    for (body, field) in
        [(r#"{"units": 5}"#, "units"), (r#"{"price": -5}"#, "price"), (r#"{"title": null, "x": 1}"#, "x")]
    {
        cases.push((Method::PATCH, revise.clone(), body.into(), 422, Some(field)));
    }
    for (body, field) in [
        (r#"{"add": 0}"#, "add"),
        (r#"{"withdraw": 0}"#, "withdraw"),
        (r#"{"add": -1}"#, "add"),
        (r#"{"add": 4294967296}"#, "add"),
        (r#"{"add": 1, "withdraw": 1}"#, "add"),
        ("{}", "add"),
        (r#"{"set": 5}"#, "set"),
    ] {
        cases.push(post(&format!("/v1/items/{item}/units"), body.into(), field));
    }

    for (body, field) in [
        (json!({}), "name"),
        (json!({ "name": "" }), "name"),
        (json!({ "name": "x".repeat(201) }), "name"),
        (json!({ "name": "a\u{0}" }), "name"),
        (json!({ "name": ["Min-ji"] }), "name"),
        (json!({ "name": "Min-ji", "points": 1_000_000 }), "points"),
        (json!({ "name": "Min-ji", "customer_id": customer }), "customer_id"),
        (json!({ "name": "Min-ji", "email": 1 }), "email"),
    ] {
        cases.push(post("/v1/customers", body.to_string().into(), field));
    }
    for (body, field) in [
        (r#"{"amount": 0}"#, "amount"),
        (r#"{"amount": -5}"#, "amount"),
        (r#"{"amount": 9223372036854775807}"#, "amount"),
        (r#"{"amount": 99999999999999999999}"#, "amount"),
        (r#"{"amount": 1.5}"#, "amount"),
        (r#"{"amount": "5"}"#, "amount"),
        (r#"{"amount": null}"#, "amount"),
        ("{}", "amount"),
    ] {
        cases.push(post(&format!("/v1/customers/{customer}/points"), body.into(), field));
    }

    for body in ["", "{", "nonsense", "\u{1}", "{\"title"] {
        for path in ["/v1/customers", "/v1/items", "/v1/rentals"] {
            cases.push((Method::POST, path.to_owned(), body.into(), 400, None));
        }
    }
    cases.push((
        Method::POST,
        "/v1/customers".to_owned(),
        vec![b'{', b'"', 0xff, 0xfe, b'"', b'}'],
        400,
        None,
    ));
    for body in ["{\"name\": \"a\"} {}", "{\"name\": \"a\",}", "{\"name\": NaN}", "{'name': 'a'}"] {
        cases.push((Method::POST, "/v1/customers".to_owned(), body.into(), 400, None));
    }
    // What would fit the fields in their order is no object either.
    for body in ["[]", "null", "7", "\"text\"", "[\"Min-ji\", null, null, null]"] {
        cases.push((Method::POST, "/v1/customers".to_owned(), body.into(), 422, None));
    }
    cases.push((Method::POST, "/v1/customers".to_owned(), vec![b'['; 60_000], 422, None));
    let huge = json!({ "name": "x".repeat(100_000) }).to_string();
    cases.push((Method::POST, "/v1/customers".to_owned(), huge.into(), 413, None));
    cases
}

fn unknown_ids(rent: &Value) -> Vec<Case> {
    let nobody = Uuid::from_u128(7);
    let mut cases: Vec<Case> = vec![
        (Method::POST, "/v1/rentals".into(), but(rent, "/item_id", json!(nobody)), 404, Some("item_id")),
        (
            Method::POST,
            "/v1/rentals".into(),
            but(rent, "/customer_id", json!(nobody)),
            404,
            Some("customer_id"),
        ),
    ];
    for (method, path, body) in [
        (Method::PATCH, "/v1/customers/{id}", "{}"),
        (Method::POST, "/v1/customers/{id}/points", r#"{"amount": 5}"#),
        (Method::PATCH, "/v1/items/{id}", r#"{"price": 5}"#),
        (Method::DELETE, "/v1/items/{id}", ""),
        (Method::POST, "/v1/items/{id}/units", r#"{"add": 5}"#),
        (Method::POST, "/v1/rentals/{id}/cancel", "{}"),
        (Method::POST, "/v1/rentals/{id}/return", ""),
        (Method::POST, "/v1/deliveries/{id}/complete", ""),
        (Method::GET, "/v1/customers/{id}", ""),
        (Method::GET, "/v1/rentals/{id}", ""),
        (Method::GET, "/v1/items/{id}", ""),
    ] {
        cases.push((method.clone(), path.replace("{id}", &nobody.to_string()), body.into(), 404, None));
        for id in ["x", "1", "%00", "..%2F..", "%F0%9F%93%9A", &"9".repeat(300)] {
            cases.push((method.clone(), path.replace("{id}", id), body.into(), 404, Some("id")));
        }
    }
    cases
}

fn reads(customer: Uuid) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for list in [
        format!("/v1/customers/{customer}/rentals"),
        "/v1/rentals".into(),
        "/v1/items".into(),
        "/v1/items?q=book".into(),
        "/v1/due-dates".into(),
        "/v1/cancellations".into(),
    ] {
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=-1", "limit"),
            ("limit=101", "limit"),
            ("limit=many", "limit"),
            ("limit=99999999999999999999", "limit"),
            ("cursor=x", "cursor"),
            ("cursor=%FF%FE", "cursor"),
            ("cursor=AAAA", "cursor"),
            ("after=-1", "after"),
            ("after=soon", "after"),
            ("surprise=1", "surprise"),
        ] {
            let sign = if list.contains('?') { '&' } else { '?' };
            cases.push((Method::GET, format!("{list}{sign}{query}"), vec![], 422, Some(field)));
        }
    }
    for (query, field) in [
        ("item_id=x", "item_id"),
        ("customer_id=1", "customer_id"),
        ("overdue=perhaps", "overdue"),
        ("status=%00", "status"),
    ] {
        cases.push((Method::GET, format!("/v1/rentals?{query}"), vec![], 422, Some(field)));
    }
    cases.push((Method::GET, "/v1/items?q=%00".into(), vec![], 422, Some("q")));
    for path in ["/", "/v1", "/v1/nothing", "/v1/items/", "/V1/items"] {
        cases.push((Method::GET, path.into(), vec![], 404, None));
    }
    cases.push((Method::PUT, "/v1/rentals".into(), b"{}".into(), 405, None));
    cases.push((Method::DELETE, "/v1/items".into(), vec![], 405, None));
    cases
}

#[tokio::test]
async fn bad_input_is_a_problem_that_names_the_field_and_writes_nothing() {
    let world = World::up(&[]).await;
    let minji = world.customer("Min-ji").await;
    let item = world.item(book()).await;
    world.settle().await;
    let head = world.head().await;
    let rent = order(&minji, item, &card());
    let (manager, courier) = (world.manager(), world.courier());

    let cases = [writes(minji.id, item, &rent), unknown_ids(&rent), reads(minji.id)].concat();
    let mut wrong = Vec::new();
    for (method, path, body, status, field) in cases {
        let by = if path.ends_with("/complete") { &courier } else { &manager };
        let mut ask = world.ask(method.clone(), &path).by(by);
        if method != Method::GET {
            ask = ask.header("content-type", "application/json");
        }
        let shown: String = String::from_utf8_lossy(&body).chars().take(120).collect();
        let answer = ask.bytes(body).await;
        let is_problem = answer.header("content-type") == Some("application/problem+json")
            && answer["type"].is_string()
            && answer["detail"].is_string()
            && answer["status"] == answer.status;
        let blamed = field.is_none_or(|field| answer["field"] == field);
        if answer.status != status || !is_problem || !blamed {
            wrong.push(format!(
                "{method} {} with {shown:?}\n   should be {status} for {field:?}, is {} {}",
                path.chars().take(80).collect::<String>(),
                answer.status,
                answer.body
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/xml"] {
        let ask = world.post("/v1/customers").header("content-type", kind).bytes(r#"{"name": "Min-ji"}"#);
        ask.await.refused(415, "not-json");
    }
    world.post("/v1/customers").bytes(r#"{"name": "Min-ji"}"#).await.refused(415, "not-json");
    for key in ["", "  ", &"k".repeat(201)] {
        let ask =
            world.post("/v1/customers").header("idempotency-key", key).json(&json!({ "name": "Min-ji" }));
        assert_eq!(ask.await.refused(422, "invalid-field")["field"], "Idempotency-Key");
    }
    assert_eq!(world.head().await, head, "something was written");
    world.check_at_rest().await;
    world.rent(&minji, item).await;
}
