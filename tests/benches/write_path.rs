//! Writes: from a command in process to a whole rental over HTTP.

pub(crate) mod hot;
pub(crate) mod http;
pub(crate) mod memory;
pub(crate) mod rentals;
pub(crate) mod replicas;
pub(crate) mod store;
pub(crate) mod streams;
