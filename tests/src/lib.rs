//! The system as its users meet it, for scenarios: the real executable, a real Postgres, a real nats-server.
//!
//! Never true in here: a part of the product is replaced by something that only tests know, a wait without a
//! bound, a child that outlives the test binary.
//!
//! Reading order: [`world`] (a running system) and [`replica`] (one of its processes), [`gateway`] (what stands before them), [`client`], [`at_once`] and [`watching`] (asking it), [`shop`]
//! (what scenarios speak of: customers, items, rentals), [`state`] (what databases and gateway say, and
//! [`World::settle`]), [`identity`] (who signs tokens elsewhere), [`endpoints`] (where notices arrive), [`prometheus`]
//! (who asks for its metrics), [`collector`] (who receives its traces), [`authority`], [`nats`] and [`cluster`] (servers that
//! are particular); below lie
//! [`keeper`] (children that die with us) and [`servers`] (what all worlds share). [`reading`] is the read side alone, in this process.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a harness has nobody to hand an error to but the test"
)]

pub mod at_once;
pub mod authority;
pub mod client;
pub mod cluster;
pub mod collector;
pub mod endpoints;
mod failing;
pub mod gateway;
pub mod identity;
pub mod keeper;
pub mod nats;
pub mod prometheus;
pub mod reading;
pub mod replica;
pub mod servers;
pub mod shop;
pub mod state;
pub mod watching;
pub mod world;

pub use client::{Answer, Ask};
pub use shop::{Customer, Item, Rental, book, bouquet, car, ebook};
pub use world::World;
