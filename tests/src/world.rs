//! Tollgate in one of its shapes, one scripted provider, one empty folder: where a scenario takes place.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use schemas::NanoUsd;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::PATIENCE;
use crate::build::Build;
use crate::client::{Answered, Chat};
use crate::gateway::{Gateway, executable};
use crate::parts::Parts;
use crate::provider::Provider;
use crate::shape::Shape;
use crate::tables::Tables;

/// The master key of every world.
pub const MASTER: &str = "sk-master-of-the-scenario";

/// Tollgate in front of a provider. What it leaves is deleted when it is dropped.
pub struct World {
    pub shape: Shape,
    /// What takes calls: the one process of `up`, or every ingress.
    pub ingresses: Vec<Gateway>,
    /// None in one machine: `up` does it.
    pub billing: Vec<Gateway>,
    /// At most one, and only where there is a cache.
    pub caches: Vec<Gateway>,
    /// The engine, where it is not a child of `up`.
    pub engine: Option<Gateway>,
    pub provider: Provider,
    pub http: reqwest::Client,
    /// The broker and the Redis of this world, and the word by which it is told from others there.
    pub parts: Option<Arc<Parts>>,
    pub prefix: String,
    pub(crate) turn: AtomicUsize,
    pub(crate) folder: TempDir,
}

impl World {
    pub async fn start(shape: Shape) -> Self {
        Self::with(shape, "").start().await
    }

