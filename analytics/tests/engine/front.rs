//! What ClickHouse's clients see: answers, errors, encodings; and what an analyst may not do.

use std::io::{Read, Write};

use crate::client::Ask;
use crate::world::{ANALYST_PASSWORD, WRITER_PASSWORD, World, batch, now};

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_client_is_answered() {
    let world = World::start().await;
    let ping = Ask::get(&format!("http://{}/ping", world.addr))
        .send()
        .await;
    assert_eq!(ping.text(), "Ok.\n");
    let missing = Ask::get(&format!("http://{}/nope", world.addr))
        .send()
        .await;
    assert_eq!(missing.status, 404);

    let by_url = world.url(&[
        ("user", "analyst"),
        ("password", ANALYST_PASSWORD),
        (
            "query",
            "SELECT {n:UInt8} + 1 AS n, {s:String} AS s FORMAT JSONEachRow",
        ),
        ("param_n", "41"),
        ("param_s", "it's \\t caf\u{e9}"),
        ("query_id", "mine"),
    ]);
    let response = Ask::get(&by_url).send().await;
    assert_eq!(response.status, 200);
    let header = |name: &str| response.header(name).to_owned();
    assert_eq!(header("x-clickhouse-format"), "JSONEachRow");
    assert_eq!(header("x-clickhouse-query-id"), "mine");
    assert_eq!(
        header("content-type"),
        "application/x-ndjson; charset=UTF-8"
    );
    assert!(header("x-clickhouse-summary").contains(r#""read_rows":"1""#));
    assert!(!header("x-clickhouse-timezone").is_empty());
    assert_eq!(response.text(), "{\"n\":42,\"s\":\"it's \\t caf\u{e9}\"}\n");

    // Statement and rows apart, and in one piece; text and binary.
    let post = async |query: &[(&str, &str)], body: &[u8]| {
        let response = Ask::post(&world.url(query))
            .header("x-clickhouse-user", "tollgate")
            .header("x-clickhouse-key", WRITER_PASSWORD)
            .body(body)
            .send()
            .await;
        (response.status.as_u16(), response.text())
    };
    let ok = (200, String::new());
    assert_eq!(
        post(
            &[],
            b"CREATE TABLE t (a UInt8, s Nullable(String)) ENGINE = MergeTree ORDER BY a"
        )
        .await,
        ok
    );
    assert_eq!(
        post(
            &[("query", "INSERT INTO t FORMAT RowBinary")],
            &[1, 0, 1, 0xff, 2, 1]
        )
        .await,
        ok
    );
    assert_eq!(
        post(&[], b"INSERT INTO t VALUES (3, 'x'), (4, NULL)").await,
        ok
    );
    assert_eq!(
        post(
            &[(
                "query",
                "INSERT INTO t SETTINGS async_insert=0 FORMAT JSONEachRow"
            )],
            b"{\"a\":5,\"s\":\"\xc3\xbc\"}"
        )
        .await,
        ok
    );
    assert_eq!(
        post(
            &[
                ("query", "INSERT INTO t (a) FORMAT CSV"),
                ("async_insert", "0")
            ],
            b"6\n"
        )
        .await,
        ok
    );
    assert_eq!(post(&[], b"INSERT INTO t SELECT 7, 'seven'").await, ok);
    let rows = post(
        &[("query", "SELECT a, s FROM t"), ("default_format", "CSV")],
        b"ORDER BY a",
    )
    .await;
    let hex = post(&[], b"SELECT hex(s) FROM t WHERE a = 1").await;
    assert_eq!(hex.1, "FF\n");
    assert_eq!(rows.0, 200);
    assert!(
        rows.1
            .ends_with("2,\\N\n3,\"x\"\n4,\\N\n5,\"\u{fc}\"\n6,\\N\n7,\"seven\"\n"),
        "{}",
        rows.1
    );
    // A GET never writes.
    let drop = world.url(&[
        ("user", "tollgate"),
        ("password", WRITER_PASSWORD),
        ("query", "DROP TABLE t"),
    ]);
    let refused = Ask::get(&drop).send().await;
    assert_eq!(refused.header("x-clickhouse-exception-code"), "164");
    // The engine would wait for ever.
    assert_eq!(post(&[], b"DROP TABLE t SYNC").await.0, 501);
    assert_eq!(post(&[], b"DROP TABLE t").await, ok);
    // Nothing of an insert stays behind.
    assert_eq!(
        std::fs::read_dir(world.dir.path().join("uploads"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_clickhouses_shape() {
    let world = World::start().await;
    for (sql, status, code, name) in [
        ("SELECT * FROM nope", 404, 60, "UNKNOWN_TABLE"),
        ("SELECT nope", 404, 47, "UNKNOWN_IDENTIFIER"),
        ("SELECT 1 +", 400, 62, "SYNTAX_ERROR"),
        ("SELECT 1; SELECT 2", 400, 62, "SYNTAX_ERROR"),
        ("  ", 400, 62, "SYNTAX_ERROR"),
        ("SELECT toUInt8('x')", 400, 6, "CANNOT_PARSE_TEXT"),
        ("SELECT {x:UInt8}", 400, 456, "UNKNOWN_QUERY_PARAMETER"),
        (
            "SELECT throwIf(1)",
            500,
            395,
            "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO",
        ),
    ] {
        let (got_status, got_code, text) = world.analyst(sql, &[]).await;
        assert_eq!(
            (got_status, got_code),
            (status, Some(code)),
            "{sql}: {text}"
        );
        assert!(
            text.starts_with(&format!("Code: {code}. DB::Exception: ")),
            "{text}"
        );
        assert!(text.contains(&format!("({name}) (version ")), "{text}");
    }
    for (user, password) in [
        ("analyst", "wrong"),
        ("analyst", WRITER_PASSWORD),
        ("tollgate", ANALYST_PASSWORD),
        ("default", ""),
        ("nobody", ""),
    ] {
        let request = Ask::post(&world.url(&[])).login(user, password);
        let response = request.body("SELECT 1").send().await;
        assert_eq!(response.status, 403);
        assert_eq!(response.header("x-clickhouse-exception-code"), "516");
        let text = response.text();
        assert!(text.contains("AUTHENTICATION_FAILED"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analyst_reads_tables_and_nothing_else() {
    let world = World::start().await;
    world.store.insert(&batch(1, 1..=3, now())).await.unwrap();
    let (status, _, count) = world
        .analyst("SELECT count() FROM cost_ledger FINAL", &[])
        .await;
    assert_eq!((status, count.as_str()), (200, "3\n"));
    let secret = world.dir.path().join("secret");
    std::fs::write(&secret, "do not read").unwrap();
    let outfile = world.dir.path().join("written");
    for sql in [
        format!("SELECT file('{}')", secret.display()),
        format!("SELECT * FROM file('{}', 'LineAsString')", secret.display()),
        format!(
            "SELECT x.* APPLY(file) FROM (SELECT '{}') AS x",
            secret.display()
        ),
        format!("SELECT 1 INTO OUTFILE '{}'", outfile.display()),
        "DESCRIBE url('http://127.0.0.1:1/')".to_owned(),
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')".to_owned(),
        "SELECT * FROM postgresql('127.0.0.1:1', 'a', 'b', 'c', 'd')".to_owned(),
        "SELECT * FROM format(CSV, '1,2')".to_owned(),
        "BACKUP TABLE cost_ledger TO S3('http://127.0.0.1:1/b/x', 'a', 'b')".to_owned(),
        "KILL QUERY WHERE 1".to_owned(),
        "INSERT INTO lane_marks VALUES (1, 2, 3)".to_owned(),
        "CREATE TABLE x (a UInt8) ENGINE = Memory".to_owned(),
        "CREATE TEMPORARY TABLE x (a UInt8)".to_owned(),
        "DROP TABLE cost_ledger".to_owned(),
        "TRUNCATE TABLE cost_ledger".to_owned(),
        "ALTER TABLE cost_ledger DELETE WHERE 1".to_owned(),
        "OPTIMIZE TABLE cost_ledger FINAL".to_owned(),
        "SET readonly = 0".to_owned(),
        "SYSTEM SHUTDOWN".to_owned(),
        "SELECT 1 SETTINGS readonly = 0".to_owned(),
        "SELECT 1 SETTINGS max_execution_time = 0".to_owned(),
    ] {
        let (status, code, text) = world.analyst(&sql, &[]).await;
        assert_eq!((status, code), (500, Some(164)), "{sql}: {text}");
    }
    assert!(!outfile.exists());
    let changed = world
        .analyst("SELECT 1", &[("allow_introspection_functions", "1")])
        .await;
    assert_eq!(changed.1, Some(164));
    let capped = world
        .analyst(
            "SELECT getSetting('max_execution_time'), getSetting('readonly')",
            &[("max_execution_time", "0")],
        )
        .await;
    assert_eq!(capped.2, "60\t1\n");
    let zoned = world
        .analyst(
            "SELECT toString(toDateTime(0)), getSetting('max_execution_time')",
            &[
                ("session_timezone", "Asia/Tokyo"),
                ("max_execution_time", "7"),
                ("wait_end_of_query", "1"),
            ],
        )
        .await;
    assert_eq!(zoned.2, "1970-01-01 09:00:00\t7\n");
    let many = world.analyst("SELECT * FROM numbers(2000000)", &[]).await;
    assert_eq!(many.1, Some(396), "{}", many.2);
}

/// Behind the check of statements stands a second wall: even the writer's engine reaches no file of
/// its user outside of the data directory, and no network.
#[tokio::test(flavor = "multi_thread")]
async fn the_engine_is_confined_to_its_directory() {
    if !landlock_is_there() {
        return;
    }
    let world = World::start().await;
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "do not read").unwrap();
    for sql in [
        format!("SELECT file('{}/secret')", outside.path().display()),
        "SELECT file('/proc/self/environ')".to_owned(),
        format!(
            "SELECT 1 INTO OUTFILE '{}/written'",
            outside.path().display()
        ),
        format!(
            "SELECT * FROM url('http://{}/ping', 'LineAsString') SETTINGS http_max_tries = 1",
            world.addr
        ),
    ] {
        assert!(world.store.sql(&sql, "TSV").await.is_err(), "{sql}");
    }
    assert!(!outside.path().join("written").exists());
}

/// Kernels before 5.13, and those built without it, have no such wall; the child says so at start.
fn landlock_is_there() -> bool {
    std::fs::read_to_string("/proc/kallsyms").map_or(true, |symbols| symbols.contains("landlock"))
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_travel_compressed_both_ways() {
    let world = World::start().await;
    let expected: String = (0..10_000).map(|n| format!("{}\n", n / 1_000)).collect();
    let query = ("query", "SELECT intDiv(number, 1000) FROM numbers(10000)");
    let login = |request: Ask| request.login("analyst", ANALYST_PASSWORD);
    for encoding in ["gzip", "zstd", "lz4", "deflate"] {
        let url = world.url(&[query, ("enable_http_compression", "1")]);
        let request = login(Ask::get(&url)).header("accept-encoding", &format!("br, {encoding}"));
        let response = request.send().await;
        assert_eq!(response.header("content-encoding"), encoding);
        let packed = &response.body;
        assert!(
            packed.len() < expected.len(),
            "{encoding}: {}",
            packed.len()
        );
        let mut plain = String::new();
        match encoding {
            "gzip" => flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut plain),
            "zstd" => zstd::stream::read::Decoder::new(&packed[..])
                .unwrap()
                .read_to_string(&mut plain),
            "lz4" => lz4_flex::frame::FrameDecoder::new(&packed[..]).read_to_string(&mut plain),
            _ => flate2::read::ZlibDecoder::new(&packed[..]).read_to_string(&mut plain),
        }
        .unwrap();
        assert_eq!(plain, expected);
    }
    let unasked = login(Ask::get(&world.url(&[query]))).header("accept-encoding", "gzip");
    assert_eq!(unasked.send().await.text(), expected);

    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"SELECT 'packed'").unwrap();
    let packed = login(Ask::post(&world.url(&[]))).header("content-encoding", "gzip");
    let packed = packed.body(gzip.finish().unwrap()).send().await;
    assert_eq!(packed.text(), "packed\n");
    let broken = login(Ask::post(&world.url(&[]))).header("content-encoding", "zstd");
    let broken = broken.body("SELECT 1").send().await;
    assert_eq!(broken.header("x-clickhouse-exception-code"), "271");

    let blocks = world.url(&[query, ("compress", "1")]);
    let blocks = login(Ask::get(&blocks)).send().await.body;
    assert_eq!(blocks[16], 0x82, "an LZ4 block behind its checksum");
    assert!(blocks.len() < expected.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_the_limit_is_refused() {
    let world = World::start().await;
    let large = format!("SELECT '{}'", "x".repeat(5 << 20));
    let (status, code, _) = world.analyst(&large, &[]).await;
    assert_eq!((status, code), (413, Some(191)));
}

/// A client that goes away takes its question along: the engine stops working on it.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_nobody_waits_for_is_killed() {
    let world = World::start().await;
    let endless = "SELECT sum(cityHash64(number)) FROM system.numbers";
    let running = "SELECT count() FROM system.processes WHERE query LIKE '%cityHash64(number)%' \
         AND query NOT LIKE '%processes%'";
    let question = tokio::spawn(
        Ask::post(&world.url(&[]))
            .login("analyst", ANALYST_PASSWORD)
            .body(endless)
            .send(),
    );
    while world.ask(running).await != "1" {
        tokio::task::yield_now().await;
    }
    question.abort();
    while world.ask(running).await != "0" {
        tokio::task::yield_now().await;
    }
}
