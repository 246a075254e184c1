//! The functions that run inside the server, and their way into it.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisResult, Value, cmd};
use xxhash_rust::xxh3::xxh3_64;

/// One text: what stands above is known below.
const SOURCE: &str = concat!(
    include_str!("library/head.lua"),
    include_str!("library/exact.lua"),
    include_str!("library/state.lua"),
    include_str!("library/holds.lua"),
    include_str!("library/reservation.lua"),
    include_str!("library/settlement.lua"),
    include_str!("library/restoration.lua"),
    include_str!("library/processes.lua"),
    include_str!("library/register.lua"),
);
/// Raised whenever the library's functions or keys change. A newer library serves this process too.
const VERSION: i64 = 4;

/// Loads the library unless it, or a newer one, is there. Loading closes open state: see `alive` in it.
pub(super) async fn ensure(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    let build = format!("{:016x}", xxh3_64(SOURCE.as_bytes()));
    let known = call("version", "{}:state");
    if let Ok(Value::Array(answer)) = connection.send_packed_command(&known).await {
        let version = answer.first().map_or(0, |value| match value {
            Value::Int(version) => *version,
            _ => 0,
        });
        let same =
            matches!(answer.get(1), Some(Value::BulkString(text)) if *text == build.as_bytes());
        if version > VERSION || same {
            return Ok(());
        }
    }
    let mut load = cmd("FUNCTION");
    load.arg("LOAD").arg("REPLACE");
    load.arg(SOURCE.replace("@BUILD@", &build));
    connection.send_packed_command(&load).await.map(drop)
}

/// The beginning of a call of one function on the state of that key.
pub(super) fn call(function: &str, state: &str) -> Cmd {
    let mut command = cmd("FCALL");
    command
        .arg(format!("tollgate_budgets_{function}"))
        .arg(1)
        .arg(state);
    command
}
