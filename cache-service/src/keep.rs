//! What goes into a cache and what is taken out again.
//!
//! Nothing is kept that [`answer`] refuses. What is deleted is gone once the call returns, here, on
//! disk and in the shared store.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::answer;
use crate::entries::{Answer, Entry, EntryId};
use crate::error::Error;
use crate::flight::{End, Leader};
use crate::key::Hash;
use crate::lookup::CacheService;
use crate::outcome::{NotStored, Stored, Ticket};
use crate::persist::Log;

/// Wait for a vector when storing, off the request's path.
const STORE_EMBED: Duration = Duration::from_secs(5);

impl CacheService {
    /// Keeps an answer, if it may be kept. Call it after the client has its answer: it may embed.
    pub async fn store(&self, ticket: Ticket, answer: Answer) -> Stored {
        let Ticket { mut asked, leader } = ticket;
        let ttl = asked
            .controls
            .ttl_s
            .unwrap_or(self.shelf.config.ttl_s)
            .min(self.shelf.config.ttl_max_s);
        let refused = if asked.controls.no_store || ttl == 0 {
            Some(NotStored::Unwanted)
        } else if answer.body.len() as u64 > self.shelf.config.bytes_max / 16 {
            Some(NotStored::TooLarge)
        } else {
            answer::refusal(&answer.body)
        };
        if let Some(why) = refused {
            return self.not_kept(leader, why);
        }
        // Followers need the exact entry only; but two entries for one answer would be one too many,
        // so the vector, if it is late, is waited for here.
        if let (Some(embedder), Ok(question)) = (&self.embedder, &mut asked.question)
            && question.vector.is_none()
        {
            question.vector = embedder
                .embed_within(&question.text, STORE_EMBED)
                .await
                .ok();
        }
        let (mut entry, vector) = self.shelf.make(&asked, answer, ttl);
        if let Some((shared, _)) = &self.shared {
            if shared.keep(&entry, vector.as_deref()).await.is_err() {
                return self.not_kept(leader, NotStored::StoreDown);
            }
            entry.leave_answer();
        }
        let (id, partition) = (entry.id, entry.partition);
        let (shelf, log) = (Arc::clone(&self.shelf), self.log.clone());
        let placed =
            tokio::task::spawn_blocking(move || shelf.place(entry, vector, log.as_deref())).await;
        if placed.is_err() {
            return self.not_kept(leader, NotStored::Incomplete);
        }
        self.shelf.counters.stored.fetch_add(1, Ordering::Relaxed);
        if let Some(leader) = leader {
            leader.end(End::Answered);
        }
        self.rebuild_if_due(&partition);
        Stored::Kept(id)
    }

    fn not_kept(&self, leader: Option<Leader>, why: NotStored) -> Stored {
        self.shelf
            .counters
            .not_stored
            .fetch_add(1, Ordering::Relaxed);
        if let Some(leader) = leader {
            leader.end(End::Unstorable);
        }
        Stored::Not(why)
    }

    /// Deletes an entry, for good and for everyone once this returns. With a scope only if it is that
    /// tenant's. Returns whether there was one.
    ///
    /// # Errors
    /// The shared store does not answer.
    pub async fn delete(&self, id: EntryId, scope: Option<&str>) -> Result<bool, Error> {
        let of_scope = |entry: &Entry| scope.is_none_or(|scope| *entry.scope == *scope);
        let here = self.shelf.entries.read().any(id).cloned();
        let there = match (&here, &self.shared) {
            (None, Some((shared, _))) => shared.fetch(id).await.map_err(|_| Error::StoreDown)?,
            _ => None,
        };
        if !here.as_deref().or(there.as_ref()).is_some_and(of_scope) {
            return Ok(false);
        }
        if let Some((shared, _)) = &self.shared {
            shared.remove(id).await.map_err(|_| Error::StoreDown)?;
        }
        // The follower may have been faster.
        let done = self.shelf.forget_one(id, self.log.as_deref());
        if let Some(done) = done {
            // An error means that the log is broken, which readiness tells.
            drop(done.await);
        }
        Ok(true)
    }

    /// Takes in what a user thought of a hit: a wrong answer is deleted. Returns whether there is such
    /// an entry, of this tenant where a scope is given.
    ///
    /// # Errors
    /// The shared store does not answer.
    pub async fn judge(
        &self,
        id: EntryId,
        is_right: bool,
        scope: Option<&str>,
    ) -> Result<bool, Error> {
        let known = if is_right {
            self.shelf
                .entries
                .read()
                .any(id)
                .is_some_and(|entry| scope.is_none_or(|scope| *entry.scope == *scope))
        } else {
            self.delete(id, scope).await?
        };
        if known {
            let counters = &self.shelf.counters;
            let counter = if is_right {
                &counters.judged_right
            } else {
                &counters.judged_wrong
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        Ok(known)
    }

    /// Deletes everything, for everyone.
    ///
    /// # Errors
    /// The shared store does not answer; what is here is deleted all the same.
    pub async fn clear(&self) -> Result<(), Error> {
        let done = {
            let mut entries = self.shelf.entries.write();
            entries.clear();
            self.shelf.indexes.write().clear();
            self.log.as_deref().map(Log::clear)
        };
        if let Some(done) = done {
            drop(done.await);
        }
        match &self.shared {
            Some((shared, _)) => shared.clear().await.map_err(|_| Error::StoreDown),
            None => Ok(()),
        }
    }

    /// Writes what is queued to disk and waits for rebuilds; call it before the process ends.
    pub async fn drain(&self) {
        let rebuilds = std::mem::take(&mut *self.rebuilds.lock());
        for rebuild in rebuilds {
            drop(rebuild.await);
        }
        if let Some(log) = &self.log {
            drop(log.flush().await);
        }
    }

    fn rebuild_if_due(&self, partition: &Hash) {
        let Some(index) = self.shelf.indexes.read().get(partition).cloned() else {
            return;
        };
        if index.wants_rebuild() {
            let rebuild = tokio::task::spawn_blocking(move || {
                if !index.rebuild() {
                    tracing::warn!("cache: an index could not be rebuilt, the old one serves on");
                }
            });
            let mut rebuilds = self.rebuilds.lock();
            rebuilds.retain(|r| !r.is_finished());
            rebuilds.push(rebuild);
        }
    }
}
