//! Calls that a crash left open: at start each becomes one usage record with `outcome=abandoned`.
//!
//! Killed in the middle, the next start finds the records that were written and writes the others.

use std::collections::HashMap;

use bytes::Bytes;
use journal::{Journal, Record};
use schemas::codec::Blob;
use schemas::{
    Admitted, CacheKind, Event, Identity, Micros, NanoUsd, Outcome, Partition, Progress, RequestId,
    Stages, StreamMark, Topic, Usage,
};

use crate::Error;
use crate::record::HEDGED;
use crate::usage::{Reading, tokens_of_bytes};

/// A call without its end.
struct Open {
    partition: Partition,
    admitted: Admitted,
    /// Attempts that were on their way, by the last mark. None before the first: an attempt after the first is
    /// marked before it goes out.
    marked: Option<Vec<StreamMark>>,
    /// The highest number of an attempt that is recorded.
    over: u32,
    /// What is held from there on.
    hold: NanoUsd,
}

/// A call that was closed for one that cannot do it any more.
#[derive(Debug, Clone, Copy)]
pub struct Abandoned {
    pub hold: RequestId,
    /// What it was promised, and is charged.
    pub amount: NanoUsd,
    pub tokens: u64,
    /// Its usage event.
    pub event: Identity,
}

/// Closes every call that is open in the journal, and waits until that is durable. To be called before
/// the gateway takes calls. Answers what they held: nobody else will tell the budgets that they are over.
///
/// # Errors
/// The journal cannot be read or written, or holds a record of its own that cannot be decoded.
pub async fn recover(journal: &Journal, now: Micros) -> Result<Vec<Abandoned>, Error> {
    let end = journal.end_position();
    let open = open_calls(journal)?;
    let mut closed = Vec::new();
    let mut last = None;
    for call in open.into_values() {
        let (beside, usage) = abandoned(&call, now);
        let mut used = tokens(&usage);
        for other in beside {
            journal.append(Topic::Usage, call.partition, &other.body())?;
            used = used.saturating_add(tokens(&other));
        }
        let appended = journal.append_final(Topic::Usage, call.partition, &usage.body())?;
        last = Some(appended.position);
        closed.push(Abandoned {
            hold: usage.request_id,
            amount: usage.hold,
            tokens: used,
            event: appended.identity,
        });
    }
    if let Some(position) = last {
        journal.durable(position).await?;
        tracing::warn!(
            "{} calls were open when the gateway stopped: they are billed as abandoned",
            closed.len()
        );
    }
    journal.mark_low_water(end)?;
    Ok(closed)
}

fn open_calls(journal: &Journal) -> Result<HashMap<RequestId, Open>, Error> {
    let topics = [Topic::Requests, Topic::Progress, Topic::Usage];
    let mut open: HashMap<RequestId, Open> = HashMap::new();
    for record in journal.scan(&topics, journal.low_water())? {
        let record = record?;
        match record.topic {
            Topic::Requests => {
                let admitted: Admitted = decode(&record)?;
                let partition = record.identity.partition;
                open.insert(
                    admitted.request_id,
                    Open {
                        partition,
                        marked: None,
                        over: 0,
                        hold: admitted.hold,
                        admitted,
                    },
                );
            }
            Topic::Progress => {
                let progress: Progress = decode(&record)?;
                if let Some(call) = open.get_mut(&progress.request_id) {
                    let mut marked = progress.beside;
                    marked.push(progress.mark);
                    call.marked = Some(marked);
                }
            }
            Topic::Usage => {
                let usage: Usage = decode(&record)?;
                if usage.last {
                    open.remove(&usage.request_id);
                } else if let Some(call) = open.get_mut(&usage.request_id) {
                    call.recorded(&usage);
                }
            }
            _ => {}
        }
    }
    Ok(open)
}

fn decode<E: Event>(record: &Record) -> Result<E, Error> {
    let body: &Bytes = &record.body;
    E::from_body(body).map_err(|error| {
        Error::Internal(format!(
            "record {} of the journal cannot be read: {error}",
            record.identity
        ))
    })
}

