//! How a world comes to be: its file, its parts, its processes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use schemas::NanoUsd;

use crate::gateway::{Gateway, Launch};
use crate::parts::Parts;
use crate::provider::{INPUT_NANO, OUTPUT_NANO, Provider};
use crate::shape::Shape;
use crate::world::{MASTER, World};

const DEMO: &str =
    "  - model_name: tollgate/demo\n    litellm_params:\n      model: tollgate/demo\n";

/// How a world differs from the usual one.
pub struct Build {
    shape: Shape,
    extra: String,
    tollgate: String,
    kafka: String,
    redis: String,
    models: String,
    parts: Option<Arc<Parts>>,
    ingresses: usize,
    billing: usize,
    disk_bytes: Option<u64>,
}

impl Build {
    /// The usual one, with this in its file.
    pub(crate) fn of(shape: Shape, yaml: &str) -> Self {
        let build = Self {
            shape,
            extra: String::new(),
            tollgate: String::new(),
            kafka: String::new(),
            redis: String::new(),
            models: String::new(),
            parts: None,
            ingresses: 3,
            billing: 2,
            disk_bytes: None,
        };
        if yaml.is_empty() {
            build
        } else {
            build.config(yaml)
        }
    }

    /// More of the configuration file, below `model_list` and `general_settings.master_key`.
    #[must_use]
    pub fn config(mut self, yaml: &str) -> Self {
        self.extra.push_str(yaml);
        self.extra.push('\n');
        self
    }

    /// More of the section `tollgate:`, indented by two.
    #[must_use]
    pub fn tollgate(mut self, yaml: &str) -> Self {
        self.tollgate.push_str(yaml);
        self
    }

    /// More of `tollgate.kafka` of a world of many processes, indented by four.
    #[must_use]
    pub fn kafka(mut self, yaml: &str) -> Self {
        self.kafka.push_str(yaml);
        self
    }

    /// More of `tollgate.redis` of a world of many processes, indented by four.
    #[must_use]
    pub fn redis(mut self, yaml: &str) -> Self {
        self.redis.push_str(yaml);
        self
    }

    /// Serves `tollgate/demo` beside the scripted model.
    #[must_use]
    pub fn demo(self) -> Self {
        self.models(DEMO)
    }

    /// More entries of `model_list`.
    #[must_use]
    pub fn models(mut self, yaml: &str) -> Self {
        self.models.push_str(yaml);
        self
    }

    /// A broker and a Redis of its own, because it breaks them.
    #[must_use]
    pub fn on(mut self, parts: &Arc<Parts>) -> Self {
        self.parts = Some(parts.clone());
        self
    }

    /// So many processes of each role instead of the usual three and two.
    #[must_use]
    pub const fn processes(mut self, ingresses: usize, billing: usize) -> Self {
        (self.ingresses, self.billing) = (ingresses, billing);
        self
    }

    /// Everything that lasts lies on a disk of so many bytes.
    #[must_use]
    pub const fn disk(mut self, bytes: u64) -> Self {
        self.disk_bytes = Some(bytes);
        self
    }

    /// Starts it and waits until it serves.
    pub async fn start(self) -> World {
        let folder = tempfile::tempdir().unwrap();
        let provider = Provider::start().await;
        let mut world = World {
            shape: self.shape,
            ingresses: Vec::new(),
            billing: Vec::new(),
            caches: Vec::new(),
            engine: None,
            provider,
            http: crate::client::http(),
            parts: None,
            prefix: String::new(),
            turn: AtomicUsize::new(0),
            folder,
        };
        match self.shape {
            Shape::OneMachine => self.one_machine(&mut world).await,
            Shape::Split => self.split(&mut world).await,
        }
        world
    }

    async fn one_machine(self, world: &mut World) {
        let config = self.write(world, "");
        let launch = Launch {
            disk_bytes: self.disk_bytes,
            ..Launch::up(Some(config), world.path("data"))
        };
        world.ingresses.push(Gateway::start(launch).await);
    }

