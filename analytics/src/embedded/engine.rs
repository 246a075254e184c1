//! The engine behind three lanes of dedicated threads, each confined to the data directory.
//!
//! - `Write`: one thread, one lasting session, statements in their order.
//! - `Read`: our own questions.
//! - `Foreign`: other people's questions. Each runs in a fresh session (1 ms) that gets its limits
//!   and is then locked with `readonly=1`, which nothing in that session undoes; so no question
//!   finds what another one left, and a stuck one can be killed without harm to the next.
//!
//! A keeper thread holds one session open as long as the others run (closing the last one shuts
//! the engine down) and kills what nobody waits for any more.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::ffi::{Library, LoadError, Outcome, Session};
use super::refusal::{self, Refusal};
use super::sandbox::{Ground, Walls};
use super::sql;

/// Statements that wait for a thread, per lane; more are refused as too many queries.
const QUEUE: usize = 64;
const READERS: usize = 2;
const FOREIGN_READERS: usize = 3;

/// Most that one foreign question may use. A client may ask for less, never for more.
pub const FOREIGN_LIMITS: &[(&str, u64)] = &[
    ("max_execution_time", 60),
    ("max_memory_usage", 1 << 30),
    ("max_result_rows", 1_000_000),
    ("max_result_bytes", 256 << 20),
    ("max_temporary_data_on_disk_size_for_query", 2 << 30),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    Write,
    Read,
    Foreign,
}

/// One statement on its way to the engine.
#[derive(Debug, Default)]
pub struct Statement {
    pub sql: Vec<u8>,
    /// Where the statement names none.
    pub format: String,
    pub params: Vec<(String, String)>,
    pub settings: Vec<(String, String)>,
    pub database: Option<String>,
    /// How the keeper finds it again to kill it: unguessable and unique.
    pub tag: String,
}

struct Job {
    statement: Statement,
    reply: oneshot::Sender<Result<Outcome, Refusal>>,
}

enum Order {
    Kill(String),
    KillAll,
}

/// Facts that the HTTP side shows or checks against.
#[derive(Debug, Clone)]
pub struct Facts {
    pub version: String,
    pub timezone: String,
    /// Functions that reach out of the tables; lower case.
    pub reaching: std::collections::HashSet<String>,
    pub walls: Walls,
}

/// The running engine.
pub struct Engine {
    write: mpsc::Sender<Job>,
    read: mpsc::Sender<Job>,
    foreign: mpsc::Sender<Job>,
    orders: mpsc::UnboundedSender<Order>,
    pub facts: Facts,
}

