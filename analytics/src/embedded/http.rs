//! ClickHouse's HTTP interface, as far as its clients use it.
//!
//! Who may ask is decided here: `tollgate` may do all, `analyst` may read tables. Never lets a
//! foreign statement past [`sql::check_foreign`] or out of the foreign lane.

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use http_body_util::BodyExt as _;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::io::AsyncWriteExt as _;

use super::engine::{Engine, FOREIGN_LIMITS, Lane, Statement};
use super::ffi::Outcome;
use super::refusal::{self, Refusal};
use super::{sql, wire};

/// The login of our own processes.
pub const WRITER: &str = "tollgate";
/// The login of everybody else.
pub const ANALYST: &str = "analyst";

/// Largest request of our own, compressed and plain: a batch of 100,000 rows is 40 MB.
const WRITER_BODY_MAX: usize = 512 << 20;
const ANALYST_BODY_MAX: usize = 4 << 20;

/// Parameters of the URL that are no settings, or none that matters to an embedded engine.
const NOISE: &[&str] = &[
    "query",
    "query_id",
    "database",
    "default_format",
    "user",
    "password",
    "quota_key",
    "role",
    "session_id",
    "session_timeout",
    "session_check",
    "close_session",
    "compress",
    "decompress",
    "buffer_size",
    "wait_end_of_query",
    "stacktrace",
    "client_protocol_version",
    "enable_http_compression",
    "send_progress_in_http_headers",
    "add_http_cors_header",
    "cancel_http_readonly_queries_on_client_close",
    "readonly",
];

/// Settings of a foreign session that change only how an answer looks or how fast it comes.
const HARMLESS: &[&str] = &[
    "output_format_",
    "date_time_",
    "session_timezone",
    "join_use_nulls",
    "max_threads",
    "max_block_size",
    "max_rows_to_read",
    "max_bytes_to_read",
    "final",
    "do_not_merge_across_partitions_select_final",
    "extremes",
    "limit",
    "offset",
    "use_query_cache",
    "group_by_use_nulls",
    "aggregate_functions_null_for_empty",
    "prefer_column_name_to_alias",
    "allow_experimental_",
    "enable_analyzer",
];

/// Of a foreign session: meant for the transport or for writing, without an effect here.
const IGNORED: &[&str] = &[
    "http_",
    "insert_",
    "async_insert",
    "wait_for_async_insert",
    "log_",
    "input_format_",
    "network_compression_",
    "receive_timeout",
    "send_timeout",
    "connect_timeout",
];

pub struct Front {
    pub engine: Arc<Engine>,
    pub uploads: PathBuf,
    writer: [u8; 32],
    analyst: [u8; 32],
}

impl Front {
    pub fn new(engine: Arc<Engine>, uploads: PathBuf, writer: &str, analyst: &str) -> Self {
        Self {
            engine,
            uploads,
            writer: Sha256::digest(writer.as_bytes()).into(),
            analyst: Sha256::digest(analyst.as_bytes()).into(),
        }
    }

