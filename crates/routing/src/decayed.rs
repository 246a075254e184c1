//! An average that forgets: recent samples weigh more, and without samples it is unknown again.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::Moment;

/// After this long a sample's weight has fallen to 1/e.
const FADES_S: f32 = 30.0;
/// Unknown after this long without a sample: what was slow is tried again.
const FORGOTTEN_S: u64 = 600;

/// Seconds, as an `f32` and the millisecond of its last sample in one word.
#[derive(Debug, Default)]
pub(crate) struct Decayed(AtomicU64);

impl Decayed {
    pub(crate) fn add(&self, seconds: f32, now: Moment) {
        // A concurrent sample may be lost: it is an estimate.
        let (at, value) = unpack(self.0.load(Relaxed));
        let millis = millis(now);
        let value = if at == 0 {
            seconds
        } else {
            let gap = millis.saturating_sub(at) as f32 / 1_000.0;
            // The floor keeps samples of the same instant from counting for nothing.
            let weight = (1.0 - (-gap / FADES_S).exp()).max(0.1);
            value + weight * (seconds - value)
        };
        self.0.store(
            u64::from(millis) << 32 | u64::from(value.to_bits()),
            Relaxed,
        );
    }

    pub(crate) fn get(&self, now: Moment) -> Option<f32> {
        let (at, value) = unpack(self.0.load(Relaxed));
        let old = u64::from(millis(now).saturating_sub(at)) > FORGOTTEN_S * 1_000;
        (at != 0 && !old).then_some(value)
    }
}

fn unpack(word: u64) -> (u32, f32) {
    ((word >> 32) as u32, f32::from_bits(word as u32))
}

/// From 1, since 0 is "never"; stands still after 49 days, when averages no longer fade by time.
fn millis(now: Moment) -> u32 {
    u32::try_from(now.0 / 1_000).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_fades_and_is_forgotten() {
        let average = Decayed::default();
        let at = |s: u64| Moment(s * 1_000_000);
        assert_eq!(average.get(at(1)), None);
        average.add(1.0, at(1));
        assert_eq!(average.get(at(2)), Some(1.0));
        average.add(3.0, at(121));
        let now = average.get(at(121)).unwrap();
        assert!(now > 2.9, "{now}");
        assert_eq!(average.get(at(121 + 601)), None);
    }
}
