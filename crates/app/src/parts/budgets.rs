//! Budget state: in the memory of this process, or in a Redis that several share.

use std::sync::Arc;

use anyhow::{Context, Result};
use budgets::redis::Settings;
use budgets::{Memory, Redis};
use config::Config;
use schemas::Identity;

/// Where budgets are counted.
pub struct Budgets {
    pub state: Arc<dyn budgets::Budgets>,
    redis: Option<Arc<Redis>>,
}

/// What the configuration asks for. `name` is the same after a restart of this process, and nobody else's;
/// empty for one that takes no calls. `former` are the last usage events of its former lives, where it had any.
pub async fn open(config: &Config, name: String, former: Option<Vec<Identity>>) -> Result<Budgets> {
    let Some(redis) = &config.redis else {
        return Ok(Budgets {
            state: Arc::new(Memory::new()),
            redis: None,
        });
    };
    let settings = Settings {
        name,
        former,
        wait: redis.wait,
        ca: redis.ca.as_ref().map(|ca| ca.expose().to_owned()),
        ..Settings::new(redis.url.expose(), redis.prefix.as_str())
    };
    let redis = Redis::start(settings).await;
    let redis = Arc::new(redis.context("tollgate.redis")?);
    Ok(Budgets {
        state: redis.clone(),
        redis: Some(redis),
    })
}

impl Budgets {
    /// Several processes count here, so the budget lane lives where billing is.
    pub const fn are_shared(&self) -> bool {
        self.redis.is_some()
    }

    /// No call is open here any more: nobody has to wait for this process.
    pub async fn leave(&self) {
        if let Some(redis) = &self.redis {
            redis.leave().await;
        }
    }
}
