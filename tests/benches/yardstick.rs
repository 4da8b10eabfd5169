//! What figures are held against: what Postgres itself can do, and what the stock library makes of it.

pub(crate) mod chain;
pub(crate) mod copying;
pub(crate) mod pgbench;
pub(crate) mod projecting;
pub(crate) mod stock;
