//! The price catalog as a projection of its log.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use ingress::follow::{Follow, Frozen, Projection, Snapshot, Watch};
use ingress::prices::Book;
use journal::EventLog;
use metering::Catalog;
use parking_lot::Mutex;
use schemas::{CatalogEvent, Event, Topic};

/// All versions of the catalog: old ones must stay rateable, so what is kept is every event.
#[derive(Default)]
pub struct Prices {
    catalog: Arc<ArcSwap<Catalog>>,
    events: Mutex<Vec<(u64, Bytes)>>,
}

impl Projection for Prices {
    const TOPIC: Topic = Topic::Catalog;
    const NAME: &'static str = "catalog";
    const READS: u16 = 1;

    fn apply(&self, version: u64, body: &[u8]) -> Result<(), String> {
        let event = CatalogEvent::from_body(body).map_err(|error| error.to_string())?;
        let next = self.catalog.load().apply(version, &event);
        self.catalog
            .store(Arc::new(next.map_err(|error| error.to_string())?));
        self.events
            .lock()
            .push((version, Bytes::copy_from_slice(body)));
        Ok(())
    }

    fn clear(&self) {
        self.events.lock().clear();
        self.catalog.store(Arc::default());
    }

    fn freeze(&self) -> Frozen {
        let events = self.events.lock().clone();
        Box::new(move |give| {
            for (version, body) in &events {
                give(*version, body);
            }
        })
    }
}

/// The catalog with what keeps it up to date.
pub struct Followed {
    pub catalog: Arc<ArcSwap<Catalog>>,
    follow: Follow<Prices>,
    log: Arc<dyn EventLog>,
}

/// Follows the catalog's log on the present runtime.
pub fn follow(log: Arc<dyn EventLog>, kept: Option<Snapshot>) -> Followed {
    let prices = Prices::default();
    let catalog = prices.catalog.clone();
    let follow = Follow::start(log.clone(), prices, kept);
    Followed {
        catalog,
        follow,
        log,
    }
}

impl Followed {
    pub fn watch(&self) -> Watch {
        self.follow.watch()
    }

    /// Stops following, and leaves a snapshot.
    pub async fn stop(self) {
        self.follow.stop().await;
    }

    pub fn book(&self) -> Book {
        Book::new(self.log.clone(), self.catalog.clone(), self.watch())
    }
}
