//! Searching the catalogue: row 3, with Korean, slips of the pen, and whatever else is typed.

use chrono::Utc;
use cqrs_es::{Aggregate, DomainEvent};
use futures::future::try_join_all;
use rentstream_domain::Money;
use rentstream_domain::stock::{Details, Fulfilment, Stock, StockEvent, Terms};
use rentstream_domain::text::Line;
use rentstream_infra::log::{Append, Log, NewEvent};
use rentstream_infra::settings::Crash;
use rentstream_tests::{World, book};
use uuid::Uuid;

/// What the search for `q` finds in a shop, best matches first.
async fn titles(world: &World, shop: &str, q: &str) -> Vec<String> {
    let found = world.get("/v1/items").query(&[("q", q), ("shop", shop)]).after_seen().await.expect(200);
    found.items().iter().map(|item| item["title"].as_str().unwrap().to_owned()).collect()
}

/// A shop of its own in the shared world, with these: title, maker, tag.
async fn shop(world: &World, offers: &[(&str, &str, &str)]) -> String {
    let shop = Uuid::new_v4().to_string();
    for (title, maker, tag) in offers {
        world.item(book().titled(title).made_by(maker).tagged(tag).in_shop(&shop)).await;
    }
    shop
}

const THREE: [(&str, &str, &str); 3] = [
    ("채식주의자", "한강", "소설"),
    ("Cosmos", "Carl Sagan", "science"),
    ("해저 2만리", "Jules Verne", "adventure"),
];

#[tokio::test]
async fn of_three_items_the_one_that_matches_is_found_by_title_maker_and_tag() {
    let world = World::shared().await;
    let shop = shop(&world, &THREE).await;
    for (q, title) in [
        ("채식주의자", "채식주의자"),
        ("한강", "채식주의자"),
        ("소설", "채식주의자"),
        ("cosmos", "Cosmos"),
        ("SAGAN", "Cosmos"),
        ("Science", "Cosmos"),
        ("해저", "해저 2만리"),
        ("verne adventure", "해저 2만리"),
        ("sagan cosmos", "Cosmos"),
        ("  Cos  ", "Cosmos"),
        ("주의자", "채식주의자"),
        ("식주", "채식주의자"),
        ("채식 주의자", "채식주의자"),
    ] {
        assert_eq!(titles(&world, &shop, q).await, [title], "{q}");
    }
}

#[tokio::test]
async fn korean_is_found_with_a_particle_a_slip_or_other_spacing() {
    let world = World::shared().await;
    let shop = shop(
        &world,
        &[
            ("채식주의자", "한강", "소설"),
            ("소년이 온다", "한강", "소설"),
            ("전기자동차 아이오닉", "현대", "자동차"),
            ("작약 꽃다발", "꽃집", "선물"),
        ],
    )
    .await;
    for (q, title) in [
        ("채식주의자를", "채식주의자"),
        ("체식주의자", "채식주의자"),
        ("채식주이자", "채식주의자"),
        ("채식주의지", "채식주의자"),
        ("소년이온다", "소년이 온다"),
        ("소념이 온다", "소년이 온다"),
        ("아이오닉을", "전기자동차 아이오닉"),
        ("아이오닠", "전기자동차 아이오닉"),
        ("전기 자동차", "전기자동차 아이오닉"),
        ("자약", "작약 꽃다발"),
        ("꼿다발", "작약 꽃다발"),
        // Typed on a Mac, in pieces.
        ("\u{110c}\u{1161}\u{11a8}\u{110b}\u{1163}\u{11a8}", "작약 꽃다발"),
    ] {
        assert_eq!(titles(&world, &shop, q).await, [title], "{q}");
    }
    assert_eq!(titles(&world, &shop, "한감").await.len(), 2, "both of Han Kang's");
}