    /// Who asks. Compares hashes in constant time, of equal length whatever was presented.
    fn authenticate(&self, headers: &HeaderMap, url: &Pairs) -> Result<Login, Refusal> {
        let (user, password) = credentials(headers, url)?;
        let presented: [u8; 32] = Sha256::digest(password.as_bytes()).into();
        let matches = |expected: &[u8; 32]| bool::from(presented.ct_eq(expected));
        match user.as_str() {
            WRITER if matches(&self.writer) => Ok(Login::Writer),
            ANALYST if matches(&self.analyst) => Ok(Login::Analyst),
            _ => Err(Refusal::new(
                refusal::AUTHENTICATION_FAILED,
                &format!(
                    "{}: Authentication failed: password is incorrect, or there is no user with such name",
                    user.escape_default()
                ),
            )),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Login {
    Writer,
    Analyst,
}

/// Parameters in their order; a later one of a name wins.
#[derive(Default)]
struct Pairs(Vec<(String, String)>);

impl Pairs {
    fn parse(query: &[u8]) -> Self {
        Self(form_urlencoded::parse(query).into_owned().collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().rfind(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), Some("1" | "true"))
    }
}

fn text(headers: &HeaderMap, name: impl header::AsHeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn credentials(headers: &HeaderMap, url: &Pairs) -> Result<(String, String), Refusal> {
    let failed = |text: &str| Refusal::new(refusal::AUTHENTICATION_FAILED, text);
    if let Some(user) = text(headers, "x-clickhouse-user") {
        let key = text(headers, "x-clickhouse-key").unwrap_or_default();
        return Ok((user.to_owned(), key.to_owned()));
    }
    if let Some(basic) = text(headers, header::AUTHORIZATION) {
        let malformed = || failed("Invalid authentication: the Authorization header is malformed");
        let encoded = basic
            .get(..6)
            .filter(|scheme| scheme.eq_ignore_ascii_case("basic "))
            .map(|_| basic[6..].trim())
            .ok_or_else(malformed)?;
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(encoded)
            .map_err(|_| malformed())?;
        let decoded = String::from_utf8(decoded).map_err(|_| malformed())?;
        let (user, password) = decoded.split_once(':').unwrap_or((&decoded, ""));
        return Ok((user.to_owned(), password.to_owned()));
    }
    match url.get("user") {
        Some(user) => Ok((
            user.to_owned(),
            url.get("password").unwrap_or_default().to_owned(),
        )),
        None => Ok(("default".to_owned(), String::new())),
    }
}

/// Answers one request of any path.
pub async fn handle(State(front): State<Arc<Front>>, request: Request) -> Response {
    let path = request.uri().path();
    let get = matches!(*request.method(), Method::GET | Method::HEAD);
    let response = match path {
        "/ping" | "/replicas_status" if get => plain(StatusCode::OK, "Ok.\n"),
        // As the other roles: it answers, so its engine is there.
        "/health/liveliness" | "/health/liveness" | "/health/readiness" if get => {
            plain(StatusCode::OK, "Ok.\n")
        }
        "/metrics" if get => plain(
            StatusCode::OK,
            "# HELP tollgate_clickhouse_up 1 while the engine answers.\n\
             # TYPE tollgate_clickhouse_up gauge\ntollgate_clickhouse_up 1\n",
        ),
        "/" if get && request.uri().query().is_none_or(str::is_empty) => {
            plain(StatusCode::OK, "Ok.\n")
        }
        "/" if get || request.method() == Method::POST => answer(&front, request).await,
        "/" => plain(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET, HEAD and POST are answered here\n",
        ),
        path => plain(
            StatusCode::NOT_FOUND,
            &format!("There is no handle {path}\n"),
        ),
    };
    named(&front, response)
}

fn plain(status: StatusCode, body: &str) -> Response {
    let mut response = Response::new(Body::from(body.to_owned()));
    *response.status_mut() = status;
    set(&mut response, "content-type", "text/html; charset=UTF-8");
    response
}

/// Sets a header; a value that HTTP cannot carry is left out.
fn set(response: &mut Response, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        let name = HeaderName::from_static(name);
        response.headers_mut().insert(name, value);
    }
}

fn named(front: &Front, mut response: Response) -> Response {
    set(
        &mut response,
        "x-clickhouse-server-display-name",
        "tollgate",
    );
    set(
        &mut response,
        "x-clickhouse-timezone",
        &front.engine.facts.timezone,
    );
    // The supervisor knows by this that it is its own child that answers.
    set(
        &mut response,
        super::PID_HEADER,
        &std::process::id().to_string(),
    );
    response
}

async fn answer(front: &Front, request: Request) -> Response {
    let url = Pairs::parse(request.uri().query().unwrap_or_default().as_bytes());
    let query_id = match url.get("query_id") {
        Some(id) if !id.is_empty() => id.to_owned(),
        _ => uuid::Uuid::new_v4().to_string(),
    };
    let head = request.method() == Method::HEAD;
    let mut response = match execute(front, request, url).await {
        Ok(response) => response,
        Err(refusal) => refused(front, &refusal),
    };
    set(&mut response, "x-clickhouse-query-id", &query_id);
    if head {
        *response.body_mut() = Body::empty();
    }
    response
}

fn refused(front: &Front, refusal: &Refusal) -> Response {
    let version = &front.engine.facts.version;
    let text = format!("{} (version {version} (official build))\n", refusal.message);
    let mut response = plain(refusal.status(), &text);
    set(&mut response, "content-type", "text/plain; charset=UTF-8");
    set(
        &mut response,
        "x-clickhouse-exception-code",
        &refusal.code.to_string(),
    );
    if refusal.code == refusal::TOO_MANY_QUERIES {
        set(&mut response, "retry-after", "1");
    }
    response
}

async fn execute(front: &Front, request: Request, mut url: Pairs) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let login = front.authenticate(&parts.headers, &url)?;
    let most = match login {
        Login::Writer => WRITER_BODY_MAX,
        Login::Analyst => ANALYST_BODY_MAX,
    };
    let body = read(body, &parts.headers, &url, most).await?;

    let multipart = text(&parts.headers, header::CONTENT_TYPE)
        .filter(|kind| kind.starts_with("multipart/form-data"));
    let body = match multipart {
        Some(kind) => {
            for (name, value) in wire::form_fields(kind, &body)? {
                let value = String::from_utf8(value)
                    .map_err(|_| Refusal::bad_arguments("a form field is not UTF-8"))?;
                url.0.push((name, value));
            }
            Bytes::new()
        }
        None => body,
    };
    let mut sql = url.get("query").unwrap_or_default().as_bytes().to_vec();
    let in_url = sql.len();
    if in_url == 0 {
        sql = body.to_vec();
    } else if !body.is_empty() && sql::find_rows(&sql).is_none() {
        sql.push(b'\n');
        sql.extend_from_slice(&body);
    }
    if sql.iter().all(u8::is_ascii_whitespace) {
        return Err(Refusal::new(
            refusal::SYNTAX_ERROR,
            "Syntax error: the query is empty",
        ));
    }

    let params: Vec<_> = url
        .0
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("param_")?.to_owned(), value.clone())))
        .collect();
    let lane = match login {
        Login::Analyst => {
            sql::check_foreign(&sql, &params, &front.engine.facts.reaching)?;
            Lane::Foreign
        }
        Login::Writer if sql::is_read(&sql) => Lane::Read,
        Login::Writer if parts.method != Method::POST => {
            return Err(Refusal::new(
                refusal::READONLY,
                "Cannot execute query in readonly mode. For queries over HTTP, method GET implies \
                 readonly. You should use method POST for modifying queries",
            ));
        }
        Login::Writer if sql::waits_for_drop(&sql) => {
            return Err(Refusal::not_implemented(
                "the embedded engine drops tables in the background: leave SYNC out",
            ));
        }
        Login::Writer => Lane::Write,
    };
    let default_format = text(&parts.headers, "x-clickhouse-format")
        .or_else(|| url.get("default_format"))
        .filter(|format| !format.is_empty())
        .unwrap_or("TabSeparated")
        .to_owned();
    let database = text(&parts.headers, "x-clickhouse-database")
        .or_else(|| url.get("database"))
        .filter(|database| !database.is_empty() && *database != "default")
        .map(str::to_owned);

    let rows = (lane == Lane::Write)
        .then(|| sql::find_rows(&sql))
        .flatten();
    let (sql, _upload) = match rows {
        Some(insert) => {
            let tail = &sql[insert.rows..];
            let body = if in_url == 0 { &[][..] } else { &body[..] };
            let upload = Upload::write(&front.uploads, tail, body).await?;
            let mut rewritten = sql[insert.head].to_vec();
            let path = upload.path.to_string_lossy();
            rewritten.extend_from_slice(b" FROM INFILE ");
            rewritten.extend_from_slice(sql::literal(&path).as_bytes());
            rewritten.push(b' ');
            rewritten.extend_from_slice(&sql[insert.settings]);
            rewritten.extend_from_slice(b" FORMAT ");
            rewritten.extend_from_slice(insert.format.as_bytes());
            (rewritten, Some(upload))
        }
        None => (sql, None),
    };
    let format = sql::format_of(&sql).unwrap_or_else(|| default_format.clone());
    let statement = Statement {
        sql,
        format: default_format,
        params,
        settings: settings(&url, login)?,
        database,
        tag: uuid::Uuid::new_v4().to_string(),
    };
    let outcome = front.engine.run(lane, statement).await?;
    respond(outcome, lane, &format, &parts.headers, &url)
}

