//! Where notices arrive: a mail server and a web server of the scenario's own, which note what comes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde_json::Value;
use standardwebhooks::Webhook;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What signs the webhooks.
pub const WEBHOOK_SECRET: &str = "whsec_c2NlbmFyaW9zIG9ubHkga25vdyB0aGlzIGtleQ==";
/// What opens Kakao's door.
pub const KAKAO_TOKEN: &str = "a-kakao-token-that-only-scenarios-know";

/// How a server behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// It takes what comes.
    Fine,
    /// It says that it can't now.
    Failing,
    /// It refuses what comes for good.
    Refusing,
}

/// An e-mail as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The envelope's recipient.
    pub to: String,
    /// Headers and body.
    pub text: String,
}

impl Mail {
    /// A header's value.
    pub fn header(&self, name: &str) -> &str {
        let mut lines = self.text.lines().take_while(|line| !line.is_empty());
        let found = lines.find_map(|line| line.split_once(": ").filter(|(key, _)| *key == name));
        found.unwrap_or_else(|| panic!("no {name} in {}", self.text)).1
    }
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Post {
    /// Where to.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: String,
}

impl Post {
    /// The header's value.
    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// A webhook's body, if the standard's own library finds it signed well.
    pub fn webhook(&self) -> Value {
        let webhook = Webhook::new(WEBHOOK_SECRET).unwrap();
        webhook.verify(self.body.as_bytes(), &self.headers).unwrap();
        serde_json::from_str(&self.body).unwrap()
    }
}

#[derive(Debug)]
struct Noted<T> {
    weather: Weather,
    taken: Vec<T>,
    /// What was turned away as well.
    tries: usize,
}

type Shared<T> = Arc<Mutex<Noted<T>>>;

fn shared<T>() -> Shared<T> {
    Arc::new(Mutex::new(Noted { weather: Weather::Fine, taken: Vec::new(), tries: 0 }))
}

fn noted<T>(shared: &Shared<T>) -> MutexGuard<'_, Noted<T>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The servers that a world's channels lead to.
#[derive(Clone, Debug)]
pub struct Endpoints {
    smtp: String,
    http: String,
    mails: Shared<Mail>,
    posts: Shared<Post>,
}

impl Endpoints {
    /// Starts them; they end with the test.
    pub async fn start() -> Self {
        let (mails, posts) = (shared(), shared());
        let mail = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let web = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let smtp = format!("smtp://{}", mail.local_addr().unwrap());
        let http = format!("http://{}", web.local_addr().unwrap());
        tokio::spawn(receive_mail(mail, mails.clone()));
        let routes = Router::new().fallback(receive).with_state(posts.clone());
        tokio::spawn(async move { axum::serve(web, routes).await.unwrap() });
        Self { smtp, http, mails, posts }
    }

    /// The settings that lead all three channels here.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = self.webhook();
        settings.extend([
            ("SMTP_URL", self.smtp.clone()),
            ("SMTP_FROM", "The Library <library@shop.example>".to_owned()),
            ("KAKAO_URL", self.http.clone()),
            ("KAKAO_TOKEN", KAKAO_TOKEN.to_owned()),
        ]);
        settings
    }

    /// The settings of the webhook alone.
    pub fn webhook(&self) -> Vec<(&'static str, String)> {
        vec![("WEBHOOK_URL", format!("{}/hooks", self.http)), ("WEBHOOK_SECRET", WEBHOOK_SECRET.to_owned())]
    }

    /// The weather at the mail server.
    pub fn mail_is(&self, weather: Weather) {
        noted(&self.mails).weather = weather;
    }

    /// The weather at the web server.
    pub fn web_is(&self, weather: Weather) {
        noted(&self.posts).weather = weather;
    }

    /// How often something came to the web server, though it was turned away.
    pub fn tries(&self) -> usize {
        noted(&self.posts).tries
    }

    /// The e-mails that were taken, in their order.
    pub fn mails(&self) -> Vec<Mail> {
        noted(&self.mails).taken.clone()
    }

    /// The webhooks that were taken, in their order.
    pub fn webhooks(&self) -> Vec<Post> {
        noted(&self.posts).taken.iter().filter(|post| post.path == "/hooks").cloned().collect()
    }

    /// The texts that Kakao took, in their order.
    pub fn kakaos(&self) -> Vec<String> {
        let posts = noted(&self.posts).taken.clone();
        let kakaos = posts.into_iter().filter(|post| post.path == "/v2/api/talk/memo/default/send");
        let text = |post: Post| {
            assert_eq!(post.header("authorization"), format!("Bearer {KAKAO_TOKEN}"));
            assert_eq!(post.header("content-type"), "application/x-www-form-urlencoded");
            let form = reqwest::Url::parse(&format!("http://form/?{}", post.body)).unwrap();
            let (_, template) = form.query_pairs().find(|(name, _)| name == "template_object").unwrap();
            let template: Value = serde_json::from_str(&template).unwrap();
            assert_eq!(template["object_type"], "text");
            assert!(template["link"].is_object());
            template["text"].as_str().unwrap().to_owned()
        };
        kakaos.map(text).collect()
    }
}

async fn receive(
    State(posts): State<Shared<Post>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, &'static str) {
    let mut noted = noted(&posts);
    noted.tries += 1;
    match noted.weather {
        Weather::Fine => {
            let body = String::from_utf8(body.to_vec()).unwrap();
            noted.taken.push(Post { path: uri.path().to_owned(), headers, body });
            (StatusCode::OK, r#"{"result_code":0}"#)
        }
        Weather::Failing => (StatusCode::INTERNAL_SERVER_ERROR, ""),
        Weather::Refusing => (StatusCode::BAD_REQUEST, ""),
    }
}

async fn receive_mail(listener: TcpListener, mails: Shared<Mail>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        // A client that hangs up in the middle of a mail has sent none.
        tokio::spawn(converse(stream, mails.clone()));
    }
}

/// As much of RFC 5321 as a client needs to hand mails over.
async fn converse(stream: TcpStream, mails: Shared<Mail>) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    write.write_all(b"220 mail.example ESMTP\r\n").await?;
    let mut to = String::new();
    while let Some(line) = lines.next_line().await? {
        let weather = noted(&mails).weather;
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let answer = match (verb.as_str(), weather) {
            ("EHLO", _) => "250-mail.example\r\n250-8BITMIME\r\n250 SMTPUTF8",
            ("MAIL", Weather::Failing) => "451 come back later",
            ("RCPT", Weather::Refusing) => "550 no such mailbox",
            ("RCPT", _) => {
                to = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                "250 ok"
            }
            ("DATA", _) => {
                write.write_all(b"354 go on\r\n").await?;
                let mut text = String::new();
                while let Some(line) = lines.next_line().await?.filter(|line| line != ".") {
                    text.push_str(line.strip_prefix('.').unwrap_or(&line));
                    text.push('\n');
                }
                noted(&mails).taken.push(Mail { to: to.clone(), text });
                "250 taken"
            }
            ("QUIT", _) => return write.write_all(b"221 bye\r\n").await,
            ("MAIL" | "RSET" | "NOOP", _) => "250 ok",
            _ => "502 not here",
        };
        write.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
    Ok(())
}
