//! What a call used: disjoint meters, so that nothing is billed twice.

use serde::{Deserialize, Serialize};

/// One kind of billable quantity. Meters are disjoint: a token counts on exactly one of them.
///
/// Symbols of the Avro enum `Meter`, in its order: append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Meter {
    /// Symbol of an unknown future meter, when an older reader meets it.
    Other,
    InputText,
    InputCacheRead,
    InputCacheWrite5m,
    InputCacheWrite1h,
    InputAudio,
    InputImage,
    InputVideo,
    OutputText,
    OutputReasoning,
    OutputAudio,
    OutputImage,
    Images,
    Seconds,
    Characters,
    Pages,
    Searches,
    Requests,
}

impl Meter {
    pub const ALL: [Self; 18] = [
        Self::Other,
        Self::InputText,
        Self::InputCacheRead,
        Self::InputCacheWrite5m,
        Self::InputCacheWrite1h,
        Self::InputAudio,
        Self::InputImage,
        Self::InputVideo,
        Self::OutputText,
        Self::OutputReasoning,
        Self::OutputAudio,
        Self::OutputImage,
        Self::Images,
        Self::Seconds,
        Self::Characters,
        Self::Pages,
        Self::Searches,
        Self::Requests,
    ];

    /// The name in events, tables and catalogs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::InputText => "input_text",
            Self::InputCacheRead => "input_cache_read",
            Self::InputCacheWrite5m => "input_cache_write_5m",
            Self::InputCacheWrite1h => "input_cache_write_1h",
            Self::InputAudio => "input_audio",
            Self::InputImage => "input_image",
            Self::InputVideo => "input_video",
            Self::OutputText => "output_text",
            Self::OutputReasoning => "output_reasoning",
            Self::OutputAudio => "output_audio",
            Self::OutputImage => "output_image",
            Self::Images => "images",
            Self::Seconds => "seconds",
            Self::Characters => "characters",
            Self::Pages => "pages",
            Self::Searches => "searches",
            Self::Requests => "requests",
        }
    }

    /// The meter of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|meter| meter.name() == name)
    }

    /// Whether it counts tokens of the prompt.
    #[must_use]
    pub const fn is_input_token(self) -> bool {
        matches!(
            self,
            Self::InputText
                | Self::InputCacheRead
                | Self::InputCacheWrite5m
                | Self::InputCacheWrite1h
                | Self::InputAudio
                | Self::InputImage
                | Self::InputVideo
        )
    }

    /// Whether it counts tokens of the answer.
    #[must_use]
    pub const fn is_output_token(self) -> bool {
        matches!(
            self,
            Self::OutputText | Self::OutputReasoning | Self::OutputAudio | Self::OutputImage
        )
    }
}

/// One meter's reading: tokens, images, seconds, … as [`Meter`] says. Never negative in a good event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantity {
    pub meter: Meter,
    pub quantity: i64,
}

/// The readings of one attempt; a meter stands in it at most once, zeros are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Meters(pub Vec<Quantity>);

impl Meters {
    /// Adds to one meter; zero leaves no trace.
    pub fn add(&mut self, meter: Meter, quantity: i64) {
        if quantity == 0 {
            return;
        }
        match self.0.iter_mut().find(|reading| reading.meter == meter) {
            Some(reading) => reading.quantity = reading.quantity.saturating_add(quantity),
            None => self.0.push(Quantity { meter, quantity }),
        }
    }

    /// The reading of one meter, zero when absent.
    #[must_use]
    pub fn get(&self, meter: Meter) -> i64 {
        self.0
            .iter()
            .find(|reading| reading.meter == meter)
            .map_or(0, |reading| reading.quantity)
    }

    /// All tokens of the prompt, cached and not.
    #[must_use]
    pub fn input_tokens(&self) -> i64 {
        self.sum(Meter::is_input_token)
    }

    /// All tokens of the answer, reasoning included.
    #[must_use]
    pub fn output_tokens(&self) -> i64 {
        self.sum(Meter::is_output_token)
    }

    fn sum(&self, of: impl Fn(Meter) -> bool) -> i64 {
        self.0
            .iter()
            .filter(|reading| of(reading.meter))
            .fold(0, |sum, reading| sum.saturating_add(reading.quantity))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        for (number, meter) in Meter::ALL.into_iter().enumerate() {
            assert_eq!(meter as usize, number);
            assert_eq!(Meter::from_name(meter.name()), Some(meter));
        }
    }

    #[test]
    fn a_token_counts_on_one_side_only() {
        let mut meters = Meters::default();
        meters.add(Meter::InputText, 10);
        meters.add(Meter::InputCacheRead, 5);
        meters.add(Meter::OutputReasoning, 3);
        meters.add(Meter::InputText, 1);
        meters.add(Meter::Images, 0);
        assert_eq!((meters.input_tokens(), meters.output_tokens()), (16, 3));
        assert_eq!(meters.0.len(), 3);
    }
}
