//! What each shop offers: `demo/*.json`, a file per shop.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

/// A shop's data file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Data {
    /// The shop, as the catalogue calls it.
    pub(super) name: String,
    pub(super) what: String,
    /// What its units are called.
    pub(super) unit: String,
    /// Each as `POST /v1/items` takes it.
    pub(super) items: Vec<Value>,
}

impl Data {
    pub(super) fn read(text: &str) -> Result<Self> {
        serde_json::from_str(text).context("read the shop's data")
    }
}

/// As a sentence calls an item: the English half of its title.
pub(super) fn name(title: &str) -> &str {
    title.rsplit(" · ").next().unwrap_or(title)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::ValueEnum;
    use rentstream_domain::money::MAX_AMOUNT;
    use rentstream_domain::stock::{Fulfilment, Terms};
    use rentstream_domain::text::{Line, Paragraph};

    use super::super::Shop;
    use super::*;

    /// What an item of a data file says, by the types that the API reads it with.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Offer {
        title: Line,
        maker: Line,
        tags: Vec<Line>,
        description: Paragraph,
        price: i64,
        terms: Terms,
        fulfilment: Fulfilment,
        units: Option<u32>,
    }

    fn is_korean(text: &str) -> bool {
        text.chars().any(|letter| ('가'..='힣').contains(&letter))
    }

    fn is_english(text: &str) -> bool {
        text.chars().any(|letter| letter.is_ascii_alphabetic())
    }

    fn all() -> impl Iterator<Item = (String, Vec<Offer>)> {
        Shop::value_variants().iter().map(|shop| {
            let data = Data::read(shop.data()).unwrap();
            let offers = data.items.into_iter().map(|item| {
                let title = item["title"].clone();
                serde_json::from_value(item).unwrap_or_else(|error| panic!("{title}: {error}"))
            });
            (data.name, offers.collect())
        })
    }

    #[test]
    fn every_shop_offers_thirty_different_things_or_more() {
        for (shop, offers) in all() {
            let names: BTreeSet<&str> = offers.iter().map(|offer| name(offer.title.as_str())).collect();
            let titles: BTreeSet<&str> = offers.iter().map(|offer| offer.title.as_str()).collect();
            let texts: BTreeSet<&str> = offers.iter().map(|offer| offer.description.as_str()).collect();
            assert!(offers.len() >= 30, "{shop} has {}", offers.len());
            assert_eq!([names.len(), titles.len(), texts.len()], [offers.len(); 3], "{shop} has doubles");
        }
    }

    #[test]
    fn every_offer_speaks_korean_and_english() {
        for (shop, offers) in all() {
            for offer in offers {
                let title = offer.title.as_str();
                let (korean, english) = title.split_once(" · ").expect(title);
                assert!(is_korean(korean) && is_english(english), "{shop}: {title}");
                let tags = |speaks: fn(&str) -> bool| offer.tags.iter().any(|tag| speaks(tag.as_str()));
                assert!(tags(is_korean) && tags(is_english), "{shop}: the tags of {title}");
                assert!(offer.tags.len() <= 20, "{shop}: the tags of {title}");
                let text = offer.description.as_str();
                assert!(is_korean(text) && is_english(text), "{shop}: the description of {title}");
                assert!(is_english(offer.maker.as_str()), "{shop}: the maker of {title}");
            }
        }
    }

    #[test]
    fn what_a_shop_offers_fits_its_trade() {
        for (shop, offers) in all() {
            for offer in offers {
                let title = offer.title.as_str();
                let (sold, days) = match offer.terms {
                    Terms::Loan { days } => (false, days),
                    Terms::Sale {} => (true, 0),
                };
                let price = offer.price;
                assert!((0..=MAX_AMOUNT).contains(&price), "{shop}: {title} for {price}");
                let fits = match shop.as_str() {
                    "한강서점 Hangang Books" => {
                        !sold && offer.fulfilment == Fulfilment::Delivery && (1_000..=5_000).contains(&price)
                    }
                    "밤의서재 Night Library" => {
                        !sold && offer.fulfilment == Fulfilment::Digital && (1_000..=5_000).contains(&price)
                    }
                    "바람카 Baram Car Sharing" => {
                        !sold && offer.fulfilment == Fulfilment::Pickup && (20_000..=600_000).contains(&price)
                    }
                    "꽃담 Kkotdam Flowers" => {
                        sold && offer.fulfilment == Fulfilment::Delivery && (5_000..=200_000).contains(&price)
                    }
                    "무등마을도서관 Mudeung Library" => {
                        [7, 14, 21].contains(&days)
                            && offer.fulfilment == Fulfilment::Pickup
                            && price <= 1_200
                    }
                    other => panic!("whose is {other}?"),
                };
                assert!(fits, "{shop}: {title}");
                let unlimited = offer.units.is_none();
                assert!(!unlimited || offer.fulfilment == Fulfilment::Digital, "{shop}: {title}");
                assert!(offer.units != Some(0), "{shop}: {title}");
            }
        }
    }
}
