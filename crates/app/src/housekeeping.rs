//! What is due every second: expired holds, the journal's low-water mark, its heartbeat, its old segments.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use billing_consumer::Watch;
use ingress::{Gateway, clock};
use journal::Journal;
use schemas::{AuditEvent, AuditKind, Event, LastPseq, Partition, Topic};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const TICK: Duration = Duration::from_secs(1);
/// An idle source still says once in so many ticks that it lives.
const IDLE_TICKS: u32 = 60;
/// Old segments are looked for once in so many ticks.
const TRIM_TICKS: u32 = 60;

/// The running upkeep.
pub struct Upkeep {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Starts it on the present runtime.
pub fn start(gateway: Arc<Gateway>, billing: Option<Watch>) -> Upkeep {
    let (stop, stopped) = oneshot::channel();
    Upkeep {
        stop,
        task: tokio::spawn(keep(gateway, billing, stopped)),
    }
}

impl Upkeep {
    pub async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

async fn keep(gateway: Arc<Gateway>, billing: Option<Watch>, mut stopped: oneshot::Receiver<()>) {
    let mut ticks = tokio::time::interval(TICK);
    let mut heart = Heart::default();
    let mut problems = Problems::default();
    for tick in 0_u32.. {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = &mut stopped => {
                // The last one: what should exist when this process is gone.
                heart.beat(&gateway, 0);
                return;
            }
        }
        let expired = gateway.budgets.sweep(clock::now()).await;
        if expired > 0 {
            tracing::warn!(
                holds = expired,
                "holds expired that no call and no event ended"
            );
        }
        if let Err(error) = gateway.mark_low_water() {
            tracing::warn!("the journal's low-water mark is late: {error}");
        }
        heart.beat(&gateway, tick);
        if tick.is_multiple_of(TRIM_TICKS) {
            trim(&gateway.journal);
        }
        if let Some(billing) = &billing {
            problems.tell(billing.status().problems);
        }
    }
}

/// Problems of the lanes, each told once, when it has stood for a while: some pass by themselves.
#[derive(Default)]
struct Problems(HashMap<String, u32>);

impl Problems {
    const TICKS: u32 = 5;

    fn tell(&mut self, now: Vec<String>) {
        self.0.retain(|problem, _| now.contains(problem));
        for problem in now {
            let ticks = self.0.entry(problem).or_default();
            *ticks = ticks.saturating_add(1);
        }
        for (problem, _) in self.0.iter().filter(|(_, ticks)| **ticks == Self::TICKS) {
            tracing::error!("billing: {problem}");
        }
    }
}

fn trim(journal: &Journal) {
    match journal.trim() {
        Ok(0) => {}
        Ok(segments) => tracing::info!(segments, "old segments of the journal deleted"),
        Err(error) => tracing::warn!("the journal cannot be trimmed: {error}"),
    }
}

/// Tells the audit what should exist.
#[derive(Default)]
struct Heart {
    last: Vec<LastPseq>,
    /// A call leaves a moment after its last event is written: told too early, it is told again.
    open: u64,
}

impl Heart {
    fn beat(&mut self, gateway: &Gateway, tick: u32) {
        let last: Vec<LastPseq> = gateway
            .journal
            .last()
            .into_iter()
            .filter(|((topic, _), _)| matches!(topic, Topic::Requests | Topic::Usage))
            .map(|((topic, partition), pseq)| LastPseq {
                topic: topic as u32,
                of_partition: u32::from(partition.0),
                last: pseq.0,
            })
            .collect();
        let open = gateway.open_calls.count();
        let same = last == self.last && open == self.open;
        if same && !tick.is_multiple_of(IDLE_TICKS) {
            return;
        }
        let event = AuditEvent {
            event_time: clock::now(),
            kind: AuditKind::Heartbeat,
            last: last.clone(),
            depth_bytes: gateway.journal.pressure().used_bytes,
            open_calls: open,
            blocks: Vec::new(),
        };
        // A journal that cannot take a heartbeat refuses calls too, and says so there.
        let appended = gateway
            .journal
            .append(Topic::Audit, Partition(0), &event.body());
        if let Ok(appended) = appended {
            // Consumers see what is durable, and no call may come that waits for it.
            gateway.journal.sync_soon(appended.position);
            (self.last, self.open) = (last, open);
        }
    }
}
