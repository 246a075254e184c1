//! Where the lanes begin, and where they go on when partitions or state changed hands: after what their
//! sinks hold. The tables know up to which event of each source they are complete; budget state that was
//! lost begins with their sums, and the log is read from there.

use std::collections::HashMap;
use std::time::Duration;

use analytics::Store;
use budgets::{Beginning, Budgets, Restored, RestoredWindow};
use schemas::{BudgetRef, Micros, NanoUsd, Standing, Text};

use crate::backoff::Patience;
use crate::status::{Board, Name};
use crate::{Settings, now};

/// Windows begun longer ago are restored only if they are their budget's latest: they are not open, and
/// reports ask the tables.
const RECENT_S: i64 = 35 * 24 * 3600;

/// Pause while another process restores.
const WAIT: Duration = Duration::from_millis(100);

/// Where the store lane begins or goes on: after what the tables hold. Tries until they answer.
pub(crate) async fn store_standing(store: &Store, settings: &Settings, board: &Board) -> Standing {
    let mut patience = Patience::new(Name::Store, board, settings);
    loop {
        match ask_standing(store).await {
            Ok(standing) => {
                board.goes_on(Name::Store);
                return standing;
            }
            Err(error) => patience.failed(error.to_string()).await,
        }
    }
}

/// Where the budget lane begins or goes on. State that stands knows; lost state is restored from the
/// tables, or to nothing without them, by one process at a time. Tries until it is done.
pub(crate) async fn budget_standing(
    budgets: &dyn Budgets,
    store: Option<&Store>,
    settings: &Settings,
    board: &Board,
) -> Standing {
    let mut patience = Patience::new(Name::Budget, board, settings);
    loop {
        match begin(budgets, store).await {
            Ok(Some(standing)) => {
                board.goes_on(Name::Budget);
                return standing;
            }
            Ok(None) => {
                let why = "another process restores the budget state";
                board.waits(Name::Budget, why, settings.alarm_after);
                tokio::time::sleep(WAIT).await;
            }
            Err(why) => patience.failed(why).await,
        }
    }
}

/// `None`: to be asked again soon.
async fn begin(budgets: &dyn Budgets, store: Option<&Store>) -> Result<Option<Standing>, String> {
    let words = |error: budgets::Error| error.to_string();
    match budgets.begin().await.map_err(words)? {
        Beginning::Follow(standing) => return Ok(Some(standing)),
        Beginning::Wait => return Ok(None),
        Beginning::Rebuild => {}
    }
    let restored = match store {
        None => Restored::default(),
        Some(store) => ask_sums(store).await.map_err(|error| error.to_string())?,
    };
    tracing::info!(
        windows = restored.windows.len(),
        "budget state is restored from the usage tables, then from the log after them"
    );
    match budgets.restore(&restored).await {
        Ok(()) => Ok(Some(restored.standing)),
        // It went again meanwhile, or another process was quicker.
        Err(budgets::Error::Lost) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

async fn ask_standing(store: &Store) -> Result<Standing, analytics::Error> {
    store.migrate().await?;
    store.standing().await
}

async fn ask_sums(store: &Store) -> Result<Restored, analytics::Error> {
    let standing = ask_standing(store).await?;
    let sums = store.budget_sums(&standing.marks).await?;
    Ok(Restored {
        windows: windows(&sums, now()),
        standing,
    })
}

/// The sums of windows that can still be checked, or that late events may belong to.
pub(crate) fn wanted_windows(
    sums: &[(String, Micros, NanoUsd)],
    now: Micros,
) -> impl Iterator<Item = &(String, Micros, NanoUsd)> {
    let mut latest: HashMap<&str, Micros> = HashMap::new();
    for (budget, start, _) in sums {
        let known = latest.entry(budget).or_insert(*start);
        *known = (*start).max(*known);
    }
    let recent = now.plus_secs(-RECENT_S);
    sums.iter().filter(move |(budget, start, _)| {
        *start == Micros(0) || *start >= recent || latest.get(budget.as_str()) == Some(start)
    })
}

/// Where a window ends the tables do not say; the first call in it will.
fn windows(sums: &[(String, Micros, NanoUsd)], now: Micros) -> Vec<RestoredWindow> {
    wanted_windows(sums, now)
        .map(|(budget, window_start, used)| RestoredWindow {
            budget: BudgetRef {
                budget: Text::from(budget.as_str()),
                window_start: *window_start,
                window_end: Micros(i64::MAX),
            },
            used: *used,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_long_past_are_left_to_the_tables() {
        let day = |day: i64| Micros(day * 86_400_000_000);
        let sum = |budget: &str, start, nano| (budget.to_owned(), day(start), NanoUsd(nano));
        let sums = vec![
            sum("global", 0, 1),
            sum("key:daily", 900, 2),
            sum("key:daily", 990, 3),
            sum("key:daily", 1_000, 4),
            sum("key:yearly", 700, 5),
        ];
        let kept: Vec<i64> = windows(&sums, day(1_000))
            .iter()
            .map(|window| window.used.0)
            .collect();
        assert_eq!(kept, [1, 3, 4, 5]);
    }
}