#[tokio::test]
async fn english_is_found_with_a_slip_or_without_its_accents() {
    let world = World::shared().await;
    let shop = shop(
        &world,
        &[
            ("The Great Gatsby", "F. Scott Fitzgerald", "classic"),
            ("Café de Flore", "Emma Peel", "travel"),
            ("Moby-Dick", "Herman Melville", "whales"),
        ],
    )
    .await;
    for (q, title) in [
        ("gatsbi", "The Great Gatsby"),
        ("greet gatsbby", "The Great Gatsby"),
        ("fitzgerlad", "The Great Gatsby"),
        ("cafe", "Café de Flore"),
        ("CAFÉ", "Café de Flore"),
        ("moby dick", "Moby-Dick"),
        ("mobydick", "Moby-Dick"),
        ("melvile", "Moby-Dick"),
        ("whale", "Moby-Dick"),
    ] {
        assert_eq!(titles(&world, &shop, q).await, [title], "{q}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let world = World::shared().await;
    let shop = shop(&world, &THREE).await;
    for q in ["트랙터", "zeppelin", "한강 cosmos", "cosmos tractor", "책", "x", "냉장고를 삽니다", "9999"]
    {
        assert_eq!(titles(&world, &shop, q).await, Vec::<String>::new(), "{q}");
    }
    assert_eq!(titles(&world, "no such shop", "cosmos").await, Vec::<String>::new());
}

#[tokio::test]
async fn slips_are_forgiven_only_where_nothing_is_found_as_it_was_typed() {
    let world = World::shared().await;
    let shop = shop(&world, &[("Gatsby", "A", "t"), ("Gatsbi", "B", "t")]).await;
    assert_eq!(titles(&world, &shop, "gatsbi").await, ["Gatsbi"]);
    assert_eq!(titles(&world, &shop, "gatsbx").await.len(), 2);
}

#[tokio::test]
async fn the_best_matches_come_first() {
    let world = World::shared().await;
    let shop = shop(
        &world,
        &[
            ("Gardens", "X", "rose"),
            ("Letters", "Rose", "x"),
            ("Tuberose", "Y", "z"),
            ("The Name of the Rose", "Eco", "x"),
            ("Rose", "Li", "x"),
        ],
    )
    .await;
    let in_order = ["Rose", "The Name of the Rose", "Letters", "Gardens", "Tuberose"];
    assert_eq!(titles(&world, &shop, "rose").await, in_order);
}

#[tokio::test]
async fn whatever_is_typed_there_is_a_clear_answer() {
    let world = World::shared().await;
    let shop = shop(&world, &THREE).await;
    let long = "책".repeat(201);
    let refused =
        world.get("/v1/items").query(&[("q", &long)]).after_seen().await.refused(422, "invalid-field");
    assert_eq!(refused["field"], "q");
    let many = "a ".repeat(99) + "b";
    for nothing in [
        "%",
        "_",
        "'",
        "\"",
        "\\",
        "';--",
        "%%%%",
        "(|)&!:*",
        "$1",
        "…♥…",
        "'\\",
        "<->",
        "{0}",
        &many,
        &"x".repeat(200),
        "\u{301}",
        "\u{200b}",
    ] {
        assert_eq!(titles(&world, &shop, nothing).await, Vec::<String>::new(), "{nothing}");
    }
    for signs in ["'cosmos'", "cosmos' OR '1'='1", "cos%mos", "cosmos:*", "100% cosmos", "cosmos & !sagan"] {
        let found = titles(&world, &shop, signs).await;
        assert!(found.is_empty() || found == ["Cosmos"], "{signs}: {found:?}");
    }
    for blank in ["", "   ", "\t\n"] {
        assert_eq!(titles(&world, &shop, blank).await.len(), 3, "{blank:?} asks for nothing");
    }
}

#[tokio::test]
async fn a_search_is_paged_and_nothing_is_skipped_or_shown_twice() {
    let world = World::shared().await;
    let offers: Vec<(String, String)> =
        (0..7).map(|n| (format!("Dune {n}"), format!("by {}", n % 2))).collect();
    let offers: Vec<(&str, &str, &str)> =
        offers.iter().map(|(title, maker)| (title.as_str(), maker.as_str(), "desert")).collect();
    let shop = shop(&world, &offers).await;
    for (q, expected) in [("dune", 7), ("dunne", 7), ("desert", 7)] {
        let (mut shown, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let mut query = vec![("q", q.to_owned()), ("shop", shop.clone()), ("limit", "2".to_owned())];
            query.extend(cursor.map(|cursor| ("cursor", cursor)));
            let page = world.get("/v1/items").query(&query).after_seen().await.expect(200);
            shown.extend(page.items().iter().map(|item| item["title"].to_string()));
            if shown.len() == 2 {
                // It matches better than all that follow, and as well as those that were shown.
                world.item(book().titled(&format!("Dune {}", shown.len())).in_shop("elsewhere")).await;
            }
            cursor = page["next"].as_str().map(str::to_owned);
            if cursor.is_none() {
                break;
            }
        }
        let mut once = shown.clone();
        once.sort();
        once.dedup();
        assert_eq!((shown.len(), once.len()), (expected, expected), "{q}: {shown:?}");
    }
    let plain = world.get("/v1/items?limit=1").after_seen().await.expect(200);
    let cursor = plain["next"].as_str().unwrap();
    let other = world.get("/v1/items").query(&[("q", "dune"), ("cursor", cursor)]).await;
    assert_eq!(other.refused(422, "invalid-field")["field"], "cursor");
}

/// As many items as a large shop has, put into the log as the command API would.
async fn stock_up(log: &Log, items: usize) {
    const WORDS: [&str; 24] = [
        "바다", "하늘", "나무", "사랑", "전쟁", "여행", "도시", "겨울", "아이", "비밀", "정원", "시간",
        "river", "garden", "winter", "secret", "machine", "ocean", "letter", "memory", "island", "shadow",
        "mirror", "song",
    ];
    let line = |text: String| Line::try_from(text).unwrap();
    let append = |n: usize| {
        let word = |k: usize| WORDS[(n / 24_usize.pow(u32::try_from(k).unwrap())) % 24];
        let details = Details {
            title: line(format!("{} {} {n}", word(0), word(1))),
            maker: Some(line(format!("{}{}", word(2), n % 997))),
            tags: vec![line(word(3).to_owned())],
            description: None,
            price: Money::krw(1_000),
            terms: Terms::Loan { days: 7 },
            fulfilment: Fulfilment::Pickup,
            shop: None,
        };
        let event = StockEvent::ItemRegistered { details, units: Some(1), at: Utc::now() };
        let events = vec![NewEvent {
            id: Uuid::now_v7(),
            event_type: event.event_type(),
            event_version: event.event_version(),
            payload: serde_json::to_string(&event).unwrap(),
            metadata: "{}".to_owned(),
        }];
        let aggregate_id = Uuid::now_v7().to_string();
        log.append(Append { aggregate_type: Stock::TYPE, aggregate_id, version: 0, events })
    };
    for some in (0..items).step_by(500) {
        try_join_all((some..some + 500).map(append)).await.unwrap();
    }
}

#[tokio::test]
async fn a_large_catalogue_is_searched_by_index() {
    let world = World::of_roles(&["project catalogue"]).await;
    world.start_api("query-api").await;
    let log = Log::open(world.log_url(), 4, Crash::default()).unwrap();
    stock_up(&log, 20_000).await;
    let head = world.head().await;
    world
        .until("all is in the catalogue", || async {
            let list = world.get("/v1/items?limit=1").after(head).attempt().await.ok()?;
            (list.status == 200).then_some(())
        })
        .await;
    sqlx::raw_sql("ANALYZE").execute(world.views_pool()).await.unwrap();
    let scans =
        async |what: &str| sqlx::query_scalar::<_, i64>(what).fetch_one(world.views_pool()).await.unwrap();
    let by_index = "SELECT sum(idx_scan)::bigint FROM pg_stat_user_indexes WHERE relname = 'catalogue_1'
                    AND indexrelname ~ 'words|letters'";
    let before = scans(by_index).await;
    for (q, least) in [("바다 river", 1), ("하늘 19999", 1), ("gardn", 1), ("바댜 777", 1), ("zeppelin", 0)]
    {
        let found = world.get("/v1/items").query(&[("q", q)]).await.expect(200).items();
        assert!(found.len() >= least, "{q} finds {found:?}");
    }
    world
        .until("the searches are counted as index scans", || async {
            (scans(by_index).await >= before + 5).then_some(())
        })
        .await;
}
