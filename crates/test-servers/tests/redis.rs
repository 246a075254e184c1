//! Redis starts, keeps its data over a kill, and is gone at the end.

use std::io::{Read, Write};
use std::net::TcpStream;

use test_servers::Redis;
use test_servers::redis::BUDGETS;

fn say(redis: &Redis, command: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
    write!(stream, "{command}\r\nQUIT\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test]
async fn what_was_written_is_there_after_a_kill_unless_it_is_torn_off() {
    let redis = Redis::start(BUDGETS).await;
    assert!(say(&redis, "SET a 1").starts_with("+OK"));
    redis.kill();
    assert!(TcpStream::connect(("127.0.0.1", redis.port())).is_err());
    redis.restart().await;
    assert!(say(&redis, "GET a").starts_with("$1\r\n1"));
    assert!(say(&redis, "SET b 2").starts_with("+OK"));
    redis.kill();
    let file = std::fs::File::options()
        .write(true)
        .open(redis.append_only_file())
        .unwrap();
    file.set_len(file.metadata().unwrap().len() - 3).unwrap();
    redis.restart().await;
    let kept = say(&redis, "MGET a b");
    assert!(kept.contains("$1\r\n1\r\n$-1"), "{kept:?}");
}
