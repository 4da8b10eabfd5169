use rentstream_domain::customer::{Customer, CustomerCommand, Profile};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::store::{Context, Store};
use crate::testing;

fn somebody() -> CustomerId {
    CustomerId(Uuid::now_v7())
}

#[tokio::test]
async fn what_is_sealed_opens_with_the_same_customers_key_only() {
    let keys = Keys::of(&testing::log().await);
    let (mina, juno) =
        (keys.make(somebody()).await.unwrap().unwrap(), keys.make(somebody()).await.unwrap().unwrap());
    for text in ["김", "Mina", "서울특별시 종로구 세종대로 12, 한글로 아주 긴 주소", ""]
    {
        let sealed = mina.seal(text);
        assert_eq!(mina.open(&sealed).as_deref(), Some(text));
        assert_eq!(juno.open(&sealed), None);
        assert!(text.is_empty() || !sealed.ciphertext().contains(text));
    }
}

#[tokio::test]
async fn a_key_is_of_its_customer_even_when_its_bytes_are_anothers() {
    let keys = Keys::of(&testing::log().await);
    let mina = keys.make(somebody()).await.unwrap().unwrap();
    let juno = Key { customer: somebody(), ..mina.clone() };
    assert_eq!(juno.open(&mina.seal("Mina")), None);
}

#[tokio::test]
async fn the_same_text_is_sealed_alike_and_asking_twice_gives_the_same_key() {
    let keys = Keys::of(&testing::log().await);
    let customer = somebody();
    let (first, second) = tokio::join!(keys.make(customer), keys.make(customer));
    let seal = |key: Result<Option<Key>, sqlx::Error>| key.unwrap().unwrap().seal("Mina");
    assert_eq!(seal(first), seal(second));
}

#[tokio::test]
async fn what_was_changed_or_is_no_ciphertext_does_not_open() {
    let keys = Keys::of(&testing::log().await);
    let mina = keys.make(somebody()).await.unwrap().unwrap();
    let sealed = mina.seal("Mina").ciphertext().to_owned();
    // Of what begins with this already, nothing would be changed.
    let other = if sealed.starts_with('A') { 'B' } else { 'A' };
    for wrong in
        [format!("{other}{}", &sealed[1..]), sealed[..10].to_owned(), "한글".to_owned(), String::new()]
    {
        assert_eq!(mina.open(&Sealed::of(wrong)), None);
    }
}

#[tokio::test]
async fn the_key_goes_with_the_event_that_forgets() {
    let log = testing::log().await;
    let (store, keys) = (Store::new(log.clone()), Keys::of(&log));
    let (mina, juno) = (somebody(), somebody());
    for customer in [mina, juno] {
        let name = keys.make(customer).await.unwrap().unwrap().seal("Kim");
        let profile = Profile { name, email: None, phone: None, address: None };
        let register = CustomerCommand::Register { profile, at: chrono::Utc::now() };
        store.execute::<Customer>(customer.0, register, &Context::default(), None).await.unwrap();
    }
    assert!(matches!(keys.find_at(mina).await.unwrap(), (2, Some(_))));
    let forget = CustomerCommand::Forget { at: chrono::Utc::now() };
    store.execute::<Customer>(mina.0, forget, &Context::default(), None).await.unwrap();
    assert!(matches!(keys.find_at(mina).await.unwrap(), (3, None)));
    assert!(keys.find(mina).await.unwrap().is_none());
    assert!(keys.find(juno).await.unwrap().is_some());
    assert!(keys.make(mina).await.unwrap().is_none(), "no key is made anew for who is forgotten");
}

#[tokio::test]
async fn an_answer_is_opened_wherever_something_is_sealed_and_nothing_else_is_touched() {
    let keys = Keys::of(&testing::log().await);
    let mina = keys.make(somebody()).await.unwrap().unwrap();
    let juno = keys.make(somebody()).await.unwrap().unwrap();
    let answer = json!({
        "name": mina.seal("Mi\"na"),
        "delivery": { "address": mina.seal("Seoul"), "sealed": "not a sealed text, it has a neighbour" },
        "list": [mina.seal("a"), juno.seal("b"), 1, null, { "sealed": "nor this", "so": mina.seal("c") }],
        "says": "{\"sealed\":\"nor this\"}",
    })
    .to_string();
    assert!(sealed_in(&answer));
    let opened: Value = serde_json::from_str(&open_in(&answer, Some(&mina))).unwrap();
    assert_eq!(
        opened,
        json!({
            "name": "Mi\"na",
            "delivery": { "address": "Seoul", "sealed": "not a sealed text, it has a neighbour" },
            "list": ["a", null, 1, null, { "sealed": "nor this", "so": "c" }],
            "says": "{\"sealed\":\"nor this\"}",
        })
    );
    let forgotten: Value = serde_json::from_str(&open_in(&answer, None)).unwrap();
    assert_eq!(forgotten["name"], json!(null));
    assert!(!sealed_in(&json!({ "says": "{\"sealed\":\"\"}" }).to_string()));
}
