//! COPY: as fast as Postgres hands rows out and takes them in.

use std::time::Instant;

use anyhow::Result;
use futures::TryStreamExt;
use sqlx::{Connection, Executor, PgConnection};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use crate::ground::Ground;

/// Seconds that it takes to copy all events out.
pub(crate) async fn out(log: &str) -> Result<f64> {
    let mut connection = PgConnection::connect(log).await?;
    let began = Instant::now();
    let mut bytes = 0;
    let mut copied = connection.copy_out_raw("COPY events TO STDOUT").await?;
    while let Some(chunk) = copied.try_next().await? {
        bytes += chunk.len();
    }
    drop(copied);
    let seconds = began.elapsed().as_secs_f64();
    anyhow::ensure!(bytes > 0, "nothing was copied");
    Ok(seconds)
}

/// Rows to be copied in: a view as it is, in a file.
pub(crate) struct Rows {
    url: String,
    view: String,
    path: std::path::PathBuf,
    /// What makes its key and its other indexes.
    indexes: Vec<String>,
}

impl Rows {
    /// Those of a view, with the key and these indexes.
    pub(crate) async fn of(ground: &Ground, url: &str, view: &str, indexes: &[&str]) -> Result<Self> {
        let path = ground.folder().join("rows");
        let mut file = File::create(&path).await?;
        let mut connection = PgConnection::connect(url).await?;
        let mut copied = connection.copy_out_raw(&format!("COPY (SELECT * FROM {view}) TO STDOUT")).await?;
        while let Some(chunk) = copied.try_next().await? {
            file.write_all(&chunk).await?;
        }
        drop(copied);
        file.flush().await?;
        let key = "ALTER TABLE copied ADD PRIMARY KEY (key)".to_owned();
        let others = indexes.iter().map(|index| format!("CREATE INDEX ON copied {index}"));
        let indexes = std::iter::once(key).chain(others).collect();
        Ok(Self { url: url.to_owned(), view: view.to_owned(), path, indexes })
    }

    /// Seconds that it takes to copy them into an empty table, and then to make its indexes.
    pub(crate) async fn copied_in(&self) -> Result<(f64, f64)> {
        let mut connection = PgConnection::connect(&self.url).await?;
        connection.execute("SET synchronous_commit = off").await?;
        connection.execute(format!("CREATE TABLE copied (LIKE {})", self.view).as_str()).await?;
        let began = Instant::now();
        let mut copy = connection.copy_in_raw("COPY copied FROM STDIN").await?;
        copy.read_from(File::open(&self.path).await?).await?;
        copy.finish().await?;
        let copied = began.elapsed().as_secs_f64();
        for index in &self.indexes {
            connection.execute(index.as_str()).await?;
        }
        let indexed = began.elapsed().as_secs_f64() - copied;
        connection.execute("DROP TABLE copied").await?;
        connection.close().await?;
        Ok((copied, indexed))
    }
}