impl Open {
    /// A record that was not the last one.
    fn recorded(&mut self, usage: &Usage) {
        self.hold = usage.hold;
        if usage.error_code.as_deref() == Some(HEDGED) {
            // It tells what is held for another attempt beside it, and goes on.
            return;
        }
        self.over = self.over.max(usage.attempt_no);
        // By its deployment: of two at once the one that ends first gets the lower number.
        if let Some(marked) = &mut self.marked {
            marked.retain(|mark| mark.deployment != usage.deployment);
        }
    }

    /// The attempts that were on their way: the last of them ends the call.
    fn on_the_way(&self) -> Vec<StreamMark> {
        match &self.marked {
            Some(marked) => marked.clone(),
            None if self.over > 0 => Vec::new(),
            None => {
                let admitted = &self.admitted;
                vec![StreamMark {
                    provider: admitted.provider.clone(),
                    model: admitted.model.clone(),
                    deployment: admitted.deployment.clone(),
                    attempt_no: 1,
                    input_tokens: tokens_of_bytes(admitted.input_bound),
                    output_tokens: 0,
                }]
            }
        }
    }
}

/// What an abandoned call is billed, attempt by attempt: what its last mark says of each, else its prompt. Where
/// a limit was checked, the last record is charged all that is held, for all of them.
fn abandoned(call: &Open, now: Micros) -> (Vec<Usage>, Usage) {
    let mut marks = call.on_the_way();
    let Some(last) = marks.pop() else {
        let admitted = &call.admitted;
        let none = StreamMark {
            provider: admitted.provider.clone(),
            model: admitted.model.clone(),
            deployment: admitted.deployment.clone(),
            attempt_no: 1,
            input_tokens: 0,
            output_tokens: 0,
        };
        return (Vec::new(), usage(call, &none, Reading::default(), now));
    };
    let beside = marks.iter().map(|mark| {
        let reading = if call.hold > NanoUsd::ZERO {
            Reading::default()
        } else {
            Reading::estimate(mark.input_tokens, mark.output_tokens)
        };
        Usage {
            last: false,
            attempt_no: mark.attempt_no,
            ..usage(call, mark, reading, now)
        }
    });
    let reading = Reading::estimate(last.input_tokens, last.output_tokens);
    (beside.collect(), usage(call, &last, reading, now))
}

/// The last record of a call.
fn usage(call: &Open, mark: &StreamMark, reading: Reading, now: Micros) -> Usage {
    let admitted = &call.admitted;
    Usage {
        event_time: now,
        admitted_at: admitted.event_time,
        request_id: admitted.request_id,
        call_id: None,
        attribution: admitted.attribution.clone(),
        attempt_no: mark.attempt_no.max(call.over + 1),
        last: true,
        outcome: Outcome::Abandoned,
        estimated: true,
        mismatch: false,
        stream: admitted.stream,
        status: 0,
        error_code: None,
        finish_reason: None,
        model_requested: admitted.model_requested.clone(),
        provider: mark.provider.clone(),
        model: mark.model.clone(),
        deployment: mark.deployment.clone(),
        service_tier: None,
        meters: reading.meters,
        provider_usage: Blob::default(),
        hold: call.hold,
        budgets: admitted.budgets.clone(),
        catalog_version: admitted.catalog_version,
        cache: CacheKind::None,
        cache_similarity: 0.0,
        saved: NanoUsd::ZERO,
        first_byte_us: None,
        duration_us: u64::try_from(now.0.saturating_sub(admitted.event_time.0)).unwrap_or(0),
        stages: Stages::default(),
        attempts: Vec::new(),
        compression: None,
        parent: None,
        metadata: None,
    }
}

fn tokens(usage: &Usage) -> u64 {
    let meters = &usage.meters;
    let tokens = meters.input_tokens().saturating_add(meters.output_tokens());
    u64::try_from(tokens).unwrap_or(0)
}
