//! My page: row 29. Each list shows a customer what is the customer's own.

use rentstream_tests::shop::points;
use rentstream_tests::{Customer, Rental, World, book, ebook};
use serde_json::{Value, json};

/// One book that is on its way, one that was cancelled, and an e-book for points.
async fn a_customers_affairs(world: &World, name: &str, paid_in: i64) -> (Customer, Vec<Rental>) {
    let customer = world.customer(name).await;
    world.deposit(&customer, paid_in).await.expect(200);
    let (book, ebook) = (world.item(book()).await, world.item(ebook().price(900)).await);
    let kept = world.rent(&customer, book).await;
    let cancelled = world.rent(&customer, book).await;
    let read = Rental::from(world.try_rent(&customer, ebook, &points()).await.expect(201));
    world.settle().await;
    world.cancel(&customer, &cancelled).await.expect(202);
    world.settle().await;
    (customer, vec![kept, cancelled, read])
}

fn of(rentals: &[Rental], which: &[usize]) -> Vec<Value> {
    let mut ids: Vec<_> = which.iter().map(|n| json!(rentals[*n].id)).collect();
    ids.sort_by_key(Value::to_string);
    ids
}

#[tokio::test]
async fn my_page_shows_the_own_rentals_payments_deliveries_due_dates_and_points_and_no_others() {
    let world = World::shared().await;
    let minji = a_customers_affairs(&world, "Min-ji", 1_000).await;
    let jun = a_customers_affairs(&world, "Jun", 5_000).await;
    for ((customer, rentals), (other, others), points) in [(&minji, &jun, 100), (&jun, &minji, 4_100)] {
        let page = world.my_page(customer).await;
        assert_eq!(page["points"], points);
        assert_eq!(page["rentals"], json!({ "open": 2, "overdue": 0, "past": 1 }));
        let history = format!("/v1/customers/{}/rentals", customer.id);
        for (list, which) in [
            (history.as_str(), [0, 1, 2].as_slice()),
            ("/v1/deliveries", &[0, 1]),
            ("/v1/due-dates", &[2]),
            ("/v1/cancellations", &[1]),
        ] {
            let rows = world.get(list).by(customer).after_seen().await.expect(200).items();
            assert!(rows.iter().all(|row| row["customer_id"] == json!(customer.id)), "{list}: {rows:?}");
            let mut found: Vec<_> = rows.iter().map(|row| row["rental_id"].clone()).collect();
            found.sort_by_key(Value::to_string);
            assert_eq!(found, of(rentals, which), "{list}");
        }
        // Beside those for the rentals there may be one for points.
        let payments = world.get("/v1/payments").by(customer).after_seen().await.expect(200).items();
        assert!(payments.iter().all(|row| row["customer_id"] == json!(customer.id)), "{payments:?}");
        for id in of(rentals, &[0, 1, 2]) {
            assert!(payments.iter().any(|row| row["rental_id"] == id), "{id} in {payments:?}");
        }

        let theirs = others[1].id;
        for list in ["payments", "deliveries", "cancellations"] {
            let path = format!("/v1/{list}?rental_id={theirs}");
            assert!(
                world.get(&path).by(customer).after_seen().await.expect(200).items().is_empty(),
                "{path}"
            );
        }
        for path in [
            format!("/v1/customers/{}", other.id),
            format!("/v1/customers/{}/rentals", other.id),
            format!("/v1/rentals/{theirs}"),
            format!("/v1/due-dates?customer_id={}", other.id),
            "/v1/rentals".to_owned(),
        ] {
            world.get(&path).by(customer).after_seen().await.refused(403, "forbidden");
        }
    }
    for list in ["payments", "deliveries", "due-dates", "cancellations"] {
        world.get(&format!("/v1/{list}")).await.refused(401, "unauthorized");
        world.get(&format!("/v1/{list}")).by(world.operator()).await.refused(403, "forbidden");
    }
}
