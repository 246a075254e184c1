//! How far the lanes of a running gateway have come, for commands that bring them something.

use std::sync::Arc;
use std::time::Duration;

use analytics::Store;
use anyhow::Result;
use schemas::{Identity, Standing};
use tokio::time::Instant;

use super::{audit, explain};
use crate::parts::budgets;
use crate::settings::Settings;

/// Pause until they are looked at again.
const PAUSE: Duration = Duration::from_millis(100);

/// The sinks of both lanes.
pub struct Lanes {
    pub store: Store,
    /// None where spend is in the memory of a process.
    budgets: Option<Arc<dyn ::budgets::Budgets>>,
}

impl Lanes {
    pub async fn open(settings: &Settings) -> Result<Self> {
        let budgets = budgets::open(&settings.config, String::new(), None).await?;
        Ok(Self {
            store: audit::store(settings)?,
            budgets: budgets.are_shared().then(|| budgets.state.clone()),
        })
    }

    /// Where the tables stand, then budget state.
    pub async fn standings(&self) -> Result<(Option<Standing>, Option<Standing>)> {
        let store = self.store.standing().await.map_err(explain)?;
        let budgets = match &self.budgets {
            Some(budgets) => Some(budgets.standing().await?),
            None => None,
        };
        Ok((Some(store), budgets))
    }

    /// Waits until both have these events, for at most so long. Says whether they do.
    pub async fn have(&self, events: &[Identity], wait: Duration) -> Result<bool> {
        let until = Instant::now() + wait;
        loop {
            let (store, budgets) = self.standings().await?;
            let mut stands = store.iter().chain(&budgets);
            if stands.all(|standing| events.iter().all(|event| reaches(standing, event))) {
                return Ok(true);
            }
            if Instant::now() + PAUSE > until {
                return Ok(false);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn reaches(standing: &Standing, event: &Identity) -> bool {
    let source = (event.source_id, event.partition);
    let mut marks = standing.marks.iter();
    marks.any(|mark| (mark.source_id, mark.partition) == source && mark.pseq >= event.pseq)
}