    #[must_use]
    pub fn with(shape: Shape, yaml: &str) -> Build {
        Build::of(shape, yaml)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The first of those that take calls: what a scenario about one process is about.
    pub fn gateway(&self) -> &Gateway {
        &self.ingresses[0]
    }

    /// Every process, in the order in which events flow.
    pub fn processes(&mut self) -> impl Iterator<Item = &mut Gateway> {
        let behind = self.billing.iter_mut().chain(&mut self.caches);
        self.ingresses.iter_mut().chain(behind)
    }

    /// Base URL for the next call: those who take calls in turn, as behind a load balancer.
    pub fn url(&self) -> String {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.ingresses[turn % self.ingresses.len()].url()
    }

    /// A call with the master key.
    pub fn chat(&self, question: &str) -> Chat {
        self.chat_as(MASTER, question)
    }

    /// A call through the next in turn; sent again, it goes the same way.
    pub fn chat_as(&self, key: &str, question: &str) -> Chat {
        Chat::new(&self.http, &self.url(), key, "scripted", question)
    }

    /// A call through the first one.
    pub fn chat_first(&self, key: &str, question: &str) -> Chat {
        Chat::new(&self.http, &self.gateway().url(), key, "scripted", question)
    }

    /// A new key with these fields of `/key/generate`, in force everywhere.
    pub async fn key(&self, fields: Value) -> String {
        let answer = self.post("/key/generate", fields).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let made = answer.json();
        self.everywhere(
            &format!("/key/info?key={}", made["token"].as_str().unwrap()),
            |answer| answer.status == 200,
        )
        .await;
        made["key"].as_str().unwrap().to_owned()
    }

    /// A new team with these fields of `/team/new`, in force everywhere; its id.
    pub async fn team(&self, fields: Value) -> Value {
        let answer = self.post("/team/new", fields).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let id = answer.json()["team_id"].clone();
        let info = format!("/team/info?team_id={}", id.as_str().unwrap());
        self.everywhere(&info, |answer| answer.status == 200).await;
        id
    }

    /// Waits until every ingress answers a management question so: one made the change, the others follow
    /// the topic within a second.
    pub async fn everywhere(&self, route: &str, holds: impl Fn(&Answered) -> bool) {
        for ingress in &self.ingresses {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let url = format!("{}{route}", ingress.url());
                let answer = answered(self.http.get(url).bearer_auth(MASTER)).await;
                if holds(&answer) {
                    break;
                }
                assert!(
                    Instant::now() < deadline,
                    "{route} at {}: {}",
                    ingress.url(),
                    answer.text
                );
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// A management call with the master key, through the next in turn.
    pub async fn post(&self, route: &str, body: Value) -> Answered {
        let url = format!("{}{route}", self.url());
        answered(self.http.post(url).bearer_auth(MASTER).json(&body)).await
    }

    /// A management question with the master key.
    pub async fn get(&self, route: &str) -> Answered {
        let url = format!("{}{route}", self.url());
        answered(self.http.get(url).bearer_auth(MASTER)).await
    }

    /// `info.spend` of a key.
    pub async fn spend_of(&self, key: &str) -> NanoUsd {
        let info = self.get(&format!("/key/info?key={key}")).await.json();
        money(&info["info"]["spend"])
    }

    /// The tables, as the analyst.
    pub fn tables(&self) -> Tables {
        let engine = self.engine.as_ref().unwrap_or_else(|| self.gateway());
        Tables {
            port: engine.launch.clickhouse_port,
            user: "analyst".to_owned(),
            password: engine.file("analyst.password").trim().to_owned(),
        }
    }

    /// One value out of the usage tables.
    pub fn sql(&self, query: &str) -> String {
        let tables = self.tables();
        tables
            .ask(query)
            .unwrap_or_else(|e| panic!("{query}: {e}\n{}", self.log()))
    }

    /// A command that works on the whole world, which must succeed; what it printed.
    pub fn command(&self, arguments: &[&str]) -> String {
        let output = std::process::Command::new(executable())
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{arguments:?}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        said
    }

    /// Everything against everything: succeeds where nothing is missing and nothing too much.
    pub fn audit(&self) -> std::process::Output {
        std::process::Command::new(executable())
            .args(["audit", "--config"])
            .arg(self.path("tollgate.yaml"))
            .output()
            .unwrap()
    }

    /// A command that asks the running gateway, or the server that many share.
    pub fn ask(&self, arguments: &[&str]) -> std::process::Output {
        match self.shape {
            Shape::OneMachine => self.gateway().run(arguments),
            Shape::Split => std::process::Command::new(executable())
                .args(arguments)
                .arg("--config")
                .arg(self.path("tollgate.yaml"))
                .output()
                .unwrap(),
        }
    }

    /// A command that works on the whole world, as it ended.
    pub fn try_command(&self, arguments: &[&str]) -> (bool, String) {
        let output = std::process::Command::new(executable())
            .args(arguments)
            .arg("--config")
            .arg(self.path("tollgate.yaml"))
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        (output.status.success(), said)
    }

    /// Waits until the tables hold so many last usage rows, with their costs: the ledger is written second.
    pub async fn rows(&self, expected: usize) {
        let query = "select count() from cost_ledger final where last";
        let seen = std::cell::RefCell::new(String::new());
        self.until(
            || format!("{expected} usage rows; there are {}", seen.borrow()),
            || {
                *seen.borrow_mut() = self.tables().ask(query).unwrap_or_else(|error| error);
                *seen.borrow() == expected.to_string()
            },
        )
        .await;
    }

    /// The sum of the ledger.
    pub fn ledger(&self) -> NanoUsd {
        self.sql("select toString(sum(amount)) from cost_ledger final")
            .parse()
            .unwrap()
    }

    /// Waits for a condition; a scenario never sleeps for a guess.
    pub async fn until<W: std::fmt::Display>(
        &self,
        what: impl Fn() -> W,
        mut holds: impl FnMut() -> bool,
    ) {
        let deadline = Instant::now() + PATIENCE;
        while !tokio::task::block_in_place(&mut holds) {
            assert!(
                Instant::now() < deadline,
                "waited in vain for {}\n{}",
                what(),
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The last that every process wrote.
    pub fn log(&self) -> String {
        let processes = self
            .ingresses
            .iter()
            .chain(&self.billing)
            .chain(&self.caches)
            .chain(&self.engine);
        processes
            .map(|process| {
                let log = process.log();
                let lines: Vec<&str> = log.lines().collect();
                let last = lines[lines.len().saturating_sub(25)..].join("\n");
                format!(
                    "--- {} at {}\n{last}\n",
                    process.launch.role, process.launch.port
                )
            })
            .collect()
    }

    /// `kill -9` of everything but the engine of a split world, which stands for a server of its own.
    pub fn kill(&mut self) {
        self.processes().for_each(Gateway::kill);
    }

    /// SIGTERM to everything, in the order in which events flow.
    pub fn stop(&mut self) {
        self.processes()
            .filter_map(|process| process.lives().then_some(process))
            .for_each(Gateway::stop);
    }

    /// Starts everything again over the same data, after it was killed or stopped.
    pub async fn restart(&mut self) {
        // Its password and port are in everybody's file.
        if let Some(engine) = &mut self.engine {
            engine.ready().await;
        }
        self.processes().for_each(Gateway::again);
        self.ready().await;
    }

    /// Starts those that consume events again, with these environment variables and no others.
    pub async fn restart_consumers(&mut self, env: &[(&str, &str)]) {
        let consumers = match self.shape {
            Shape::OneMachine => &mut self.ingresses,
            Shape::Split => &mut self.billing,
        };
        for process in consumers {
            if process.lives() {
                process.stop();
            }
            process.launch.env = env
                .iter()
                .map(|&(name, value)| (name.into(), value.into()))
                .collect();
            process.again();
        }
        self.ready().await;
    }

    /// Waits until one of the processes has ended by itself, as at a fail point.
    pub async fn one_died(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.processes().all(Gateway::lives) {
            assert!(
                Instant::now() < deadline,
                "one was to die, and all live\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Deletes everything that is made from the log, while nothing runs: tables, budget state, key tables,
    /// indexes, and what consumers remember of their places.
    pub fn delete_projections(&mut self) {
        let log = ["journal", "config", "catalog", "dlq"];
        let secrets = ["master.key", "analyst.password", "writer.password"];
        if let Some(engine) = &mut self.engine {
            engine.stop();
        }
        let mut processes: Vec<&mut Gateway> = self.ingresses.iter_mut().collect();
        processes.extend(&mut self.billing);
        processes.extend(&mut self.caches);
        processes.extend(&mut self.engine);
        for process in processes {
            for entry in std::fs::read_dir(process.data_dir()).unwrap() {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                if log.contains(&name.as_str()) || secrets.contains(&name.as_str()) {
                    let positions = entry.path().join("positions");
                    if positions.exists() && self.shape == Shape::OneMachine {
                        std::fs::remove_dir_all(positions).unwrap();
                    }
                } else if entry.path().is_dir() {
                    std::fs::remove_dir_all(entry.path()).unwrap();
                } else {
                    std::fs::remove_file(entry.path()).unwrap();
                }
            }
        }
        if let Some(parts) = &self.parts {
            parts.forget(&self.prefix);
        }
        if let Some(engine) = &mut self.engine {
            engine.again();
        }
    }

    /// Waits until every process is ready.
    pub async fn ready(&mut self) {
        for process in self.processes() {
            process.ready().await;
        }
    }

    /// What the scripted provider charges, as money.
    pub fn invoice(&self) -> NanoUsd {
        NanoUsd(i64::try_from(self.provider.books().charged_nano).unwrap())
    }
}

async fn answered(request: reqwest::RequestBuilder) -> Answered {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answered {
        status,
        headers,
        text: response.text().await.unwrap(),
    }
}

/// An amount out of JSON, from the text of its number.
pub fn money(value: &Value) -> NanoUsd {
    serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{value}: {e}"))
}

/// A tool for the scripted model.
pub fn weather_tool() -> Value {
    json!([{"type": "function", "function": {"name": "weather", "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}])
}
