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
use crate::usage::{Reading, tokens_of_bytes};

/// A call without its end.
struct Open {
    partition: Partition,
    admitted: Admitted,
    mark: Option<StreamMark>,
    /// Of the last attempt that was recorded: its number, and what is held from there on.
    before: Option<(u32, NanoUsd)>,
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
        let usage = abandoned(&call, now);
        let appended = journal.append_final(Topic::Usage, call.partition, &usage.body())?;
        last = Some(appended.position);
        let tokens = usage
            .meters
            .input_tokens()
            .saturating_add(usage.meters.output_tokens());
        closed.push(Abandoned {
            hold: usage.request_id,
            amount: usage.hold,
            tokens: u64::try_from(tokens).unwrap_or(0),
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
                        admitted,
                        mark: None,
                        before: None,
                    },
                );
            }
            Topic::Progress => {
                let progress: Progress = decode(&record)?;
                if let Some(call) = open.get_mut(&progress.request_id) {
                    call.mark = Some(progress.mark);
                }
            }
            Topic::Usage => {
                let usage: Usage = decode(&record)?;
                if usage.last {
                    open.remove(&usage.request_id);
                } else if let Some(call) = open.get_mut(&usage.request_id) {
                    call.before = Some((usage.attempt_no, usage.hold));
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

/// What an abandoned call is billed: what its last mark says, else its prompt.
fn abandoned(call: &Open, now: Micros) -> Usage {
    let admitted = &call.admitted;
    let (attempts, hold) = call.before.unwrap_or((0, admitted.hold));
    let reading = match &call.mark {
        // Every attempt after the first is marked before it goes out.
        mark if attempts > 0 && mark.as_ref().is_none_or(|mark| mark.attempt_no <= attempts) => {
            Reading::default()
        }
        Some(mark) => Reading::estimate(mark.input_tokens, mark.output_tokens),
        None => Reading::estimate(tokens_of_bytes(admitted.input_bound), 0),
    };
    let (provider, model, deployment, attempt_no) = match &call.mark {
        Some(mark) => (
            &mark.provider,
            &mark.model,
            &mark.deployment,
            mark.attempt_no,
        ),
        None => (&admitted.provider, &admitted.model, &admitted.deployment, 1),
    };
    let attempt_no = attempt_no.max(attempts + 1);
    Usage {
        event_time: now,
        admitted_at: admitted.event_time,
        request_id: admitted.request_id,
        call_id: None,
        attribution: admitted.attribution.clone(),
        attempt_no,
        last: true,
        outcome: Outcome::Abandoned,
        estimated: true,
        mismatch: false,
        stream: admitted.stream,
        status: 0,
        error_code: None,
        finish_reason: None,
        model_requested: admitted.model_requested.clone(),
        provider: provider.clone(),
        model: model.clone(),
        deployment: deployment.clone(),
        service_tier: None,
        meters: reading.meters,
        provider_usage: Blob::default(),
        hold,
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