/// The threads of an engine, to wait for after the last [`Engine`] is dropped.
pub struct Threads {
    workers: Vec<JoinHandle<()>>,
    keeper: JoinHandle<()>,
    orders: mpsc::UnboundedSender<Order>,
}

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the engine's threads cannot be confined")]
    Sandbox(#[from] landlock::RulesetError),
    #[error("a thread of the engine cannot be started")]
    Thread(#[source] std::io::Error),
    #[error("the engine did not answer its first question: {0}")]
    FirstQuestion(#[from] Refusal),
    #[error("the engine's keeper ended while it started")]
    Keeper,
}

#[derive(Clone)]
struct Place {
    library: &'static Library,
    /// Never given back: the engine's own threads live until the process ends.
    ground: &'static Ground,
    data_dir: PathBuf,
}

impl Place {
    fn session(&self) -> Result<Session, LoadError> {
        Session::open(self.library, &self.data_dir.join("engine"))
    }
}

impl Engine {
    /// Loads the engine and opens its directory. Blocks for about a tenth of a second.
    ///
    /// # Errors
    /// Library missing, directory in use or unreadable, thread or Landlock refused.
    pub fn start(library_file: &Path, data_dir: &Path) -> Result<(Arc<Self>, Threads), StartError> {
        let (orders, inbox) = mpsc::unbounded_channel();
        let (started, start) = std::sync::mpsc::sync_channel(1);
        let (file, dir) = (library_file.to_owned(), data_dir.to_owned());
        let keeper = thread("ch-keeper", move || keep(&file, dir, &started, inbox))?;
        let (place, facts) = start.recv().map_err(|_| StartError::Keeper)??;

        let mut workers = Vec::new();
        let mut lane = |name: &str, count: usize, work: fn(&Place, &Jobs)| {
            let (sender, receiver) = mpsc::channel(QUEUE);
            let jobs = Arc::new(Mutex::new(receiver));
            for index in 0..count {
                let (place, jobs) = (place.clone(), Arc::clone(&jobs));
                workers.push(thread(&format!("ch-{name}-{index}"), move || {
                    match place.ground.confine() {
                        Ok(_) => work(&place, &Jobs(&jobs)),
                        // The keeper passed the same step; a lane without a thread refuses by itself.
                        Err(error) => tracing::error!(%error, "a thread cannot be confined"),
                    }
                })?);
            }
            Ok::<_, StartError>(sender)
        };
        let engine = Arc::new(Self {
            write: lane("write", 1, write_lane)?,
            read: lane("read", READERS, read_lane)?,
            foreign: lane("foreign", FOREIGN_READERS, foreign_lane)?,
            orders: orders.clone(),
            facts,
        });
        let threads = Threads {
            workers,
            keeper,
            orders,
        };
        Ok((engine, threads))
    }

    /// Runs a statement in a lane. Dropping the future kills a read; a write always ends.
    ///
    /// # Errors
    /// The engine's refusal, or ours when the lane is full or stops.
    pub async fn run(&self, lane: Lane, statement: Statement) -> Result<Outcome, Refusal> {
        let queue = match lane {
            Lane::Write => &self.write,
            Lane::Read => &self.read,
            Lane::Foreign => &self.foreign,
        };
        let mut waiting = Waiting {
            tag: (lane != Lane::Write).then(|| statement.tag.clone()),
            orders: &self.orders,
        };
        let (reply, answer) = oneshot::channel();
        queue.try_send(Job { statement, reply }).map_err(|_| {
            Refusal::new(refusal::TOO_MANY_QUERIES, "Too many simultaneous queries")
        })?;
        let result = answer.await;
        waiting.tag = None;
        result.unwrap_or_else(|_| Err(Refusal::logical("the engine is stopping")))
    }
}

impl Threads {
    /// Ends every read now; writes end by themselves.
    pub fn kill_reads(&self) {
        // A keeper that is gone has nothing left to kill.
        let _ = self.orders.send(Order::KillAll);
    }

    /// Waits until every session is closed, the keeper's last. Blocks; drop every [`Engine`] first.
    pub fn join(self) {
        for worker in self.workers {
            if worker.join().is_err() {
                tracing::error!("a thread of the engine panicked");
            }
        }
        drop(self.orders);
        if self.keeper.join().is_err() {
            tracing::error!("the keeper of the engine panicked");
        }
    }
}

/// A read that somebody waits for.
struct Waiting<'a> {
    tag: Option<String>,
    orders: &'a mpsc::UnboundedSender<Order>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(tag) = self.tag.take() {
            // A keeper that is gone has nothing left to kill.
            let _ = self.orders.send(Order::Kill(tag));
        }
    }
}

struct Jobs<'a>(&'a Mutex<mpsc::Receiver<Job>>);

impl Iterator for Jobs<'_> {
    type Item = Job;

    fn next(&mut self) -> Option<Job> {
        loop {
            // A panic while waiting cannot leave the queue half changed.
            let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let job = queue.blocking_recv()?;
            if !job.reply.is_closed() {
                return Some(job);
            }
        }
    }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(StartError::Thread)
}

type Started = std::sync::mpsc::SyncSender<Result<(Place, Facts), StartError>>;

fn keep(
    library_file: &Path,
    data_dir: PathBuf,
    started: &Started,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let opened = (|| {
        let ground: &'static Ground = Box::leak(Box::new(Ground::new(library_file, &data_dir)));
        let walls = ground.confine()?;
        let library: &'static Library = Box::leak(Box::new(Library::load(library_file)?));
        let place = Place {
            library,
            ground,
            data_dir,
        };
        let session = place.session()?;
        let facts = facts(&session, walls)?;
        Ok((session, place, facts))
    })();
    let session = match opened {
        Ok((session, place, facts)) => {
            if started.send(Ok((place, facts))).is_err() {
                return;
            }
            session
        }
        Err(error) => {
            // Whoever started us is gone; there is nobody to tell.
            let _ = started.send(Err(error));
            return;
        }
    };
    while let Some(order) = orders.blocking_recv() {
        let which = match order {
            Order::Kill(tag) => format!("= {}", sql::literal(&tag)),
            Order::KillAll => "!= ''".to_owned(),
        };
        let kill = format!("KILL QUERY WHERE Settings['log_comment'] {which} ASYNC");
        if let Err(error) = session.query(kill.as_bytes(), "Null", &[]) {
            tracing::warn!(%error, "a query that nobody waits for cannot be killed");
        }
    }
}

