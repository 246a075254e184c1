//! Which of the records that were sent are acknowledged: a ring of bits, set by librdkafka's thread and
//! read by the relay's. No memory is allocated per record.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Acknowledgements of one producer. Records are numbered from 0 in the order they were sent.
pub struct Window {
    /// Bit `n % size` belongs to record `n`; it is cleared when the prefix passes it.
    bits: Box<[AtomicU64]>,
    /// Why a record did not arrive: the first reason.
    failure: Mutex<Option<String>>,
    pub news: Notify,
}

impl Window {
    /// For so many records in flight: a multiple of 64.
    pub fn new(size: usize) -> Self {
        Self {
            bits: (0..size / 64).map(|_| AtomicU64::new(0)).collect(),
            failure: Mutex::new(None),
            news: Notify::new(),
        }
    }

    fn size(&self) -> u64 {
        self.bits.len() as u64 * 64
    }

    fn place(&self, number: u64) -> (usize, u64) {
        let at = number % self.size();
        // Below the number of words, which is a usize.
        ((at / 64) as usize, 1 << (at % 64))
    }

    /// Record `number` is acknowledged.
    pub fn acknowledge(&self, number: u64) {
        let (word, bit) = self.place(number);
        if let Some(word) = self.bits.get(word) {
            word.fetch_or(bit, Ordering::Release);
        }
        self.news.notify_one();
    }

    /// A record did not arrive, and nobody tries again.
    pub fn fail(&self, why: String) {
        self.failure.lock().get_or_insert(why);
        self.news.notify_one();
    }

    pub fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    /// How many records from `first` on, below `end`, are acknowledged without a hole. Forgets them.
    pub fn take_prefix(&self, first: u64, end: u64) -> u64 {
        let mut next = first;
        while next < end {
            let (word, bit) = self.place(next);
            let Some(word) = self.bits.get(word) else {
                break;
            };
            let set = word.load(Ordering::Acquire);
            let shift = bit.trailing_zeros();
            // As many as follow each other in this word.
            let run = u64::from((set >> shift).trailing_ones()).min(end - next);
            if run == 0 {
                break;
            }
            let mask = u64::MAX.checked_shr(64 - run as u32).unwrap_or(0) << shift;
            word.fetch_and(!mask, Ordering::AcqRel);
            next += run;
            if run < u64::from(64 - shift) {
                break;
            }
        }
        next - first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_prefix_without_a_hole_counts() {
        let window = Window::new(128);
        for number in [0, 1, 3, 4] {
            window.acknowledge(number);
        }
        assert_eq!(window.take_prefix(0, 10), 2);
        assert_eq!(window.take_prefix(2, 10), 0);
        window.acknowledge(2);
        assert_eq!(window.take_prefix(2, 4), 2, "not beyond what was asked for");
        assert_eq!(window.take_prefix(4, 10), 1);
    }

    #[test]
    fn the_ring_is_used_again() {
        let window = Window::new(128);
        let mut done = 0;
        for round in 0..20_u64 {
            for number in (round * 100..(round + 1) * 100).rev() {
                window.acknowledge(number);
            }
            done += window.take_prefix(done, (round + 1) * 100);
            assert_eq!(done, (round + 1) * 100);
        }
        assert_eq!(window.take_prefix(done, done + 128), 0);
    }
}