async fn read(body: Body, headers: &HeaderMap, url: &Pairs, most: usize) -> Result<Bytes, Refusal> {
    let mut body = http_body_util::Limited::new(body, most);
    let mut collected = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                wire::too_large(most)
            } else {
                Refusal::bad_arguments("the request body ended early")
            }
        })?;
        if let Ok(data) = frame.into_data() {
            collected.extend_from_slice(&data);
        }
    }
    if let Some(encoding) = text(headers, header::CONTENT_ENCODING)
        .filter(|encoding| !encoding.is_empty() && *encoding != "identity")
    {
        collected = wire::decode(encoding, &collected, most)?;
    }
    if url.flag("decompress") {
        collected = wire::decode_blocks(&collected, most)?;
    }
    Ok(collected.into())
}

fn settings(url: &Pairs, login: Login) -> Result<Vec<(String, String)>, Refusal> {
    let mut settings = Vec::new();
    for (name, value) in &url.0 {
        let begins = |list: &[&str]| list.iter().any(|prefix| name.starts_with(prefix));
        if name.starts_with("param_") || NOISE.contains(&name.as_str()) {
            continue;
        }
        let capped = FOREIGN_LIMITS.iter().any(|(limit, _)| limit == name);
        if login == Login::Writer || capped || begins(HARMLESS) {
            settings.push((name.clone(), value.clone()));
        } else if !begins(IGNORED) {
            return Err(Refusal::new(
                refusal::READONLY,
                &format!(
                    "Cannot modify '{}' setting in readonly mode",
                    name.escape_default()
                ),
            ));
        }
    }
    Ok(settings)
}

