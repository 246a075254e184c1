//! The Avro binary encoding of our own records, written straight to and from their fields.
//!
//! An event's datum is `identity (source_id, partition, pseq) + fields`. The journal keeps the
//! identity in its record header and the *body* = schema fingerprint (CRC-64-AVRO, little-endian, as in
//! Avro's single-object encoding) + fields; [`Event::datum`] puts the whole datum together, byte for
//! byte what any Avro library writes for the `.avsc` file. Bodies of older released schemas are
//! resolved by [`crate::registry`].

use crate::ids::{Identity, KeyHash, Micros, Partition, Pseq, RequestId, SourceId, Text};
use crate::money::NanoUsd;
use crate::registry;
use crate::usage::{Meter, Meters};

/// Why bytes are not the event they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the record ends before its last field")]
    Truncated,
    #[error("{0} bytes follow the last field")]
    Trailing(usize),
    #[error("{0} is not valid here")]
    Invalid(&'static str),
    #[error("unknown schema fingerprint {0:016x}")]
    UnknownSchema(u64),
    #[error("an older schema does not resolve: {0}")]
    Unresolvable(String),
}

/// A value with an Avro binary form.
pub trait Datum: Sized {
    fn encode(&self, out: &mut Vec<u8>);
    /// # Errors
    /// When `input` is not this type's encoding; `input` is then somewhere inside the value.
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError>;
}

/// A value that can be read without copying its texts and bytes: they stay where they lie.
pub trait Viewed: Datum {
    /// The value, borrowing from the record that it is read from.
    type View<'a>;

    /// Takes and refuses exactly what [`Datum::decode`] does.
    ///
    /// # Errors
    /// As [`Datum::decode`].
    fn view<'a>(input: &mut &'a [u8]) -> Result<Self::View<'a>, DecodeError>;

    /// The value with its own texts.
    fn owned(view: &Self::View<'_>) -> Self;
}

/// A record of the log.
pub trait Event: Datum {
    /// Full name of the Avro record.
    const NAME: &'static str;
    /// CRC-64-AVRO of the canonical form of the current schema; a test holds it against the file.
    const FINGERPRINT: u64;
    /// The current schema, as released.
    const SCHEMA: &'static str;

    /// What the journal stores: fingerprint and fields, no identity.
    fn body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(&Self::FINGERPRINT.to_le_bytes());
        self.encode(&mut out);
        out
    }

    /// Reads a journal body of the current or of any released schema.
    ///
    /// # Errors
    /// [`DecodeError`]; the caller sends such a record to the dead letters with its bytes.
    fn from_body(body: &[u8]) -> Result<Self, DecodeError> {
        let (fingerprint, fields) = body
            .split_first_chunk::<8>()
            .ok_or(DecodeError::Truncated)?;
        let fingerprint = u64::from_le_bytes(*fingerprint);
        if fingerprint == Self::FINGERPRINT {
            return decode_all(fields);
        }
        let fields = registry::resolve(fingerprint, Self::NAME, fields)?;
        decode_all(&fields)
    }

    /// As [`Event::from_body`], without copying. `older` takes the fields of a record of an older schema,
    /// which have to be written anew.
    ///
    /// # Errors
    /// As [`Event::from_body`].
    fn view_of<'a>(body: &'a [u8], older: &'a mut Vec<u8>) -> Result<Self::View<'a>, DecodeError>
    where
        Self: Viewed,
    {
        let (fingerprint, mut fields) = body
            .split_first_chunk::<8>()
            .ok_or(DecodeError::Truncated)?;
        let fingerprint = u64::from_le_bytes(*fingerprint);
        if fingerprint != Self::FINGERPRINT {
            *older = registry::resolve(fingerprint, Self::NAME, fields)?;
            fields = older;
        }
        let view = Self::view(&mut fields)?;
        if fields.is_empty() {
            Ok(view)
        } else {
            Err(DecodeError::Trailing(fields.len()))
        }
    }

    /// The whole Avro datum, for a broker or any other Avro reader.
    fn datum(&self, identity: Identity) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        identity.encode(&mut out);
        self.encode(&mut out);
        out
    }
}

fn decode_all<T: Datum>(mut input: &[u8]) -> Result<T, DecodeError> {
    let value = T::decode(&mut input)?;
    if input.is_empty() {
        Ok(value)
    } else {
        Err(DecodeError::Trailing(input.len()))
    }
}

