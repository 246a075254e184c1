//! Why the usage tables did not do as asked, told apart by what helps.

use clickhouse::error::Error as Client;

use crate::embedded::code_of;

/// A failed question or insert. No variant holds rows or passwords.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answered, or not in time. The insert may have happened: send the same batch again.
    #[error("ClickHouse cannot be reached")]
    Unreachable(#[source] Client),
    /// It took too long; as above.
    #[error("ClickHouse did not answer within {0:?}")]
    TimedOut(std::time::Duration),
    /// ClickHouse answered with an error; `code` is of its `ErrorCodes.cpp`.
    #[error("ClickHouse refused: {message}")]
    Refused { code: i32, message: String },
    /// The tables are not the ones this version was built for.
    #[error("table {table} does not fit this version: {detail}")]
    Schema { table: &'static str, detail: String },
    /// The answer could not be read, or the question could not be written.
    #[error("the answer of ClickHouse could not be read")]
    Answer(#[source] Client),
}

/// Codes that say the rows themselves are wrong: cannot parse, cannot convert, overflow.
const POISON: &[i32] = &[
    6, 26, 27, 32, 33, 38, 41, 53, 69, 70, 72, 117, 131, 321, 349, 407, 691, 718,
];

impl Error {
    /// The same rows will fail again, whoever sends them: they belong into the dead-letter log.
    /// Everything else is worth another try with the same batch.
    #[must_use]
    pub fn is_poison(&self) -> bool {
        match self {
            Self::Refused { code, .. } => POISON.contains(code),
            Self::Unreachable(_) | Self::TimedOut(_) | Self::Schema { .. } | Self::Answer(_) => {
                false
            }
        }
    }
}

impl From<Client> for Error {
    fn from(error: Client) -> Self {
        match error {
            Client::BadResponse(ref text) => match code_of(text) {
                Some(code) => Self::Refused {
                    code,
                    message: text.trim_end().to_owned(),
                },
                // A proxy in between, or the body was lost on the way.
                None => Self::Unreachable(error),
            },
            Client::Network(_) | Client::TimedOut => Self::Unreachable(error),
            other => Self::Answer(other),
        }
    }
}
