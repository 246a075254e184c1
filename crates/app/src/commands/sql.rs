//! `tollgate sql "…"`: one query over the usage tables; the answer goes to standard output as it comes.

use std::io::Write;

use anyhow::Result;

use super::{block_on, explain, store};
use crate::cli::SqlFlags;

pub fn run(flags: &SqlFlags) -> Result<()> {
    let store = store(&flags.instance)?;
    block_on(async {
        let mut answer = store
            .sql(&flags.query, &flags.format)
            .await
            .map_err(explain)?;
        let mut out = std::io::stdout().lock();
        while let Some(bytes) = answer.next().await.map_err(explain)? {
            out.write_all(&bytes)?;
        }
        Ok(out.flush()?)
    })
}