/// Declares a record: its fields in the order of the schema, each a [`Datum`]. With `viewed as`, each is
/// [`Viewed`], and so is the record.
macro_rules! avro_record {
    ($(#[$meta:meta])* $vis:vis struct $name:ident viewed as $view:ident {
        $($(#[$field_meta:meta])* $field:ident: $type:ty,)*
    }) => {
        $crate::codec::avro_record! {
            $(#[$meta])* $vis struct $name { $($(#[$field_meta])* $field: $type,)* }
        }

        #[doc = concat!("A [`", stringify!($name), "`] that lies in the record it was read from.")]
        #[derive(Debug, Clone, PartialEq)]
        $vis struct $view<'a> {
            $($(#[$field_meta])* pub $field: <$type as $crate::codec::Viewed>::View<'a>,)*
        }

        impl $crate::codec::Viewed for $name {
            type View<'a> = $view<'a>;
            fn view<'a>(input: &mut &'a [u8]) -> Result<$view<'a>, $crate::codec::DecodeError> {
                Ok($view { $($field: <$type as $crate::codec::Viewed>::view(input)?,)* })
            }
            fn owned(view: &$view<'_>) -> Self {
                Self { $($field: <$type as $crate::codec::Viewed>::owned(&view.$field),)* }
            }
        }
    };
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[$field_meta:meta])* $field:ident: $type:ty,)*
    }) => {
        $(#[$meta])*
        $vis struct $name { $($(#[$field_meta])* pub $field: $type,)* }

        impl $crate::codec::Datum for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                $($crate::codec::Datum::encode(&self.$field, out);)*
            }
            fn decode(input: &mut &[u8]) -> Result<Self, $crate::codec::DecodeError> {
                Ok(Self { $($field: $crate::codec::Datum::decode(input)?,)* })
            }
        }
    };
}

/// Declares an enum by its symbols in the order of the schema.
macro_rules! avro_enum {
    ($(#[$meta:meta])* $vis:vis enum $name:ident {
        $($(#[$variant_meta:meta])* $variant:ident = $symbol:literal,)*
    }) => {
        $(#[$meta])*
        $vis enum $name { $($(#[$variant_meta])* $variant,)* }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The symbol in events and tables.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $symbol,)* }
            }
        }

        impl $crate::codec::Datum for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                $crate::codec::Datum::encode(&(*self as i64), out);
            }
            fn decode(input: &mut &[u8]) -> Result<Self, $crate::codec::DecodeError> {
                usize::try_from(i64::decode(input)?)
                    .ok()
                    .and_then(|at| Self::ALL.get(at).copied())
                    .ok_or($crate::codec::DecodeError::Invalid(concat!("a ", stringify!($name))))
            }
        }

        $crate::codec::viewed_as_itself!($name);
    };
}

/// Values that are copied in less than a look at them would take.
macro_rules! viewed_as_itself {
    ($($type:ty),*) => {$(
        impl $crate::codec::Viewed for $type {
            type View<'a> = Self;
            fn view(input: &mut &[u8]) -> Result<Self, $crate::codec::DecodeError> {
                $crate::codec::Datum::decode(input)
            }
            fn owned(view: &Self) -> Self {
                view.clone()
            }
        }
    )*};
}
pub(crate) use {avro_enum, avro_record, viewed_as_itself};

fn take<'a>(input: &mut &'a [u8], count: usize) -> Result<&'a [u8], DecodeError> {
    let (taken, rest) = input
        .split_at_checked(count)
        .ok_or(DecodeError::Truncated)?;
    *input = rest;
    Ok(taken)
}

impl Datum for i64 {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut zigzag = ((self << 1) ^ (self >> 63)) as u64;
        while zigzag >= 0x80 {
            out.push(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        out.push(zigzag as u8);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        // Most numbers are small.
        if let Some((&byte, rest)) = input.split_first()
            && byte < 0x80
        {
            *input = rest;
            return Ok(i64::from(byte >> 1) ^ -i64::from(byte & 1));
        }
        let mut zigzag = 0_u64;
        for shift in (0..70).step_by(7) {
            let (&byte, rest) = input.split_first().ok_or(DecodeError::Truncated)?;
            *input = rest;
            if shift == 63 && byte > 1 {
                return Err(DecodeError::Invalid("a varint"));
            }
            zigzag |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
            }
        }
        Err(DecodeError::Invalid("a varint"))
    }
}

/// Integers that travel as an Avro `long` or `int`; a value out of range is invalid.
macro_rules! as_long {
    ($($type:ty: $what:literal),*) => {$(
        impl Datum for $type {
            fn encode(&self, out: &mut Vec<u8>) {
                i64::from(*self).encode(out);
            }
            fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
                Self::try_from(i64::decode(input)?).map_err(|_| DecodeError::Invalid($what))
            }
        }
    )*};
}
as_long!(u16: "a 16-bit number", u32: "a 32-bit number");

impl Datum for u64 {
    /// The same 64 bits as a signed `long`: source ids use all of them.
    fn encode(&self, out: &mut Vec<u8>) {
        self.cast_signed().encode(out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        i64::decode(input).map(i64::cast_unsigned)
    }
}

impl Datum for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        match take(input, 1)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(DecodeError::Invalid("a boolean")),
        }
    }
}

impl Datum for f32 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        let bytes = take(input, 4)?;
        Ok(Self::from_le_bytes([
            bytes[0], bytes[1], bytes[2], bytes[3],
        ]))
    }
}

impl<const N: usize> Datum for [u8; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        take(input, N)?
            .try_into()
            .map_err(|_| DecodeError::Truncated)
    }
}

fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    (bytes.len() as i64).encode(out);
    out.extend_from_slice(bytes);
}