fn respond(
    outcome: Outcome,
    lane: Lane,
    format: &str,
    headers: &HeaderMap,
    url: &Pairs,
) -> Result<Response, Refusal> {
    let results = if lane == Lane::Write {
        0
    } else {
        outcome.rows_read
    };
    let summary = format!(
        r#"{{"read_rows":"{}","read_bytes":"{}","written_rows":"{}","written_bytes":"{}","total_rows_to_read":"0","result_rows":"{results}","result_bytes":"{}","elapsed_ns":"{}"}}"#,
        outcome.rows_read,
        outcome.bytes_read,
        outcome.rows_written,
        outcome.bytes_written,
        outcome.body.len(),
        (outcome.elapsed_s * 1e9) as u64,
    );
    let mut body = outcome.body;
    if url.flag("compress") {
        body = wire::encode_blocks(&body);
    }
    let encoding = url
        .flag("enable_http_compression")
        .then(|| text(headers, header::ACCEPT_ENCODING).and_then(wire::Encoding::accepted))
        .flatten()
        .filter(|_| !body.is_empty());
    if let Some(encoding) = encoding {
        body = wire::encode(encoding, &body)?;
    }
    let mut response = Response::new(Body::from(body));
    set(&mut response, "content-type", content_type(format));
    set(&mut response, "x-clickhouse-format", format);
    set(&mut response, "x-clickhouse-summary", &summary);
    if let Some(encoding) = encoding {
        set(&mut response, "content-encoding", encoding.name());
    }
    Ok(response)
}

fn content_type(format: &str) -> &'static str {
    match format {
        "JSONEachRow"
        | "JSONLines"
        | "NDJSON"
        | "JSONStringsEachRow"
        | "JSONCompactEachRow"
        | "JSONEachRowWithProgress" => "application/x-ndjson; charset=UTF-8",
        format if format.starts_with("JSON") => "application/json; charset=UTF-8",
        format if format.starts_with("CSV") => "text/csv; charset=UTF-8; header=absent",
        format if format.starts_with("TSV") || format.starts_with("TabSeparated") => {
            "text/tab-separated-values; charset=UTF-8"
        }
        format
            if format.starts_with("Native")
                || format.starts_with("RowBinary")
                || format.starts_with("Arrow")
                || matches!(format, "Parquet" | "ORC" | "Avro" | "MsgPack" | "Npy") =>
        {
            "application/octet-stream"
        }
        "XML" => "application/xml; charset=UTF-8",
        _ => "text/plain; charset=UTF-8",
    }
}

/// Rows on their way into the engine: a file, since it mis-reads binary rows behind a statement.
struct Upload {
    path: PathBuf,
}

impl Upload {
    async fn write(dir: &std::path::Path, head: &[u8], tail: &[u8]) -> Result<Self, Refusal> {
        let upload = Self {
            path: dir.join(uuid::Uuid::new_v4().to_string()),
        };
        let written = async {
            let mut file = tokio::fs::File::create(&upload.path).await?;
            file.write_all(head).await?;
            file.write_all(tail).await?;
            // Not synced: the engine reads it from the page cache, and a crash leaves nothing to keep.
            file.flush().await
        };
        match written.await {
            Ok(()) => Ok(upload),
            Err(error) => Err(Refusal::logical(&format!("cannot keep the rows: {error}"))),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // What stays behind is removed at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}
