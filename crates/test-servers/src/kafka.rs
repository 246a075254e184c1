//! One Kafka broker, KRaft, broker and controller in one process.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::secure::{Secure, Secured};
use crate::{Folder, Process, free_port};

/// A broker with its data. Dropping it kills the broker and removes the data.
pub struct Kafka {
    port: u16,
    /// Compiled to the full: slow to start, and fast.
    fast: bool,
    secure: Option<Secure>,
    broker: Mutex<Option<Process>>,
    /// Dropped after the broker.
    folder: Folder,
}

impl Kafka {
    /// Formats a new storage and starts a broker on it: 3 s, 340 MB.
    ///
    /// # Panics
    /// Without `TOLLGATE_KAFKA_DIR`, or when the broker does not start.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// As [`start`](Self::start), with more lines of `server.properties`.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub async fn start_with(properties: &[(&str, &str)]) -> Self {
        let fast = std::env::var_os("TOLLGATE_KAFKA_FAST").is_some();
        Self::begin(properties, fast, None).await
    }

    /// As [`start`](Self::start), with listeners for TLS and for TLS with a password beside the plain one:
    /// see [`secured`](Self::secured).
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub async fn start_secured(secured: &Secured<'_>) -> Self {
        Self::begin(&[], false, Some(secured)).await
    }

    /// As [`start`](Self::start), for measurements: the broker is compiled to the full.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub async fn start_fast() -> Self {
        Self::begin(&[], true, None).await
    }

    async fn begin(properties: &[(&str, &str)], fast: bool, secured: Option<&Secured<'_>>) -> Self {
        let folder = Folder::new("kafka");
        let (port, controller) = (free_port(), free_port());
        let mut text = server_properties(folder.path(), port, controller);
        let secure = secured.map(|secured| {
            let secure = Secure::new(secured);
            text.push_str(&secure.properties(secured, folder.path(), port, controller));
            secure
        });
        for (name, value) in properties {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "{name}={value}");
        }
        write(&folder.path().join("server.properties"), &text);
        write(&folder.path().join("log4j2.properties"), LOG4J);
        let kafka = Self {
            port,
            fast,
            secure,
            broker: Mutex::new(None),
            folder,
        };
        kafka.format().await;
        kafka.restart().await;
        kafka
    }

    /// One broker for all tests of this process that only use topics of their own and do it no harm.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Kafka> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// For `bootstrap.servers`.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// For `bootstrap.servers`, of the listeners with TLS.
    ///
    /// # Panics
    /// Where it was started without them.
    #[must_use]
    pub fn secured(&self) -> &Secure {
        self.secure
            .as_ref()
            .unwrap_or_else(|| panic!("started without TLS"))
    }

    /// The broker's process, while there is one.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.broker.lock().as_ref().map(Process::id)
    }

    /// SIGSTOP: connections stay, nothing is answered.
    pub fn freeze(&self) {
        if let Some(broker) = &*self.broker.lock() {
            broker.freeze();
        }
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        if let Some(broker) = &*self.broker.lock() {
            broker.thaw();
        }
    }

    /// SIGKILL. The data stays for [`restart`](Self::restart).
    pub fn kill(&self) {
        drop(self.broker.lock().take());
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(&self) {
        let broker = self.broker.lock().take();
        if let Some(mut broker) = broker {
            broker.stop().await;
        }
    }

    /// Starts a broker that was killed or stopped, on its port and its data.
    ///
    /// # Panics
    /// When it does not listen in time.
    pub async fn restart(&self) {
        self.kill();
        let folder = self.folder.path();
        let log = folder.join("broker.log");
        let out = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        let err = out
            .try_clone()
            .unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        let mut broker = Process::start("java", |command| {
            command
                .args(["-Xmx384m", "-XX:+UseSerialGC"])
                // Compiles little, starts fast. Measurements want the whole compiler.
                .args((!self.fast).then_some("-XX:TieredStopAtLevel=1"))
                .arg(config_of(folder))
                .arg("-cp")
                .arg(class_path())
                .arg("kafka.Kafka")
                .arg(folder.join("server.properties"))
                .current_dir(folder)
                .stdin(Stdio::null())
                .stdout(out)
                .stderr(err);
        });
        broker
            .listens(self.port, || {
                std::fs::read_to_string(&log).unwrap_or_default()
            })
            .await;
        *self.broker.lock() = Some(broker);
    }

    /// What the broker wrote: warnings and errors.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("broker.log")).unwrap_or_default()
    }

    async fn format(&self) {
        let folder = self.folder.path().to_owned();
        let mut id = rand::random::<[u8; 16]>();
        // Its text begins with a letter: a dash would be taken for another option.
        id[0] &= 0x7f;
        let users = self.secure.as_ref().map(Secure::scram).unwrap_or_default();
        let run = move || {
            Command::new("java")
                .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
                .arg(config_of(&folder))
                .arg("-cp")
                .arg(class_path())
                .args(["kafka.tools.StorageTool", "format", "--standalone", "-t"])
                .arg(URL_SAFE_NO_PAD.encode(id))
                .arg("-c")
                .arg(folder.join("server.properties"))
                .args(users)
                .current_dir(&folder)
                .stdin(Stdio::null())
                .output()
        };
        let done = tokio::task::spawn_blocking(run)
            .await
            .unwrap_or_else(|error| panic!("formatting ended: {error}"))
            .unwrap_or_else(|error| panic!("java cannot be started: {error}"));
        assert!(
            done.status.success(),
            "the storage cannot be formatted:\n{}{}",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        );
    }
}

fn config_of(folder: &Path) -> String {
    format!(
        "-Dlog4j2.configurationFile={}",
        folder.join("log4j2.properties").display()
    )
}

fn class_path() -> PathBuf {
    let folder = std::env::var_os("TOLLGATE_KAFKA_DIR").unwrap_or_else(|| {
        panic!("TOLLGATE_KAFKA_DIR is not set: run through ./tollgate test, or eval \"$(./tollgate env)\"")
    });
    Path::new(&folder).join("*")
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// One node is everything; each internal topic has one replica and one partition.
fn server_properties(folder: &Path, port: u16, controller: u16) -> String {
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=6000
group.consumer.min.heartbeat.interval.ms=100
group.consumer.heartbeat.interval.ms=500
group.min.session.timeout.ms=1000
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
",
        folder.join("data").display()
    )
}

const LOG4J: &str = "status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %c: %m%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
";
