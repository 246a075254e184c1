//! A log with usage events, and lanes that read it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use analytics::Store;
use arc_swap::ArcSwap;
use billing_consumer::{Billing, Parts, Settings, Status};
use budgets::{Budgets, Memory, Reserve, Scope, ScopeKind, Spend};
use journal::{EventLog, Journal, Options, Start};
use metering::{Catalog, Window};
use schemas::events::{DeadLetter, PriceEntry, Rate};
use schemas::{
    Attribution, BudgetRef, CacheKind, CatalogEvent, Event, Meter, Meters, Micros, NanoUsd,
    Outcome, Partition, RequestId, Stages, Topic, Usage,
};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct World {
    pub log: Journal,
    pub dead_letters: Journal,
    pub catalog: Arc<ArcSwap<Catalog>>,
    pub budgets: Arc<Memory>,
    pub store: Option<Store>,
    pub settings: Settings,
    pub billing: Option<Billing>,
    _dir: tempfile::TempDir,
}

impl World {
    /// Nothing runs yet.
    pub fn new(store: Option<Store>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (log, dead_letters) = logs(dir.path());
        Self {
            log,
            dead_letters,
            catalog: Arc::new(ArcSwap::from_pointee(catalog())),
            budgets: Arc::new(Memory::new()),
            store,
            settings: Settings::default(),
            billing: None,
            _dir: dir,
        }
    }

    pub fn start(&mut self) {
        let parts = self.parts();
        self.billing = Some(billing_consumer::start(self.settings.clone(), parts));
    }

    pub fn parts(&self) -> Parts {
        Parts {
            log: Arc::new(self.log.clone()),
            dead_letters: Arc::new(self.dead_letters.clone()),
            audit: Some(Arc::new(self.log.clone())),
            catalog: Arc::clone(&self.catalog),
            budgets: Some(Arc::clone(&self.budgets) as Arc<dyn Budgets>),
            store: self.store.clone(),
        }
    }

    /// The process dies and comes back: its memory is gone.
    pub fn restart(&mut self) {
        drop(self.billing.take());
        self.budgets = Arc::new(Memory::new());
        self.start();
    }

    pub fn status(&self) -> Status {
        self.billing.as_ref().expect("the lanes run").status()
    }

    /// Ends the lanes in order.
    pub async fn drain(&mut self) {
        self.billing
            .take()
            .expect("the lanes run")
            .drain(PATIENCE)
            .await
            .unwrap();
    }

    pub async fn append(&self, usage: &Usage) {
        self.append_bytes(usage.body()).await;
    }

    pub async fn append_bytes(&self, body: Vec<u8>) {
        EventLog::append(&self.log, Topic::Usage, Partition(0), body.into())
            .await
            .unwrap();
    }

    pub async fn ready(&self) {
        until("the budget state is ready", || self.budgets.ready()).await;
    }

    /// Until both lanes have brought that many events, dead letters included.
    pub async fn brought(&self, events: u64) {
        until("the lanes have brought the events", || {
            let status = self.status();
            let count = |lane: &billing_consumer::LaneStatus| lane.events + lane.dead_letters;
            count(&status.budget) >= events
                && (self.store.is_none() || count(&status.store) >= events)
        })
        .await;
    }

    pub async fn spend(&self) -> Spend {
        self.budgets
            .spend(&[("key:k".into(), Micros(0))])
            .await
            .unwrap()[0]
    }

    pub async fn letters(&self) -> Vec<DeadLetter> {
        let mut reader = self
            .dead_letters
            .reader("", &[Topic::Dlq], Start::Beginning)
            .await
            .unwrap();
        let records = reader.next(1_000, Duration::ZERO).await.unwrap();
        records
            .iter()
            .map(|record| DeadLetter::from_body(&record.body).unwrap())
            .collect()
    }

    /// Holds `nano` for a call.
    pub async fn reserve(&self, call: u64, nano: i64) {
        let scope = Scope {
            kind: ScopeKind::Key,
            id: "k".into(),
            budget: "key:k".into(),
            limit: Some(NanoUsd::from_usd(1)),
            window: Window::LIFETIME,
            rpm: None,
            tpm: None,
            parallel: Some(10),
        };
        let (now, amount) = (now(), NanoUsd(nano));
        let expires = now.plus_secs(600);
        let scopes = &[scope];
        let request = Reserve {
            hold: id(call),
            amount,
            least: amount,
            tokens: 0,
            scopes,
            now,
            expires,
        };
        self.budgets.reserve(&request).await.unwrap();
    }
}

pub fn logs(dir: &Path) -> (Journal, Journal) {
    let options = Options {
        segment_bytes: 64 << 10,
        partitions: 4,
        ..Options::default()
    };
    let open = |name| Journal::open(&dir.join(name), options.clone()).unwrap().0;
    (open("journal"), open("dlq"))
}

/// Polls until something is so.
pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(
            began.elapsed() < PATIENCE,
            "not so after {PATIENCE:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn now() -> Micros {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    Micros(i64::try_from(since.as_micros()).unwrap())
}

pub fn id(call: u64) -> RequestId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&call.to_be_bytes());
    RequestId(bytes)
}

/// One nano-dollar per output token of model `m`.
pub fn prices() -> CatalogEvent {
    let rate = Rate {
        meter: Meter::OutputText,
        service_tier: None,
        context_above: 0,
        price: "0.000000001".into(),
    };
    let entry = PriceEntry {
        scope: "global".into(),
        provider: "p".into(),
        model: "m".into(),
        effective_from: Micros(0),
        effective_to: None,
        source: "test".into(),
        source_date: "2026-01-01".into(),
        max_input: None,
        max_output: None,
        rates: vec![rate],
    };
    CatalogEvent {
        event_time: Micros(0),
        actor: "test".into(),
        entries: vec![entry],
    }
}

pub fn catalog() -> Catalog {
    Catalog::new().apply(1, &prices()).unwrap()
}

pub fn lifetime(budget: &str) -> BudgetRef {
    BudgetRef {
        budget: budget.into(),
        window_start: Micros(0),
        window_end: Micros(i64::MAX),
    }
}

/// The only event of a call that cost `tokens` nano-dollars.
pub fn usage(call: u64, tokens: i64) -> Usage {
    let mut meters = Meters::default();
    meters.add(Meter::OutputText, tokens);
    Usage {
        event_time: now(),
        admitted_at: now(),
        request_id: id(call),
        call_id: None,
        attribution: Attribution::default(),
        attempt_no: 1,
        last: true,
        outcome: Outcome::Ok,
        estimated: false,
        mismatch: false,
        stream: false,
        status: 200,
        error_code: None,
        finish_reason: Some("stop".into()),
        model_requested: "m".into(),
        provider: "p".into(),
        model: "m".into(),
        deployment: "d".into(),
        service_tier: None,
        meters,
        provider_usage: schemas::codec::Blob(b"{}".to_vec()),
        hold: NanoUsd(1_000),
        budgets: vec![lifetime("key:k"), lifetime("global")],
        catalog_version: 1,
        cache: CacheKind::None,
        cache_similarity: 0.0,
        saved: NanoUsd(0),
        first_byte_us: Some(1_000),
        duration_us: 2_000,
        stages: Stages::default(),
        attempts: Vec::new(),
        compression: None,
        parent: None,
        metadata: None,
    }
}
