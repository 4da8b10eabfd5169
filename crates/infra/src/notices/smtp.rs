//! E-mail, over SMTP.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp::{AsyncSmtpTransportBuilder, Error};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use super::{Channel, Delivery, Failure, Letter};
use crate::settings::list::{SMTP_FROM, SMTP_URL};
use crate::settings::{Get, SettingError};

/// A mail server that is silent for so long has failed.
const SILENCE: Duration = Duration::from_secs(10);
/// What a mail server says of our own name and password; that's put right, and then it's tried again.
const OURS: [u16; 4] = [530, 534, 535, 538];

type Transport = AsyncSmtpTransport<Tokio1Executor>;

struct Smtp {
    from: Mailbox,
    builder: AsyncSmtpTransportBuilder,
    /// Made with the first e-mail, as it starts tasks.
    transport: OnceLock<Transport>,
}

pub(super) fn configure(get: Get<'_>) -> Result<Option<Arc<dyn Channel>>, SettingError> {
    let Some(url) = get(&SMTP_URL) else { return Ok(None) };
    // It may hold a password, so it isn't repeated.
    let wrong = || SettingError::new(&SMTP_URL, "not such an address");
    let builder = Transport::from_url(&url).map_err(|_| wrong())?.timeout(Some(SILENCE));
    let from = get(&SMTP_FROM).ok_or_else(|| SettingError::new(&SMTP_FROM, "not set"))?;
    let from = from.parse().map_err(|_| SettingError::new(&SMTP_FROM, "not a sender that can be used"))?;
    Ok(Some(Arc::new(Smtp { from, builder, transport: OnceLock::new() })))
}

/// Where the answers of mail servers go: their words quote addresses, so only the code is kept.
fn failed(error: &Error) -> Failure {
    match error.status().map(u16::from) {
        Some(code) if error.is_permanent() && !OURS.contains(&code) => {
            Failure::Refused(format!("the mail server refused it with {code}"))
        }
        Some(code) => Failure::Later(format!("the mail server answered {code}")),
        None if error.is_timeout() => Failure::Later("the mail server was silent for too long".to_owned()),
        None if error.is_tls() => Failure::Later("there is no TLS with the mail server".to_owned()),
        None => Failure::Later("the mail server can't be reached".to_owned()),
    }
}

impl Smtp {
    fn message(&self, letter: &Letter, to: Address) -> Result<Message, lettre::error::Error> {
        let Letter { notice, words, .. } = letter;
        Message::builder()
            .message_id(Some(format!("<{}@{}>", notice.id, self.from.email.domain())))
            .date(notice.at.into())
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(words.ko.split_inclusive(". ").next().unwrap_or_default().trim())
            .header(ContentType::TEXT_PLAIN)
            .body(format!("{}\n\n{}\n\n{}\n", words.ko, words.en, notice.rental_id))
    }
}

impl Channel for Smtp {
    fn name(&self) -> &'static str {
        "smtp"
    }

    fn deliver<'a>(&'a self, letter: &'a Letter) -> BoxFuture<'a, Result<Delivery, Failure>> {
        async move {
            let Some(email) = &letter.email else { return Ok(Delivery::NoAddress) };
            let refused = || Failure::Refused("the customer's address is none that can be used".to_owned());
            let to = email.parse::<Address>().map_err(|_| refused())?;
            let message = self.message(letter, to).map_err(|_| refused())?;
            let transport = self.transport.get_or_init(|| self.builder.clone().build());
            transport.send(message).await.map_err(|error| failed(&error))?;
            Ok(Delivery::Sent)
        }
        .boxed()
    }
}
