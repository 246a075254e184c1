//! Every event has one row in each table, or a dead letter.

use std::collections::{BTreeMap, HashMap};

use analytics::{EventSpan, Presence, SpanSum};
use schemas::{Identity, Partition, Pseq, SourceId};

use super::super::report::Check;
use super::{Auditor, SPANS, TOLD, Words, raise, words};

impl Auditor {
    /// Looks for rows of what the store lane has given up.
    pub(super) async fn revive(&mut self) -> Result<(), Words> {
        let letters = self.evidence.told.letters.get("store");
        let span = |event: &Identity| EventSpan {
            source: event.source_id,
            partition: event.partition,
            first: event.pseq,
            last: event.pseq,
        };
        let spans: Vec<EventSpan> = letters.into_iter().flatten().map(span).collect();
        if spans.len() == self.looked_at {
            return Ok(());
        }
        let mut revived = BTreeMap::new();
        for spans in spans.chunks(SPANS) {
            let found = self.parts.store.span_sums(spans).await.map_err(words)?;
            revived.extend(found.into_iter().map(|sum| {
                let event = Identity {
                    source_id: sum.span.source,
                    partition: sum.span.partition,
                    pseq: sum.span.first,
                };
                (event, sum)
            }));
        }
        (self.revived, self.looked_at) = (revived, spans.len());
        Ok(())
    }

    /// Those of a span.
    pub(super) fn revived_in(&self, span: &EventSpan) -> impl Iterator<Item = &SpanSum> {
        let at = |pseq| Identity {
            source_id: span.source,
            partition: span.partition,
            pseq,
        };
        let range = at(span.first)..=at(span.last);
        self.revived.range(range).map(|(_, sum)| sum)
    }

    /// Every event up to the last one known has one row in each table, or a dead letter.
    pub(super) async fn complete(&mut self) -> Check {
        const NAME: &str = "every event has its rows";
        match self.presence().await {
            Ok(presence) => self.complete_of(NAME, &presence).await,
            Err(why) => Check::of(NAME, Vec::new(), vec![why]),
        }
    }

    async fn presence(&mut self) -> Result<HashMap<(SourceId, Partition), Presence>, Words> {
        if !self.has_tails {
            for tail in self.parts.store.tails().await.map_err(words)? {
                raise(&mut self.target, &tail);
            }
            self.has_tails = true;
        }
        let rows = self.parts.store.presence(&self.marks()).await;
        let rows = rows.map_err(words)?.into_iter();
        Ok(rows
            .map(|row| ((SourceId(row.source_id), Partition(row.kpart)), row))
            .collect())
    }

    async fn complete_of(
        &self,
        name: &'static str,
        presence: &HashMap<(SourceId, Partition), Presence>,
    ) -> Check {
        let (mut expected, mut rows, mut dead, mut doubled, mut missing) = (0, 0, 0, 0, 0_u64);
        let unreadable = self.evidence.told.unreadable;
        let mut problems = Vec::new();
        if unreadable > 0 {
            problems.push(format!(
                "{unreadable} heartbeats, notes or letters cannot be read: what they tell of may be missing"
            ));
        }
        for mark in self.marks() {
            let key = (mark.source_id, mark.partition);
            let row = presence.get(&key).copied().unwrap_or_default();
            let given_up = self
                .evidence
                .told
                .letters_in("store", key.0, key.1, 1..=mark.pseq.0);
            let all = EventSpan {
                source: key.0,
                partition: key.1,
                first: Pseq(1),
                last: mark.pseq,
            };
            let letters = given_up - self.revived_in(&all).count() as u64;
            expected += mark.pseq.0;
            rows += row.usage_events;
            dead += letters;
            doubled += row.usage_rows - row.usage_events + row.cost_rows - row.cost_events;
            for (table, events, lines) in [
                ("usage_rows", row.usage_events, row.usage_rows),
                ("cost_ledger", row.cost_events, row.cost_rows),
            ] {
                if lines > events {
                    let (source, partition) = (key.0.0, key.1.0);
                    problems.push(format!(
                        "source {source:016x} partition {partition}: {} events lie twice in {table}",
                        lines - events
                    ));
                }
                if events + letters != mark.pseq.0 && problems.len() < TOLD {
                    missing += mark.pseq.0.saturating_sub(events + letters);
                    problems.push(self.lacking(&mark, table, events, letters).await);
                }
            }
        }
        let numbers = vec![
            ("sources", self.sources().to_string()),
            ("events", expected.to_string()),
            ("rows", rows.to_string()),
            ("dead letters", dead.to_string()),
            ("missing", missing.to_string()),
            ("doubled", doubled.to_string()),
            ("strays", self.evidence.told.strays.to_string()),
            ("unreadable", unreadable.to_string()),
            (
                "accepted as lost",
                self.evidence.told.accepted.len().to_string(),
            ),
        ];
        problems.truncate(TOLD);
        Check::of(name, numbers, problems)
    }

    fn sources(&self) -> usize {
        let mut sources: Vec<_> = self.target.keys().map(|(source, _)| source).collect();
        sources.dedup();
        sources.len()
    }

    async fn lacking(&self, mark: &Identity, table: &str, events: u64, letters: u64) -> String {
        let (source, partition) = (mark.source_id.0, mark.partition.0);
        let holes = match self.parts.store.holes(mark).await {
            Ok(holes) => holes,
            Err(error) => return words(error),
        };
        let mut spans = Vec::new();
        for (first, last) in holes {
            let span = first.0..=last.0;
            let given_up =
                self.evidence
                    .told
                    .letters_in("store", mark.source_id, mark.partition, span);
            if given_up < last.0 - first.0 + 1 {
                spans.push(format!("{} to {}", first.0, last.0));
            }
        }
        format!(
            "source {source:016x} partition {partition}: {events} events in {table} and {letters} dead \
             letters are not 1 to {}; without a row in the ledger: {}",
            mark.pseq.0,
            if spans.is_empty() {
                "none".to_owned()
            } else {
                spans.join(", ")
            }
        )
    }
}
