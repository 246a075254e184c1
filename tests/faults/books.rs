//! The provider's books against ours, call by call.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use schemas::NanoUsd;
use tests::World;

use crate::load::{Saw, Seen};
use crate::table::Row;

/// A usage row, with what the ledger charges for it.
struct Entry {
    marker: String,
    outcome: String,
    amount: NanoUsd,
}

const ROWS: &str = "select u.call_id, toString(u.outcome), toString(c.amount) \
    from (select source_id, kpart, pseq, call_id, outcome from usage_rows final where last) as u \
    left join (select source_id, kpart, pseq, sum(amount) as amount from cost_ledger final group by source_id, kpart, pseq) as c \
    using (source_id, kpart, pseq)";

fn entries(world: &World) -> Result<Vec<Entry>, String> {
    let answer = tokio::task::block_in_place(|| world.tables().ask(ROWS))?;
    let entry = |line: &str| {
        let mut fields = line.split('\t');
        let mut next = || {
            fields
                .next()
                .map(str::to_owned)
                .ok_or_else(|| line.to_owned())
        };
        Ok(Entry {
            marker: next()?,
            outcome: next()?,
            amount: next()?.parse().map_err(|_| line.to_owned())?,
        })
    };
    answer.lines().map(entry).collect()
}

/// What differs between the two books.
#[derive(Debug, Default)]
pub struct Difference {
    pub events: u64,
    pub lost: u64,
    pub doubled: u64,
    /// The first few, in words.
    pub words: Vec<String>,
}

/// Compares once.
fn compare(world: &World, seen: &Seen) -> Result<Difference, String> {
    let mut difference = Difference::default();
    let mut by_marker: HashMap<String, Vec<Entry>> = HashMap::new();
    let mut abandoned = 0_u64;
    for entry in entries(world)? {
        difference.events += 1;
        if entry.outcome == "abandoned" {
            abandoned += 1;
        } else if entry.marker.starts_with("call-") {
            by_marker
                .entry(entry.marker.clone())
                .or_default()
                .push(entry);
        }
    }
    let books = world.provider.calls();
    let mut tell = |words: String| {
        if difference.words.len() < 8 {
            difference.words.push(words);
        }
    };
    let (mut sent_without_row, mut broken_without_row) = (0_u64, 0_u64);
    let seen = seen.all();
    let known: HashSet<&str> = seen.iter().map(|(marker, _)| marker.as_str()).collect();
    for (marker, saw) in &seen {
        let rows = by_marker.get(marker).map_or(&[][..], Vec::as_slice);
        let book = books.get(marker).copied().unwrap_or_default();
        match (saw, rows) {
            (_, [_, _, ..]) => {
                difference.doubled += 1;
                tell(format!("{marker} is in our books {} times", rows.len()));
            }
            (Saw::End, []) => {
                difference.lost += 1;
                tell(format!("{marker} was answered and is not in our books"));
            }
            (Saw::Refusal(status), [row]) if row.amount != NanoUsd::ZERO => {
                difference.doubled += 1;
                tell(format!(
                    "{marker} was refused with {status} and costs {}",
                    row.amount
                ));
            }
            (Saw::Refusal(status), []) if book.requests > 0 => {
                difference.lost += 1;
                tell(format!(
                    "{marker} was refused with {status} and sent all the same"
                ));
            }
            (Saw::Break, []) => {
                broken_without_row += 1;
                sent_without_row += u64::from(book.requests > 0);
            }
            (Saw::End | Saw::Break, [row]) if row.outcome == "ok" => {
                let charged = NanoUsd(i64::try_from(book.charged_nano).expect("small"));
                if row.amount != charged {
                    difference.doubled += 1;
                    tell(format!(
                        "{marker} costs {} here and {charged} there",
                        row.amount
                    ));
                }
            }
            (Saw::End, [row]) => {
                difference.lost += 1;
                tell(format!("{marker} was answered and is {}", row.outcome));
            }
            _ => {}
        }
    }
    for marker in by_marker
        .keys()
        .filter(|marker| !known.contains(marker.as_str()))
    {
        difference.doubled += 1;
        tell(format!("{marker} is in our books, and nobody called so"));
    }
    // Those that a kill cut off bear no marker: their number has to be right.
    if sent_without_row > abandoned {
        difference.lost += sent_without_row - abandoned;
        tell(format!(
            "{sent_without_row} calls were cut off after they were sent, {abandoned} are abandoned"
        ));
    }
    if abandoned > broken_without_row {
        difference.doubled += abandoned - broken_without_row;
        tell(format!(
            "{broken_without_row} calls were cut off, {abandoned} are abandoned"
        ));
    }
    Ok(difference)
}

/// Waits until both books agree and the audit is clean, and adds what was found to the row of the table.
/// What still differs in the end is what it says.
pub async fn close(world: &World, seen: &Seen, keys: &[String], row: &mut Row) {
    let deadline = Instant::now() + Duration::from_secs(120);
    let difference = loop {
        let found = compare(world, seen);
        match found {
            Ok(difference) if difference.lost == 0 && difference.doubled == 0 => break difference,
            Ok(difference) if Instant::now() > deadline => {
                crate::say(&format!("{}: {difference:#?}\n{}", row.fault, world.log()));
                break difference;
            }
            Err(error) => assert!(
                Instant::now() < deadline,
                "the tables: {error}\n{}",
                world.log()
            ),
            Ok(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    row.events = difference.events;
    row.lost += difference.lost;
    row.doubled += difference.doubled;
    audited(world, deadline).await;
    spends(world, keys, deadline).await;
}

/// `tollgate audit` says that all is well.
pub async fn audited(world: &World, deadline: Instant) {
    loop {
        let output = tokio::task::block_in_place(|| world.audit());
        if output.status.success() {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "the audit is not clean: {}{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            world.log()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Budget state and ledger name the same spend for each key.
async fn spends(world: &World, keys: &[String], deadline: Instant) {
    for key in keys {
        let query = format!(
            "select toString(sum(amount)) from cost_ledger final where key_hash = lower(hex(SHA256('{key}')))"
        );
        loop {
            let (spend, ledger) = (world.spend_of(key).await, world.sql(&query));
            if spend.to_string() == ledger || ledger.parse() == Ok(spend) {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "a key has spent {spend} by its budget and {ledger} by the ledger\n{}",
                world.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What a provider charged beyond a limit.
pub fn overshoot(world: &World, limit: NanoUsd) -> NanoUsd {
    NanoUsd((world.invoice().0 - limit.0).max(0))
}
