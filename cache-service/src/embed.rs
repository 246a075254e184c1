//! Texts to vectors: fastembed on dedicated threads, within a time budget.
//!
//! Never blocks the caller beyond the budget, never lets a panic of the native runtime out, and is
//! checked against stored vectors before it serves. Which model it is, is part of what it returns:
//! vectors of different models are never compared.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fastembed::{
    InitOptionsUserDefined, Pooling, TextEmbedding, TokenizerFiles, UserDefinedEmbeddingModel,
};
use parking_lot::{Condvar, Mutex};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use unicode_normalization::UnicodeNormalization;

use crate::config::CacheConfig;
use crate::distance::{DIMS, dot, is_unit};
use crate::eligibility::Reason;
use crate::error::Error;
use crate::key::Hash;

/// A vector of length one with [`DIMS`] numbers.
pub type Vector = Arc<[f32]>;

/// Word pieces that the model was trained with; more are never cut, they are refused.
pub const PIECES_MAX: usize = 128;
/// Fewer say too little for a likeness to mean anything.
pub const PIECES_MIN: usize = 3;
/// No text of 128 pieces is longer; longer ones are refused without counting.
const BYTES_MAX: usize = 4_096;
/// Texts remembered with their vector, in two generations (15 MB).
const MEMO_MAX: usize = 10_000;
/// Cosine to the stored vectors that the same model reaches on any machine (measured: 1.000000).
const SELF_TEST_MIN: f32 = 0.9999;
/// Failures one after another that turn the tier off.
const FAILURES_MAX: u32 = 3;

static SELF_TEST_TEXTS: &str = include_str!("embed/selftest.txt");
/// Made with Python's onnxruntime and tokenizers, mean pooling in numpy: not by the code under test.
static SELF_TEST_VECTORS: &[u8] = include_bytes!("embed/selftest.f32");

/// The embedding threads and what they have seen.
pub struct Embedder {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    budget: Duration,
    model: Hash,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    queue_max: usize,
    memo: Mutex<Memo>,
    failures: AtomicU32,
    /// Counts for the metrics: texts embedded, and the microseconds that took.
    embedded: AtomicU64,
    embed_us: AtomicU64,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

struct Job {
    text: String,
    key: Hash,
    deadline: Instant,
    reply: oneshot::Sender<Result<Vector, Reason>>,
}

/// What the embedder did so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmbedStats {
    /// Texts that went through the model.
    pub embedded: u64,
    /// Time they took there, in microseconds.
    pub embed_us: u64,
    /// Texts waiting now.
    pub queued: usize,
}

