//! What the shop's decisions rest on: the log, its mirror, its readers, the payment gateway, the settings.
//!
//! Never true in here: a rule of the shop is decided (that's the domain's), an event is published that is
//! not committed, a reader's place is kept by a broker, a call to the outside waits without a bound.
//!
//! Reading order: [`log`] (append and read), [`store`] (decide in memory, append), [`driver`] (one rental, step
//! by step), [`relay`] (log → JetStream), [`feed`] and [`reader`] (JetStream or log → handler), [`reactor`]
//! (processes on that loop), [`notices`] (messages to the customers, on that loop as well); then [`keys`]
//! (what tells who a customer is, sealed), [`http`], [`gateway`] and its stand-in [`sandbox`], [`servers`],
//! [`settings`], [`trace`] (what one request leads to, told to who operates the shop).

pub mod clock;
pub mod driver;
pub mod feed;
pub mod gateway;
pub mod http;
pub mod keys;
pub mod log;
pub mod metrics;
pub mod notices;
pub mod parking;
pub mod place;
pub mod pool;
pub mod reactor;
pub mod reader;
pub mod relay;
pub mod sandbox;
pub mod servers;
pub mod settings;
mod spread;
pub mod store;
pub mod subjects;
#[cfg(test)]
mod testing;
pub mod trace;
pub mod wakeup;
