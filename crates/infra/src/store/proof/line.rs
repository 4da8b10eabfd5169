//! A line to Postgres that can be cut at the worst moment: what was asked is done, and the answer is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The line; it's there until the test ends.
pub(super) struct Line {
    url: String,
    knife: Arc<Knife>,
}

#[derive(Default)]
struct Knife {
    /// The next answer, on whatever connection, is not passed on.
    is_out: AtomicBool,
    cuts: AtomicUsize,
}

impl Line {
    /// A line to the Postgres at this address.
    pub(super) async fn to(url: &str) -> Self {
        let (before, rest) = url.rsplit_once('@').unwrap();
        let (there, database) = rest.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{before}@{}/{database}", listener.local_addr().unwrap());
        let (knife, there) = (Arc::new(Knife::default()), there.to_owned());
        let line = Self { url, knife: knife.clone() };
        tokio::spawn(async move {
            while let Ok((here, _)) = listener.accept().await {
                let (knife, there) = (knife.clone(), TcpStream::connect(&there).await.unwrap());
                // Whichever side hangs up first.
                tokio::spawn(async move { carry(here, there, &knife).await });
            }
        });
        line
    }

    /// The address of the same database, by this line.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Cuts the connection on which Postgres answers next.
    pub(super) fn cut(&self) {
        self.knife.is_out.store(true, Ordering::Relaxed);
    }

    /// How many were cut.
    pub(super) fn cuts(&self) -> usize {
        self.knife.cuts.load(Ordering::Relaxed)
    }
}

async fn carry(mut here: TcpStream, mut there: TcpStream, knife: &Knife) -> std::io::Result<()> {
    let (mut asked, mut answered) = ([0; 8192], [0; 8192]);
    loop {
        tokio::select! {
            read = here.read(&mut asked) => match read? {
                0 => return Ok(()),
                n => there.write_all(&asked[..n]).await?,
            },
            read = there.read(&mut answered) => match read? {
                0 => return Ok(()),
                _ if knife.is_out.swap(false, Ordering::Relaxed) => {
                    knife.cuts.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                n => here.write_all(&answered[..n]).await?,
            },
        }
    }
}