impl Embedder {
    /// Loads and checks the model; takes about a second, and 110 MB for each thread.
    ///
    /// # Errors
    /// When a file or the runtime is missing, or the model is not the expected one.
    pub fn open(config: &CacheConfig) -> Result<Self, Error> {
        let dir = config.model_dir.as_deref().ok_or_else(|| {
            Error::Model("no folder given (TOLLGATE_MODEL_DIR is not set)".to_owned())
        })?;
        runtime()?;
        let files = Files::read(dir)?;
        let model = files.hash();
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            queue_max: config.embed_queue.max(1),
            memo: Mutex::default(),
            failures: AtomicU32::new(0),
            embedded: AtomicU64::new(0),
            embed_us: AtomicU64::new(0),
        });
        let mut embedder = Self {
            shared,
            threads: Vec::new(),
            budget: config.embed_budget,
            model,
        };
        let mut sessions = Vec::new();
        for _ in 1..config.embed_threads {
            sessions.push(files.clone().session()?);
        }
        sessions.push(files.session()?);
        if let Some(first) = sessions.first_mut() {
            self_test(first)?;
        }
        for (n, session) in sessions.into_iter().enumerate() {
            let shared = Arc::clone(&embedder.shared);
            let thread = std::thread::Builder::new()
                .name(format!("embed-{n}"))
                .spawn(move || shared.work(session))
                .map_err(|e| Error::Model(format!("cannot start a thread: {e}")))?;
            embedder.threads.push(thread);
        }
        Ok(embedder)
    }

    /// SHA-256 over the model and its tokenizer.
    #[must_use]
    pub fn model(&self) -> Hash {
        self.model
    }

    /// Whether the model still answers.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.shared.failures.load(Ordering::Relaxed) < FAILURES_MAX
    }

    /// Counts for the metrics.
    #[must_use]
    pub fn stats(&self) -> EmbedStats {
        EmbedStats {
            embedded: self.shared.embedded.load(Ordering::Relaxed),
            embed_us: self.shared.embed_us.load(Ordering::Relaxed),
            queued: self.shared.queue.lock().jobs.len(),
        }
    }

    /// The vector of a text within the configured budget.
    ///
    /// # Errors
    /// The reason why the text has none (length), or none in time.
    pub async fn embed(&self, text: &str) -> Result<Vector, Reason> {
        self.embed_within(text, self.budget).await
    }

    /// The vector of a text within a budget, waiting in the queue included.
    ///
    /// # Errors
    /// As [`Self::embed`].
    pub async fn embed_within(&self, text: &str, budget: Duration) -> Result<Vector, Reason> {
        let text = normalise(text);
        if text.is_empty() {
            return Err(Reason::EmptyText);
        }
        if text.len() > BYTES_MAX {
            return Err(Reason::OverWindow);
        }
        let key: Hash = Sha256::digest(text.as_bytes()).into();
        if let Some(vector) = self.shared.memo.lock().get(&key) {
            return Ok(vector);
        }
        if !self.is_well() {
            return Err(Reason::NoModel);
        }
        let (reply, answer) = oneshot::channel();
        {
            let mut queue = self.shared.queue.lock();
            if queue.jobs.len() >= self.shared.queue_max {
                return Err(Reason::EmbedBusy);
            }
            queue.jobs.push_back(Job {
                text,
                key,
                deadline: Instant::now() + budget,
                reply,
            });
        }
        self.shared.wake.notify_one();
        match tokio::time::timeout(budget, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Reason::EmbedFailed),
            Err(_) => Err(Reason::EmbedTimeout),
        }
    }
}

impl Drop for Embedder {
    fn drop(&mut self) {
        self.shared.queue.lock().closed = true;
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so; there is nothing left to do with it.
            drop(thread.join());
        }
    }
}

impl Shared {
    fn work(&self, mut session: TextEmbedding) {
        while let Some(job) = self.next() {
            // A job whose caller has given up is not worth its milliseconds.
            if job.reply.is_closed() || Instant::now() >= job.deadline {
                drop(job.reply.send(Err(Reason::EmbedTimeout)));
                continue;
            }
            let started = Instant::now();
            let result = embed_one(&mut session, &job.text);
            match &result {
                Ok(vector) => {
                    self.failures.store(0, Ordering::Relaxed);
                    self.embedded.fetch_add(1, Ordering::Relaxed);
                    let us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
                    self.embed_us.fetch_add(us, Ordering::Relaxed);
                    self.memo.lock().put(job.key, Arc::clone(vector));
                }
                Err(Reason::EmbedFailed) => {
                    let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
                    tracing::warn!(
                        cache.embed_failures = failures,
                        "the embedding model gave no usable vector"
                    );
                }
                Err(_) => {}
            }
            // The caller may have given up meanwhile; the memo keeps the vector for the next one.
            drop(job.reply.send(result));
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            self.wake.wait(&mut queue);
        }
    }
}

/// NFC, white space collapsed. No lower-casing: the tokenizer does that itself.
fn normalise(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(BYTES_MAX));
    for word in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.extend(word.nfc());
        if out.len() > BYTES_MAX {
            break;
        }
    }
    out
}

/// One text through the model; a panic of the native side becomes a failure.
fn embed_one(session: &mut TextEmbedding, text: &str) -> Result<Vector, Reason> {
    let run = catch_unwind(AssertUnwindSafe(|| {
        // Without the two marks that the model adds at both ends.
        let pieces = session
            .tokenizer
            .encode(text, false)
            .map_err(|_| Reason::EmbedFailed)?
            .len();
        if pieces < PIECES_MIN {
            return Err(Reason::TooShort);
        }
        if pieces > PIECES_MAX {
            return Err(Reason::OverWindow);
        }
        vector(session, text)
    }));
    run.unwrap_or(Err(Reason::EmbedFailed))
}

