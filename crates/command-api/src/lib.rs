//! The write side over HTTP.
//!
//! Never true in here: a view is read, a rule is decided (handlers only translate), a write is answered that
//! isn't committed, a command is given up because its caller hung up.
//!
//! Reading order: [`rentals`] (one order from HTTP to the log), `journeys` (how it begins and is answered), [`once`] (the
//! same request twice), then
//! [`items`], [`customers`], [`deposits`], [`deliveries`],
//! [`notices`].

pub mod answers;
mod binding;
pub mod customers;
pub mod deliveries;
pub mod deposits;
pub mod fields;
pub mod followed;
mod intent;
pub mod items;
mod journeys;
pub mod notices;
pub mod once;
pub mod rentals;

use std::hash::{BuildHasher, RandomState};
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use aide::axum::ApiRouter;
use hashlink::LruCache;
use lockable::LockPool;
use rentstream_infra::driver::Driver;
use rentstream_infra::keys::Keys;

/// What the write routes work with; cheap to clone, as each request does several times.
#[derive(Clone)]
pub struct Writes(Arc<Parts>);

/// What [`Writes`] are made of.
pub struct Parts {
    /// The aggregates, and the way to take a rental or a deposit along.
    pub driver: Driver,
    /// What tells who a customer is, is sealed before any rule sees it.
    pub keys: Keys,
    /// Requests with an Idempotency-Key that are being answered by this process.
    in_flight: LockPool<(String, String)>,
    /// Those that it has answered lately.
    recent: Recent,
}

impl Deref for Writes {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// Keys that came lately, as hashes of them: whose is among them by accident is looked up, and no harm is done.
struct Recent {
    hashes: RandomState,
    keys: Mutex<LruCache<u64, ()>>,
}

/// Keys that are remembered.
const RECENT: usize = 1 << 16;

impl Default for Recent {
    fn default() -> Self {
        Self { hashes: RandomState::new(), keys: Mutex::new(LruCache::new(RECENT)) }
    }
}

impl Recent {
    /// Whether it came before, as far as that is remembered.
    fn has_seen(&self, caller: &str, key: &str) -> bool {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.insert(self.hashes.hash_one((caller, key)), ()).is_some()
    }
}

impl Writes {
    /// The write side over a driver.
    pub fn new(driver: Driver) -> Self {
        let keys = Keys::of(driver.store().log());
        Self(Arc::new(Parts { driver, keys, in_flight: LockPool::new(), recent: Recent::default() }))
    }
}

/// The command API.
pub fn router(writes: Writes) -> ApiRouter {
    routes().with_state(writes)
}

/// Its routes, before there is anything that they work with.
pub fn routes() -> ApiRouter<Writes> {
    ApiRouter::new()
        .merge(customers::routes())
        .merge(items::routes())
        .merge(rentals::routes())
        .merge(deliveries::routes())
        .merge(notices::routes())
        .merge(deposits::routes())
}
