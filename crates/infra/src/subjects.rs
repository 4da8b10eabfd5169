//! Whom an identity provider's subjects are to the shop.
//!
//! A binding is read whenever it's asked for and never kept in memory: it ends in the transaction in which its
//! customer is forgotten (see `migrations/0004_subjects.sql`), and it must end everywhere then.

use std::fmt;

use rentstream_domain::CustomerId;
use uuid::Uuid;

use crate::log::Log;

/// What somebody is called by an identity provider.
#[derive(Clone, PartialEq, Eq)]
pub struct Subject {
    /// The provider.
    pub issuer: String,
    /// Its name for somebody.
    pub subject: String,
}

/// It's personal, so it is not for logs.
impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subject")
    }
}

impl Log {
    /// The customer that a subject is bound to, if it is.
    ///
    /// # Errors
    /// When Postgres can't be reached.
    pub async fn customer_of(&self, subject: &Subject) -> Result<Option<CustomerId>, sqlx::Error> {
        let found: Option<Uuid> =
            sqlx::query_scalar("SELECT s.customer_id FROM subjects s WHERE s.issuer = $1 AND s.subject = $2")
                .bind(&subject.issuer)
                .bind(&subject.subject)
                .fetch_optional(self.pool())
                .await?;
        Ok(found.map(CustomerId))
    }

    /// Binds a subject to this customer, unless it's bound to another one; gives the one that it's bound to.
    ///
    /// # Errors
    /// When Postgres can't be reached.
    pub async fn bind(&self, subject: &Subject, customer: CustomerId) -> Result<CustomerId, sqlx::Error> {
        loop {
            sqlx::query(
                "INSERT INTO subjects (issuer, subject, customer_id) VALUES ($1, $2, $3)
                 ON CONFLICT (issuer, subject) DO NOTHING",
            )
            .bind(&subject.issuer)
            .bind(&subject.subject)
            .bind(customer.0)
            .execute(self.pool())
            .await?;
            // Gone only if that customer was forgotten in between.
            if let Some(bound) = self.customer_of(subject).await? {
                return Ok(bound);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn a_subject_is_one_customers_until_that_customer_is_forgotten() {
        let (log, other) = testing::two_handles().await;
        let named = |issuer: &str| Subject { issuer: issuer.to_owned(), subject: "minji".to_owned() };
        let subject = named("https://id.example.com/");
        assert_eq!(log.customer_of(&subject).await.unwrap(), None);

        let ids: Vec<CustomerId> = (0..8).map(|_| CustomerId(Uuid::now_v7())).collect();
        let binds = ids.iter().enumerate().map(|(n, id)| {
            let log = if n % 2 == 0 { &log } else { &other };
            log.bind(&subject, *id)
        });
        let bound = futures::future::try_join_all(binds).await.unwrap();
        let minji = bound[0];
        assert!(ids.contains(&minji) && bound.iter().all(|id| *id == minji), "{bound:?}");
        assert_eq!(log.customer_of(&named("https://id.example.org/")).await.unwrap(), None);

        let (keeps, stays) = (named("https://id.example.net/"), CustomerId(Uuid::now_v7()));
        log.bind(&keeps, stays).await.unwrap();
        let mut forget = testing::deposit(minji.0, 0, 1);
        forget.events[0].event_type = "CustomerForgotten".to_owned();
        log.append(forget).await.unwrap();
        assert_eq!(log.customer_of(&subject).await.unwrap(), None);
        assert_eq!(log.customer_of(&keeps).await.unwrap(), Some(stays));
        let again = CustomerId(Uuid::now_v7());
        assert_eq!(log.bind(&subject, again).await.unwrap(), again);
    }
}