fn vector(session: &mut TextEmbedding, text: &str) -> Result<Vector, Reason> {
    let vector = session
        .embed([text], None)
        .ok()
        .and_then(|mut v| v.pop())
        .ok_or(Reason::EmbedFailed)?;
    if is_unit(&vector) {
        Ok(vector.into())
    } else {
        Err(Reason::EmbedFailed)
    }
}

/// ort panics where the library is missing; so it is looked for first.
fn runtime() -> Result<PathBuf, Error> {
    let path = std::env::var_os("ORT_DYLIB_PATH")
        .map(PathBuf::from)
        .ok_or_else(|| {
            Error::Model("no ONNX runtime given (ORT_DYLIB_PATH is not set)".to_owned())
        })?;
    if path.is_file() {
        Ok(path)
    } else {
        Err(Error::Model(format!(
            "no ONNX runtime at {}",
            path.display()
        )))
    }
}

/// The model's files; 90 MB, so the last session takes them instead of a copy.
#[derive(Clone)]
struct Files {
    model: Vec<u8>,
    tokenizer: TokenizerFiles,
}

impl Files {
    fn read(dir: &Path) -> Result<Self, Error> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read(&path)
                .map_err(|e| Error::Model(format!("cannot read {}: {e}", path.display())))
        };
        Ok(Self {
            model: read("model.onnx")?,
            tokenizer: TokenizerFiles {
                tokenizer_file: read("tokenizer.json")?,
                config_file: read("config.json")?,
                special_tokens_map_file: read("special_tokens_map.json")?,
                tokenizer_config_file: read("tokenizer_config.json")?,
            },
        })
    }

    fn hash(&self) -> Hash {
        let mut hash = Sha256::new();
        for file in [&self.model, &self.tokenizer.tokenizer_file] {
            hash.update((file.len() as u64).to_le_bytes());
            hash.update(file);
        }
        hash.finalize().into()
    }

    fn session(self) -> Result<TextEmbedding, Error> {
        let load = move || {
            let model = UserDefinedEmbeddingModel::new(self.model, self.tokenizer)
                .with_pooling(Pooling::Mean);
            // One thread for each session: two small texts side by side are faster than one after
            // the other on two threads. The length leaves room to see that a text is too long.
            let options = InitOptionsUserDefined::new()
                .with_intra_threads(1)
                .with_max_length(512);
            TextEmbedding::try_new_from_user_defined(model, options)
        };
        catch_unwind(AssertUnwindSafe(load))
            .map_err(|_| Error::Model("the ONNX runtime panicked while loading".to_owned()))?
            .map_err(|e| Error::Model(e.to_string()))
    }
}

/// Whether this is the model that the thresholds were measured with.
fn self_test(session: &mut TextEmbedding) -> Result<(), Error> {
    let wanted: Vec<f32> = SELF_TEST_VECTORS
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect();
    for (text, wanted) in SELF_TEST_TEXTS.lines().zip(wanted.chunks_exact(DIMS)) {
        let got = catch_unwind(AssertUnwindSafe(|| vector(session, text)))
            .unwrap_or(Err(Reason::EmbedFailed))
            .map_err(|_| Error::Model("self test: no vector".to_owned()))?;
        let cosine = dot(&got, wanted);
        if cosine < SELF_TEST_MIN {
            return Err(Error::Model(format!(
                "self test: cosine {cosine:.4} to the expected vector, not the model that was measured"
            )));
        }
    }
    Ok(())
}

/// Remembers the vectors of recent texts: two generations, the older dropped when the younger is
/// full. Keyed by SHA-256, since a collision would answer one tenant's question as another's.
#[derive(Default)]
struct Memo {
    young: HashMap<Hash, Vector>,
    old: HashMap<Hash, Vector>,
}

impl Memo {
    fn get(&mut self, key: &Hash) -> Option<Vector> {
        if let Some(vector) = self.young.get(key) {
            return Some(Arc::clone(vector));
        }
        let vector = self.old.remove(key)?;
        self.put(*key, Arc::clone(&vector));
        Some(vector)
    }

    fn put(&mut self, key: Hash, vector: Vector) {
        if self.young.len() >= MEMO_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, vector);
    }
}