fn decode_bytes<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let length =
        usize::try_from(i64::decode(input)?).map_err(|_| DecodeError::Invalid("a length"))?;
    take(input, length)
}

impl Datum for Text {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_bytes(self.as_bytes(), out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        Self::view(input).map(Into::into)
    }
}

impl Viewed for Text {
    type View<'a> = &'a str;
    fn view<'a>(input: &mut &'a [u8]) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(decode_bytes(input)?)
            .map_err(|_| DecodeError::Invalid("a text that is not UTF-8"))
    }
    fn owned(view: &&str) -> Self {
        (*view).into()
    }
}

/// Raw bytes (Avro `bytes`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl Datum for Blob {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_bytes(&self.0, out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        decode_bytes(input).map(|bytes| Self(bytes.to_vec()))
    }
}

impl Viewed for Blob {
    type View<'a> = &'a [u8];
    fn view<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
        decode_bytes(input)
    }
    fn owned(view: &&[u8]) -> Self {
        Self(view.to_vec())
    }
}

/// `["null", T]`.
impl<T: Datum> Datum for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(value) => {
                out.push(2);
                value.encode(out);
            }
        }
    }
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        branch(input, T::decode)
    }
}

impl<T: Viewed> Viewed for Option<T> {
    type View<'a> = Option<T::View<'a>>;
    fn view<'a>(input: &mut &'a [u8]) -> Result<Self::View<'a>, DecodeError> {
        branch(input, T::view)
    }
    fn owned(view: &Self::View<'_>) -> Self {
        view.as_ref().map(T::owned)
    }
}

/// `["null", T]`, where `read` reads a T.
fn branch<'a, T>(
    input: &mut &'a [u8],
    read: impl FnOnce(&mut &'a [u8]) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    match i64::decode(input)? {
        0 => Ok(None),
        1 => read(input).map(Some),
        _ => Err(DecodeError::Invalid("a union branch")),
    }
}

impl<T: Datum> Datum for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        if !self.is_empty() {
            (self.len() as i64).encode(out);
            for item in self {
                item.encode(out);
            }
        }
        out.push(0);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        items(input, T::decode)
    }
}

impl<T: Viewed> Viewed for Vec<T> {
    type View<'a> = Vec<T::View<'a>>;
    fn view<'a>(input: &mut &'a [u8]) -> Result<Self::View<'a>, DecodeError> {
        items(input, T::view)
    }
    fn owned(view: &Self::View<'_>) -> Self {
        view.iter().map(T::owned).collect()
    }
}

/// Most items that room is made for before they are read.
const ROOM: usize = 16;

/// An array, where `read` reads an item.
fn items<'a, T>(
    input: &mut &'a [u8],
    read: impl Fn(&mut &'a [u8]) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut items = Vec::new();
    loop {
        let mut count = i64::decode(input)?;
        if count == 0 {
            return Ok(items);
        }
        if count < 0 {
            // A block with its size in bytes, as some writers emit; the size is of no use here.
            i64::decode(input)?;
            count = count
                .checked_neg()
                .ok_or(DecodeError::Invalid("an array block"))?;
        }
        items.reserve(usize::try_from(count).unwrap_or(ROOM).min(ROOM));
        for _ in 0..count {
            items.push(read(input)?);
        }
    }
}

/// Newtypes that travel as what they wrap.
macro_rules! transparent {
    ($($type:ident($inner:ty)),*) => {$(
        impl Datum for $type {
            fn encode(&self, out: &mut Vec<u8>) {
                self.0.encode(out);
            }
            fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
                <$inner>::decode(input).map(Self)
            }
        }
    )*};
}
transparent!(
    SourceId(u64),
    Partition(u16),
    Pseq(u64),
    Micros(i64),
    KeyHash([u8; 32]),
    RequestId([u8; 16]),
    NanoUsd(i64),
    Meters(Vec<crate::usage::Quantity>)
);

viewed_as_itself!(
    bool, f32, i64, u16, u32, u64, SourceId, Partition, Pseq, Micros, KeyHash, RequestId, NanoUsd,
    Meters
);

impl Datum for Identity {
    fn encode(&self, out: &mut Vec<u8>) {
        self.source_id.encode(out);
        self.partition.encode(out);
        self.pseq.encode(out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        Ok(Self {
            source_id: Datum::decode(input)?,
            partition: Datum::decode(input)?,
            pseq: Datum::decode(input)?,
        })
    }
}

impl Datum for Meter {
    fn encode(&self, out: &mut Vec<u8>) {
        (*self as i64).encode(out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        usize::try_from(i64::decode(input)?)
            .ok()
            .and_then(|at| Self::ALL.get(at).copied())
            .ok_or(DecodeError::Invalid("a meter"))
    }
}

impl Datum for crate::usage::Quantity {
    fn encode(&self, out: &mut Vec<u8>) {
        self.meter.encode(out);
        self.quantity.encode(out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        Ok(Self {
            meter: Datum::decode(input)?,
            quantity: Datum::decode(input)?,
        })
    }
}
