//! Every admitted call has its last record, or is in progress.

use schemas::Identity;

use super::super::report::Check;
use super::{Auditor, TOLD, words};

impl Auditor {
    /// Every admitted call has its last record, or is in progress. Also says whether a source that has all of its
    /// rows has told something else.
    pub(super) async fn calls(&self) -> (Check, bool) {
        const NAME: &str = "every call ends once";
        let heartbeats = &self.heartbeats;
        let mut marks = Vec::new();
        for (source_id, heartbeat) in heartbeats {
            marks.extend(heartbeat.usage.iter().map(|(&partition, &pseq)| Identity {
                source_id: *source_id,
                partition,
                pseq,
            }));
        }
        let presence = match self.parts.store.presence(&marks).await {
            Ok(presence) => presence,
            Err(error) => return (Check::of(NAME, Vec::new(), vec![words(error)]), false),
        };
        let (mut opened, mut ended, mut open, mut problems) = (0, 0, 0, Vec::new());
        let mut is_odd = false;
        for (source, heartbeat) in heartbeats {
            let rows = presence.iter().filter(|row| row.source_id == source.0);
            let (mut with_row, mut events) = (0, 0);
            for row in rows {
                with_row += row.ended;
                events += row.usage_events;
            }
            // Whether a dead letter ended its call cannot be read any more.
            let lost: u64 = heartbeat
                .usage
                .iter()
                .map(|(partition, last)| {
                    let told = &self.evidence.told;
                    told.letters_in("store", *source, *partition, 1..=last.0)
                })
                .sum();
            let must = heartbeat.opened.saturating_sub(heartbeat.open);
            if with_row > must || with_row + lost < must {
                let told: u64 = heartbeat.usage.values().map(|last| last.0).sum();
                is_odd |= events + lost >= told;
                problems.push(format!(
                    "source {:016x}: of {} calls {with_row} have ended and {} are open",
                    source.0, heartbeat.opened, heartbeat.open
                ));
            }
            opened += heartbeat.opened;
            ended += with_row;
            open += heartbeat.open;
        }
        let numbers = vec![
            ("opened", opened.to_string()),
            ("ended", ended.to_string()),
            ("open", open.to_string()),
        ];
        problems.truncate(TOLD);
        (Check::of(NAME, numbers, problems), is_odd)
    }
}
