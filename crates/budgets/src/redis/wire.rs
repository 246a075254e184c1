//! What functions are given and what they answer, as bytes.

use redis::{Cmd, Value};
use schemas::{
    Identity, Micros, NanoUsd, Offset, Partition, Pseq, RequestId, SourceId, Standing, Text,
};

use super::book::{Known, Over};
use super::link::Trouble;
use crate::{Astray, Delta, Reserve};

/// Lua counts in doubles: more tokens than this are as good as this many.
const COUNT_MOST: u64 = 1 << 40;

/// Adds arguments to a command.
pub(super) trait Arguments {
    fn text(&mut self, text: &str) -> &mut Self;
    fn number(&mut self, number: i64) -> &mut Self;
    fn count(&mut self, count: u64) -> &mut Self;
    fn nothing(&mut self) -> &mut Self;
    fn hold(&mut self, hold: RequestId) -> &mut Self;
}

impl Arguments for Cmd {
    fn text(&mut self, text: &str) -> &mut Self {
        self.arg(text)
    }
    fn number(&mut self, number: i64) -> &mut Self {
        self.arg(number)
    }
    fn count(&mut self, count: u64) -> &mut Self {
        self.arg(count)
    }
    fn nothing(&mut self) -> &mut Self {
        self.arg("")
    }
    fn hold(&mut self, hold: RequestId) -> &mut Self {
        self.arg(&hold.0[..])
    }
}

/// The server's name of a window.
pub(super) fn window(budget: &str, start: Micros) -> String {
    format!("{}:{budget}", start.0)
}

/// The server's name of a mark.
pub(super) fn field(source: SourceId, partition: Partition) -> String {
    format!("{}:{}", source.0, partition.0)
}

/// A count that Lua can compare.
pub(super) fn counted(count: u64) -> u64 {
    count.min(COUNT_MOST)
}

/// The arguments of `reserve`, see there.
pub(super) struct Asked<'a> {
    pub request: &'a Reserve<'a>,
    /// Absent: the server's clock.
    pub now: Option<Micros>,
    /// Worth nothing to anybody when done later than this.
    pub deadline: Option<Micros>,
    pub generation: &'a str,
    pub member: &'a str,
}

impl Asked<'_> {
    pub(super) fn write(&self, command: &mut Cmd) {
        let request = self.request;
        let amount = request.amount.max(NanoUsd::ZERO);
        command.hold(request.hold).number(amount.0);
        command.number(request.least.clamp(NanoUsd::ZERO, amount).0);
        command.count(counted(request.tokens));
        optional(command, self.now.map(|now| now.0));
        command.number(request.expires.0.saturating_sub(request.now.0).max(0));
        optional(command, self.deadline.map(|late| late.0));
        command.text(self.generation).text(self.member);
        for scope in request.scopes {
            command.text(&scope.budget);
            command.number(scope.window.start.0);
            command.number(scope.window.end.0);
            match scope.limit {
                Some(limit) => command.number(limit.0),
                None => command.nothing(),
            };
            for limit in [scope.rpm, scope.tpm, scope.parallel] {
                match limit {
                    Some(limit) => command.count(limit),
                    None => command.nothing(),
                };
            }
        }
    }
}

/// Empty where there is none.
pub(super) fn optional(command: &mut Cmd, number: Option<i64>) {
    match number {
        Some(number) => command.number(number),
        None => command.nothing(),
    };
}

/// The arguments of `finish`, and the end of a call in `tell`.
pub(super) fn write_end(command: &mut Cmd, hold: RequestId, over: &Over) {
    command.hold(hold);
    command.number(over.actual.0.max(0));
    command.count(counted(over.tokens));
    write_event(command, over.event);
}

fn write_event(command: &mut Cmd, event: Option<Identity>) {
    match event {
        Some(event) => command
            .text(&field(event.source_id, event.partition))
            .count(event.pseq.0),
        None => command.nothing().nothing(),
    };
}

/// One call of `tell`.
pub(super) fn write_call(command: &mut Cmd, hold: RequestId, known: &Known) {
    command.hold(hold).number(known.amount.0);
    match &known.over {
        Some(over) => {
            command.number(over.actual.0.max(0));
            command.count(counted(known.tokens));
            command.count(counted(over.tokens));
            write_event(command, over.event);
        }
        None => {
            command.nothing().count(counted(known.tokens));
            command.count(0).nothing().nothing();
        }
    }
    command.number(known.expires.0);
    command.arg(known.places.len());
    for place in &*known.places {
        command.text(&window(&place.budget, place.start));
        command.number(place.end.0);
        match place.minute {
            Some(minute) => command.text(&place.budget).number(minute),
            None => command.nothing().number(0),
        };
    }
}