    /// The engine first: its password stands in the file of all others.
    async fn split(mut self, world: &mut World) {
        let parts = match self.parts.take() {
            Some(parts) => parts,
            None => Parts::shared().await,
        };
        world.prefix = parts.next_prefix();
        let engine = Gateway::start(Launch::role("clickhouse", None, world.path("engine"))).await;
        let cached = self.extra.contains("cache: true");
        let cache = Launch::role("cache", None, world.path("cache"));
        let section = settings(
            &parts,
            world,
            &engine,
            cached.then_some(&cache),
            &self.kafka,
            &self.redis,
        );
        world.parts = Some(parts);
        world.engine = Some(engine);
        let config = self.write(world, &section);
        world.command(&["topics", "create", "--config", config.to_str().unwrap()]);
        let spawn = |world: &World, role: &'static str, count: usize| -> Vec<Gateway> {
            let launch = |at| {
                let data_dir = world.path(&format!("{role}-{at}"));
                Launch::role(role, Some(config.clone()), data_dir)
            };
            (0..count).map(|at| Gateway::spawn(launch(at))).collect()
        };
        world.billing = spawn(world, "billing", self.billing);
        world.ingresses = spawn(world, "ingress", self.ingresses);
        if cached {
            let config = Some(config.clone());
            world.caches = vec![Gateway::spawn(Launch { config, ..cache })];
        }
        world.ready().await;
    }

    fn write(&self, world: &World, section: &str) -> PathBuf {
        let config = world.path("tollgate.yaml");
        let mut text = yaml(&world.provider, &self.models, &self.extra);
        if !(section.is_empty() && self.tollgate.is_empty()) {
            text.push_str(&format!("tollgate:\n{section}{}", self.tollgate));
        }
        std::fs::write(&config, text).unwrap();
        config
    }
}

/// Where a world of many processes finds its parts: the section `tollgate:` of its file.
fn settings(
    parts: &Parts,
    world: &World,
    engine: &Gateway,
    cache: Option<&Launch>,
    kafka: &str,
    redis: &str,
) -> String {
    let prefix = &world.prefix;
    let password = engine.file("writer.password");
    let cache = cache.map_or_else(String::new, |cache| {
        format!(
            "  cache:\n    url: http://127.0.0.1:{}\n    redis_url: {}\n    timeout_ms: 5000\n",
            cache.port,
            parts.answers.url()
        )
    });
    format!(
        "  kafka:\n    bootstrap_servers: {}\n    topic_prefix: {prefix}\n    partitions: 4\n{kafka}  \
         redis:\n    url: {}\n    prefix: {prefix}\n{redis}  \
         clickhouse:\n    url: http://127.0.0.1:{}\n    user: tollgate\n    password: {}\n{cache}",
        parts.kafka.bootstrap(),
        parts.budgets.url(),
        engine.launch.clickhouse_port,
        password.trim(),
    )
}

/// The usual file: `scripted` with a price, `unpriced` without one, both at the scripted provider.
pub fn yaml(provider: &Provider, models: &str, extra: &str) -> String {
    let base = provider.base_url();
    let price = |nano: u64| NanoUsd(i64::try_from(nano).unwrap()).to_string();
    let (input, output) = (price(INPUT_NANO), price(OUTPUT_NANO));
    format!(
        r#"model_list:
  - model_name: scripted
    litellm_params:
      model: openai/scripted-upstream
      api_base: {base}
      api_key: sk-upstream-secret
      input_cost_per_token: {input}
      output_cost_per_token: {output}
    model_info:
      max_input_tokens: 100000
      max_output_tokens: 1000
  - model_name: unpriced
    litellm_params:
      model: openai/no-one-knows-its-price
      api_base: {base}
      api_key: sk-upstream-secret
{models}general_settings:
  master_key: {MASTER}
{extra}"#
    )
}
