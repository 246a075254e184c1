//! Where the lanes begin: after what their sinks hold. The tables know up to which event of each source
//! they are complete; budget state in memory begins with their sums, and reads the log from there.

use std::collections::HashMap;

use analytics::Store;
use budgets::{Budgets, Restored, RestoredWindow};
use schemas::{BudgetRef, Identity, Micros, NanoUsd, Partition, Pseq, SourceId, Text};

use crate::backoff::Patience;
use crate::status::{Board, Name};
use crate::{Settings, now};

/// Windows begun longer ago are restored only if they are their budget's latest: they are not open, and
/// reports ask the tables.
const RECENT_S: i64 = 35 * 24 * 3600;

/// Where the store lane begins: after what the tables hold. Tries until they answer.
pub(crate) async fn store_marks(
    store: &Store,
    settings: &Settings,
    board: &Board,
) -> Vec<Identity> {
    let mut patience = Patience::new(Name::Store, board, settings);
    loop {
        match ask_marks(store).await {
            Ok(marks) => {
                board.goes_on(Name::Store);
                return marks.into_iter().map(identity_of).collect();
            }
            Err(error) => patience.failed(error.to_string()).await,
        }
    }
}

/// Where the budget lane begins. State that is ready knows; other state is restored from the tables, or
/// to nothing without them. Tries until it is done.
pub(crate) async fn budget_marks(
    budgets: &dyn Budgets,
    store: Option<&Store>,
    settings: &Settings,
    board: &Board,
) -> Vec<Identity> {
    let mut patience = Patience::new(Name::Budget, board, settings);
    loop {
        match begin(budgets, store).await {
            Ok(marks) => {
                board.goes_on(Name::Budget);
                return marks;
            }
            Err(why) => patience.failed(why).await,
        }
    }
}

async fn begin(budgets: &dyn Budgets, store: Option<&Store>) -> Result<Vec<Identity>, String> {
    if budgets.ready() {
        let standing = budgets
            .standing()
            .await
            .map_err(|error| error.to_string())?;
        return Ok(standing.marks);
    }
    let restored = match store {
        None => Restored::default(),
        Some(store) => ask_sums(store).await.map_err(|error| error.to_string())?,
    };
    budgets
        .restore(&restored)
        .await
        .map_err(|error| error.to_string())?;
    Ok(restored.standing.marks)
}

async fn ask_marks(store: &Store) -> Result<Vec<(SourceId, Partition, Pseq)>, analytics::Error> {
    store.migrate().await?;
    store.high_water().await
}

async fn ask_sums(store: &Store) -> Result<Restored, analytics::Error> {
    let marks = ask_marks(store).await?;
    let sums = store.budget_sums(&marks).await?;
    Ok(Restored {
        windows: windows(sums, now()),
        standing: marks
            .into_iter()
            .map(identity_of)
            .collect::<Vec<_>>()
            .into(),
    })
}

fn identity_of((source_id, partition, pseq): (SourceId, Partition, Pseq)) -> Identity {
    Identity {
        source_id,
        partition,
        pseq,
    }
}

/// The windows that can still be checked, or that late events may belong to. Where a window ends the
/// tables do not say; the first call in it will.
fn windows(sums: Vec<(String, Micros, NanoUsd)>, now: Micros) -> Vec<RestoredWindow> {
    let mut latest: HashMap<String, Micros> = HashMap::new();
    for (budget, start, _) in &sums {
        match latest.get_mut(budget) {
            Some(known) => *known = (*start).max(*known),
            None => {
                latest.insert(budget.clone(), *start);
            }
        }
    }
    let recent = now.plus_secs(-RECENT_S);
    let wanted = |budget: &String, start: Micros| {
        start == Micros(0) || start >= recent || latest.get(budget) == Some(&start)
    };
    sums.into_iter()
        .filter(|(budget, start, _)| wanted(budget, *start))
        .map(|(budget, window_start, used)| RestoredWindow {
            budget: BudgetRef {
                budget: Text::from(budget),
                window_start,
                window_end: Micros(i64::MAX),
            },
            used,
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
        let kept: Vec<i64> = windows(sums, day(1_000))
            .iter()
            .map(|window| window.used.0)
            .collect();
        assert_eq!(kept, [1, 3, 4, 5]);
    }
}