/// One window of `settle`.
pub(super) fn write_delta(command: &mut Cmd, delta: &Delta) {
    command.text(&window(&delta.budget.budget, delta.budget.window_start));
    command.number(delta.budget.window_end.0);
    command.number(delta.amount.0);
}

/// The array that a function answered.
#[derive(Debug)]
pub(super) struct Answer(pub Vec<Value>);

impl Answer {
    pub(super) fn of(value: Value) -> Result<Self, Trouble> {
        match value {
            Value::Array(values) => Ok(Self(values)),
            _ => Err(Self::odd()),
        }
    }

    pub(super) fn odd() -> Trouble {
        Trouble::Refused("redis answered something unexpected".to_owned())
    }

    pub(super) fn bytes(&self, at: usize) -> Option<&[u8]> {
        match self.0.get(at)? {
            Value::BulkString(bytes) => Some(bytes),
            Value::SimpleString(text) => Some(text.as_bytes()),
            _ => None,
        }
    }

    pub(super) fn text(&self, at: usize) -> Option<&str> {
        std::str::from_utf8(self.bytes(at)?).ok()
    }

    /// A number, as such or as its text; absent where the text is empty.
    pub(super) fn number(&self, at: usize) -> Option<i64> {
        match self.0.get(at)? {
            Value::Int(number) => Some(*number),
            _ => self.text(at)?.parse().ok(),
        }
    }

    pub(super) fn money(&self, at: usize) -> Result<NanoUsd, Trouble> {
        self.number(at).map(NanoUsd).ok_or_else(Self::odd)
    }

    pub(super) fn instant(&self, at: usize) -> Result<Micros, Trouble> {
        self.number(at).map(Micros).ok_or_else(Self::odd)
    }

    pub(super) fn count(&self, at: usize) -> Option<u64> {
        self.number(at).and_then(|count| u64::try_from(count).ok())
    }

    /// The first number: what kind of answer it is.
    pub(super) fn kind(&self) -> i64 {
        self.number(0).unwrap_or(-1)
    }

    pub(super) fn list(&self, at: usize) -> Option<&[Value]> {
        match self.0.get(at)? {
            Value::Array(values) => Some(values),
            _ => None,
        }
    }

    /// A window by its name.
    pub(super) fn window(&self, at: usize) -> Result<(Text, Micros), Trouble> {
        let name = self.text(at).ok_or_else(Self::odd)?;
        let (start, budget) = name.split_once(':').ok_or_else(Self::odd)?;
        let start = start.parse().map_err(|_| Self::odd())?;
        Ok((budget.into(), Micros(start)))
    }

    /// A list of windows and amounts; a text where nobody counted.
    pub(super) fn astray(&self, at: usize) -> Result<Option<Vec<Astray>>, Trouble> {
        let Some(found) = self.list(at) else {
            return Ok(None);
        };
        let found = Self(found.to_vec());
        let one = |at| {
            let (budget, start) = found.window(at)?;
            let held = found.money(at + 1)?;
            Ok(Astray {
                budget,
                start,
                held,
            })
        };
        let all: Result<Vec<_>, Trouble> = (0..found.0.len()).step_by(2).map(one).collect();
        all.map(Some)
    }

    /// `{kind, marks, next}`, each a list of names and numbers.
    pub(super) fn standing(&self) -> Result<Standing, Trouble> {
        let pairs = |at: usize| -> Result<Vec<(String, u64)>, Trouble> {
            let values = Self(self.list(at).ok_or_else(Self::odd)?.to_vec());
            (0..values.0.len() / 2)
                .map(|pair| {
                    let name = values.text(pair * 2).ok_or_else(Self::odd)?;
                    let number = values.text(pair * 2 + 1).and_then(|text| text.parse().ok());
                    Ok((name.to_owned(), number.ok_or_else(Self::odd)?))
                })
                .collect()
        };
        let marks = pairs(1)?.into_iter().map(|(name, pseq)| {
            let (source, partition) = name.split_once(':').ok_or_else(Self::odd)?;
            Ok(Identity {
                source_id: SourceId(source.parse().map_err(|_| Self::odd())?),
                partition: Partition(partition.parse().map_err(|_| Self::odd())?),
                pseq: Pseq(pseq),
            })
        });
        let next = pairs(2)?.into_iter().map(|(name, offset)| {
            let partition = name.parse().map_err(|_| Self::odd())?;
            Ok((Partition(partition), Offset(offset)))
        });
        Ok(Standing {
            marks: marks.collect::<Result<_, _>>()?,
            next: next.collect::<Result<_, _>>()?,
        })
    }
}
