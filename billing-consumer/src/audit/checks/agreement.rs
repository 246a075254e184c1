//! The lanes against each other, and both against the ledger.

use std::collections::{BTreeMap, HashMap};

use analytics::{EventSpan, SpanSum};
use schemas::{Partition, SourceId};

use super::super::blocks::Block;
use super::super::report::Check;
use super::{Auditor, SPANS, TOLD, words};

impl Auditor {
    /// What each lane has noted is what the ledger holds, and what the other lane has noted.
    pub(super) async fn blocks(&self) -> Check {
        const NAME: &str = "lanes and ledger agree";
        let notes = &self.notes;
        let span_of = |source: SourceId, partition: Partition, note: &Block| EventSpan {
            source,
            partition,
            first: note.first,
            last: note.last,
        };
        let mut spans: Vec<EventSpan> = notes
            .iter()
            .flat_map(|((_, source, partition), notes)| {
                notes.iter().map(|note| span_of(*source, *partition, note))
            })
            .collect();
        spans.sort_unstable();
        spans.dedup();
        let mut sums: HashMap<EventSpan, SpanSum> = HashMap::new();
        for spans in spans.chunks(SPANS) {
            match self.parts.store.span_sums(spans).await {
                Ok(found) => sums.extend(found.into_iter().map(|sum| (sum.span, sum))),
                Err(error) => return Check::of(NAME, Vec::new(), vec![words(error)]),
            }
        }
        let mut problems = Vec::new();
        let mut events: BTreeMap<&str, u64> = BTreeMap::new();
        for ((lane, source, partition), notes) in notes {
            for note in notes {
                *events.entry(lane).or_default() += note.events + note.poison;
                let span = span_of(*source, *partition, note);
                let letters = self.evidence.told.letters_in(
                    lane,
                    *source,
                    *partition,
                    note.first.0..=note.last.0,
                );
                let mut ledger = sums
                    .get(&span)
                    .map_or((0, 0, 0), |sum| (sum.events, sum.sum, sum.print));
                if &**lane == "store" {
                    // The lane noted that it gave them up.
                    for later in self.revived_in(&span) {
                        ledger.0 -= later.events.min(ledger.0);
                        ledger.1 -= later.sum;
                        ledger.2 = ledger.2.wrapping_sub(later.print);
                    }
                }
                let noted = (note.events, note.sum, note.print);
                let whole = note.events + note.poison == note.last.0 - note.first.0 + 1;
                if noted != ledger || letters != note.poison || !whole {
                    problems.push(format!(
                        "source {:016x} partition {} events {} to {}: the {lane} lane brought {} and gave up {} \
                         ({} nano-USD, {:016x}), the ledger has {} with {letters} dead letters ({} nano-USD, {:016x})",
                        source.0, partition.0, note.first.0, note.last.0, note.events, note.poison,
                        note.sum, note.print, ledger.0, ledger.1, ledger.2
                    ));
                }
            }
        }
        // Where both lanes have noted the same span, the two comparisons above have compared the lanes.
        let both = notes
            .iter()
            .filter(|((lane, ..), _)| &**lane == "budget")
            .map(|((_, source, partition), of_budget)| {
                let key = ("store".into(), *source, *partition);
                let of_store = notes.get(&key).map_or(&[][..], Vec::as_slice);
                overlap(of_budget, of_store)
            })
            .sum::<u64>();
        let noted = |lane| events.get(lane).copied().unwrap_or(0).to_string();
        let numbers = vec![
            ("events noted by the budget lane", noted("budget")),
            ("by the store lane", noted("store")),
            ("by both", both.to_string()),
            ("spans", spans.len().to_string()),
        ];
        problems.truncate(TOLD);
        Check::of(NAME, numbers, problems)
    }
}

/// Events that lie in notes of both.
fn overlap(one: &[Block], other: &[Block]) -> u64 {
    let shared = |a: &Block, b: &Block| {
        let (first, last) = (a.first.max(b.first), a.last.min(b.last));
        (last.0 + 1).saturating_sub(first.0)
    };
    one.iter()
        .flat_map(|a| other.iter().map(move |b| shared(a, b)))
        .sum()
}
