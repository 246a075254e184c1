//! The ingress by itself, for measuring it: `ingress_alone PORT UPSTREAM_BASE THREADS SYNC DIR`, with
//! authentication, two limits, a hard budget, the journal and metrics on. Prints the key to call it with.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use budgets::{Budgets, Memory};
use config::{
    AuthScheme, Config, Dialect, Loaded, ModelEntry, ModelLimits, ModelTimeouts, Secret, Source,
};
use ingress::directory::{Directory, Quota};
use ingress::follow::Follow;
use ingress::{Gateway, Parts};
use journal::{Journal, Options, Sync};
use metering::Catalog;
use schemas::{
    CatalogEvent, ConfigEntity, ConfigEvent, ConfigOp, Event, KeyHash, Meter, Micros, NanoUsd,
    Partition, PriceEntry, Rate, Topic,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, port, base, threads, sync, dir] = &arguments[..] else {
        return Err("usage: ingress_alone PORT UPSTREAM_BASE THREADS always|group|os DIR".into());
    };
    let sync = match sync.as_str() {
        "always" => Sync::Always,
        "os" => Sync::Os,
        _ => Sync::Group,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let budgets = Memory::new();
    runtime.block_on(budgets.open())?;
    let directory = Arc::new(Directory::new("UTC".parse()?, Quota::default()));
    let key = "sk-bench-0123456789abcdef";
    let event = ConfigEvent {
        event_time: Micros(0),
        entity: ConfigEntity::Key,
        id: KeyHash::of(key).to_string().into(),
        op: ConfigOp::Put,
        body: "{\"key_alias\":\"bench\",\"quota\":{\"max_budget\":1000000000,\"rpm_limit\":1000000000,\"tpm_limit\":1000000000000}}".into(),
        actor: "bench".into(),
    };
    let dir = Path::new(dir);
    let options = Options {
        sync,
        ..Options::default()
    };
    let config_log = Arc::new(Journal::open(&dir.join("config"), Options::default())?.0);
    config_log.append(Topic::Config, Partition(0), &event.body())?;
    let follow = runtime.block_on(async {
        let follow = Follow::start(config_log.clone(), directory.clone(), None);
        follow.watch().caught_up(Duration::from_secs(10)).await;
        follow
    });
    let gateway = Gateway::new(Parts {
        source: Arc::new(Source::made(
            Loaded {
                config: config(base),
                warnings: Vec::new(),
            },
            |_| None,
        )),
        config: Arc::new(config(base)),
        directory,
        partitions: options.partitions,
        journal: Journal::open(&dir.join("journal"), options)?.0,
        config_log,
        config_follow: follow.watch(),
        catalog: Arc::new(ArcSwap::from_pointee(catalog()?)),
        catalog_follow: None,
        prices: None,
        budgets: Arc::new(budgets),
        store: None,
        cache: None,
        beside: Vec::new(),
        master_key: KeyHash::of("sk-master"),
    })?;
    let listen = SocketAddr::from(([127, 0, 0, 1], port.parse()?));
    let running = ingress::start(Arc::new(gateway), listen, threads.parse()?)?;
    eprintln!("{} {key}", running.address());
    std::thread::sleep(Duration::from_secs(86_400));
    Ok(())
}

fn config(base: &str) -> Config {
    let entry = ModelEntry {
        model_name: "one".to_owned(),
        deployment_id: "bench".to_owned(),
        provider: "openai".to_owned(),
        upstream_model: "up-1".to_owned(),
        base_model: None,
        dialect: Dialect::OpenAi,
        api_base: base.to_owned(),
        auth: AuthScheme::Bearer,
        api_key: Some(Secret::new("sk-upstream")),
        api_version: None,
        organization: None,
        headers: Vec::new(),
        prices: Vec::new(),
        limits: ModelLimits {
            max_output_tokens: Some(1_000),
            ..ModelLimits::default()
        },
        timeouts: ModelTimeouts::of(&config::Config::default().timeouts),
        hints: config::Hints::default(),
        params: config::Params::default(),
        shape: config::Shape::default(),
        mock: None,
        line: 0,
    };
    Config {
        models: vec![entry],
        ..Config::default()
    }
}

fn catalog() -> Result<Catalog, metering::Error> {
    let rate = |meter, nano| Rate {
        meter,
        service_tier: None,
        context_above: 0,
        price: NanoUsd(nano).to_string().into(),
    };
    let entry = PriceEntry {
        scope: "global".into(),
        provider: "openai".into(),
        model: "up-1".into(),
        effective_from: Micros(0),
        effective_to: None,
        source: "bench".into(),
        source_date: "2026-11-21".into(),
        max_input: Some(128_000),
        max_output: Some(1_000),
        rates: vec![rate(Meter::InputText, 150), rate(Meter::OutputText, 600)],
    };
    let event = CatalogEvent {
        event_time: Micros(0),
        actor: "bench".into(),
        entries: vec![entry],
    };
    Catalog::new().apply(1, &event)
}