fn facts(session: &Session, walls: Walls) -> Result<Facts, Refusal> {
    let ask = |sql: &str| -> Result<String, Refusal> {
        let outcome = session.query(sql.as_bytes(), "TSVRaw", &[])?;
        Ok(String::from_utf8_lossy(&outcome.body).trim_end().to_owned())
    };
    // `format` is also a harmless scalar function, and the table function of that name is refused
    // by `readonly`. `file` is both too, and its scalar half reads any file even with `readonly`.
    let reaching = ask("SELECT lower(name) FROM system.table_functions \
         WHERE NOT allow_readonly AND lower(name) != 'format'")?;
    let more = ["file", "catboostevaluate", "cluster", "clusterallreplicas"];
    let artificial = ask("SELECT lower(name) FROM system.functions WHERE name ILIKE 'ai%'")?;
    Ok(Facts {
        version: ask("SELECT version()")?,
        timezone: ask("SELECT timezone()")?,
        reaching: reaching
            .lines()
            .chain(artificial.lines())
            .chain(more)
            .map(str::to_owned)
            .collect(),
        walls,
    })
}

fn write_lane(place: &Place, jobs: &Jobs<'_>) {
    let mut session = None;
    for job in Jobs(jobs.0) {
        let result =
            lasting(place, &mut session).and_then(|session| write(session, &job.statement));
        // A session that did something the engine itself did not foresee is not used again.
        if matches!(&result, Err(refusal) if refusal.code == 49 || refusal.code == 1001) {
            session = None;
        }
        // The client hung up; the write stands, as in ClickHouse.
        let _ = job.reply.send(result);
    }
}

fn lasting<'a>(
    place: &Place,
    session: &'a mut Option<Session>,
) -> Result<&'a mut Session, Refusal> {
    if session.is_none() {
        *session = Some(open(place)?);
    }
    session
        .as_mut()
        .ok_or_else(|| Refusal::logical("the engine has no session"))
}

fn open(place: &Place) -> Result<Session, Refusal> {
    place
        .session()
        .map_err(|error| Refusal::logical(&error.to_string()))
}

fn write(session: &mut Session, statement: &Statement) -> Result<Outcome, Refusal> {
    let run = |sql: String| session.query(sql.as_bytes(), "Null", &[]);
    let result = (|| {
        if let Some(database) = &statement.database {
            run(format!("USE {}", sql::identifier(database)))?;
        }
        for (name, value) in &statement.settings {
            run(format!(
                "SET {} = {}",
                sql::identifier(name),
                sql::literal(value)
            ))?;
        }
        session.query(&statement.sql, &statement.format, &statement.params)
    })();
    if statement.database.is_some() {
        run("USE default".to_owned())?;
    }
    for (name, _) in &statement.settings {
        // Fails only for a name that was refused above.
        let _ = run(format!("SET {} = DEFAULT", sql::identifier(name)));
    }
    result
}

fn read_lane(place: &Place, jobs: &Jobs<'_>) {
    for job in Jobs(jobs.0) {
        let result = open(place).and_then(|session| ask(&session, &job.statement, false));
        // The client hung up while its answer was made.
        let _ = job.reply.send(result);
    }
}

fn foreign_lane(place: &Place, jobs: &Jobs<'_>) {
    for job in Jobs(jobs.0) {
        let result = open(place).and_then(|session| ask(&session, &job.statement, true));
        // The client hung up while its answer was made.
        let _ = job.reply.send(result);
    }
}

/// Asks in a fresh session; a foreign one is limited and locked before it sees the question.
fn ask(session: &Session, statement: &Statement, foreign: bool) -> Result<Outcome, Refusal> {
    let run = |sql: String| session.query(sql.as_bytes(), "Null", &[]);
    if let Some(database) = &statement.database {
        run(format!("USE {}", sql::identifier(database)))?;
    }
    let mut settings = statement.settings.clone();
    settings.push(("log_comment".to_owned(), statement.tag.clone()));
    if foreign {
        for (name, most) in FOREIGN_LIMITS {
            let asked = settings.iter().rposition(|(asked, _)| asked == name);
            let asked = asked.map(|at| settings.remove(at).1);
            let value = match asked.and_then(|text| text.parse().ok()) {
                Some(less) if (1..*most).contains(&less) => less,
                _ => *most,
            };
            settings.push(((*name).to_owned(), value.to_string()));
        }
        settings.push(("result_overflow_mode".to_owned(), "throw".to_owned()));
    }
    for (name, value) in &settings {
        run(format!(
            "SET {} = {}",
            sql::identifier(name),
            sql::literal(value)
        ))?;
    }
    if foreign {
        run("SET readonly = 1".to_owned())?;
    }
    session.query(&statement.sql, &statement.format, &statement.params)
}
