//! Notices on their way to the customers: by e-mail, webhook, KakaoTalk.
//!
//! What is said is the domain's ([`rentstream_domain::notice`]). Here each [`Channel`] has a reader that notes
//! what is to be said in an outbox, in the transaction of its checkpoint, and a worker that delivers it. No view
//! is involved, so a rebuild sends nothing. A notice is delivered at least once, always under the same id.
//!
//! A new channel is a file of its own and a line in [`CHANNELS`].

mod kakao;
pub mod outbox;
mod post;
mod reading;
mod sending;
mod smtp;
mod webhook;

use std::sync::Arc;

use futures::future::BoxFuture;
use rentstream_domain::notice::{Notice, Subject, Words};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::feed::Feed;
use crate::keys::Keys;
use crate::reader;
use crate::settings::{Crash, Get, SettingError};
use crate::store::Store;
use outbox::Outbox;

/// Makes a channel of its settings; `None` where it's not set.
type Configure = fn(Get<'_>) -> Result<Option<Arc<dyn Channel>>, SettingError>;

/// Every channel beside the inbox, which is a view.
const CHANNELS: [Configure; 3] = [smtp::configure, webhook::configure, kakao::configure];

/// The channels that are set.
pub(crate) fn configured(get: Get<'_>) -> Result<Vec<Arc<dyn Channel>>, SettingError> {
    CHANNELS.iter().filter_map(|configure| configure(get).transpose()).collect()
}

/// A way to a customer.
pub trait Channel: Send + Sync {
    /// Its name, by which its place in the log is kept.
    fn name(&self) -> &'static str;

    /// Hands a letter over. It may have been handed over before, under the same id.
    fn deliver<'a>(&'a self, letter: &'a Letter) -> BoxFuture<'a, Result<Delivery, Failure>>;
}

/// A notice with all that its message needs. Never written anywhere.
pub struct Letter {
    /// What is said.
    pub notice: Notice,
    /// What it speaks of.
    pub subject: Subject,
    /// How it reads.
    pub words: Words,
    /// The customer's e-mail address, if there's one.
    pub email: Option<String>,
}

/// What became of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It's handed over.
    Sent,
    /// The customer has no address that this channel could use.
    NoAddress,
}

/// Why a letter could not be handed over, in words that name no person and no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It's worth trying again.
    #[error("{0}")]
    Later(String),
    /// The other side refuses this very letter; trying again won't help.
    #[error("{0}")]
    Refused(String),
}

/// Runs a channel until shutdown: its reader and its worker. Any number of replicas may.
pub async fn run(
    channel: Arc<dyn Channel>,
    store: Store,
    feed: Feed,
    patience: std::time::Duration,
    crash: Crash,
    shutdown: CancellationToken,
) {
    let outbox = Outbox::new(store.log(), channel.name(), patience);
    let noted = Arc::new(Notify::new());
    let reader = reading::Reader::new(outbox.clone(), noted.clone(), store.log());
    let keys = Keys::of(store.log());
    let sender = sending::Sender { channel, store, keys, outbox, crash };
    tokio::join!(reader::run(reader, feed, shutdown.clone()), sender.run(noted, shutdown));
}
