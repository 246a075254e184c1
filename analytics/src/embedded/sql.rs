//! Just enough of ClickHouse's lexer to tell what a statement is, and what may not pass.
//!
//! Follows `src/Parsers/Lexer.cpp`. Where a text could be lexed in two ways it is refused, never
//! guessed: nothing may hide from us in what we take for a string or comment and the engine does not.

use std::collections::HashSet;
use std::ops::Range;

use super::refusal::{READONLY, Refusal, SYNTAX_ERROR};

/// Statements that only read.
const READS: &[&str] = &[
    "SELECT", "WITH", "FROM", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "EXISTS",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    /// In backticks or double quotes.
    Quoted,
    String,
    Number,
    Symbol(u8),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    kind: Kind,
    at: Range<usize>,
}

struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    fn starts(&self, with: &[u8]) -> bool {
        self.text[self.at..].starts_with(with)
    }

    fn skip_line(&mut self) {
        while self.text.get(self.at).is_some_and(|byte| *byte != b'\n') {
            self.at += 1;
        }
    }

    /// Comments nest in newer versions and did not in older ones: an inner one is refused.
    fn skip_comment(&mut self) -> Result<(), Refusal> {
        self.at += 2;
        while self.at < self.text.len() {
            if self.starts(b"*/") {
                self.at += 2;
                return Ok(());
            }
            if self.starts(b"/*") {
                break;
            }
            self.at += 1;
        }
        Err(syntax("a comment is not closed, or holds another one"))
    }

    fn quoted(&mut self, quote: u8, kind: Kind) -> Result<Token, Refusal> {
        let start = self.at;
        self.at += 1;
        while let Some(byte) = self.text.get(self.at) {
            self.at += match byte {
                b'\\' => 2,
                byte if *byte == quote => {
                    if self.text.get(self.at + 1) == Some(&quote) {
                        2
                    } else {
                        self.at += 1;
                        let at = start..self.at;
                        return Ok(Token { kind, at });
                    }
                }
                _ => 1,
            };
        }
        Err(syntax("a quote is not closed"))
    }
}

impl Iterator for Lexer<'_> {
    type Item = Result<Token, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let byte = *self.text.get(self.at)?;
            let start = self.at;
            match byte {
                byte if byte.is_ascii_whitespace() || byte == 0x0b => self.at += 1,
                b'-' if self.starts(b"--") => self.skip_line(),
                b'#' if self.starts(b"# ") || self.starts(b"#!") => self.skip_line(),
                b'/' if self.starts(b"/*") => {
                    if let Err(refusal) = self.skip_comment() {
                        self.at = self.text.len();
                        return Some(Err(refusal));
                    }
                }
                b'\'' => return Some(self.quoted(b'\'', Kind::String)),
                b'"' | b'`' => return Some(self.quoted(byte, Kind::Quoted)),
                byte if byte.is_ascii_alphabetic() || byte == b'_' => {
                    self.at += word_length(&self.text[start..]);
                    let at = start..self.at;
                    return Some(Ok(Token {
                        kind: Kind::Word,
                        at,
                    }));
                }
                byte if byte.is_ascii_digit() => {
                    self.at += word_length(&self.text[start..]);
                    let at = start..self.at;
                    return Some(Ok(Token {
                        kind: Kind::Number,
                        at,
                    }));
                }
                _ => {
                    self.at += 1;
                    let at = start..self.at;
                    return Some(Ok(Token {
                        kind: Kind::Symbol(byte),
                        at,
                    }));
                }
            }
        }
    }
}

fn word_length(text: &[u8]) -> usize {
    text.iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_')
        .count()
}

fn syntax(text: &str) -> Refusal {
    Refusal::new(SYNTAX_ERROR, &format!("Syntax error: {text}"))
}

fn readonly(text: &str) -> Refusal {
    Refusal::new(READONLY, text)
}

fn is(text: &[u8], token: &Token, word: &str) -> bool {
    token.kind == Kind::Word && text[token.at.clone()].eq_ignore_ascii_case(word.as_bytes())
}

/// Whether the statement only reads, by its first word.
#[must_use]
pub fn is_read(text: &[u8]) -> bool {
    Lexer::new(text)
        .map_while(Result::ok)
        .find(|token| token.kind != Kind::Symbol(b'('))
        .is_some_and(|token| READS.iter().any(|word| is(text, &token, word)))
}

/// A statement that does not read, or a word that was mistyped: which, and which words are answered.
fn not_a_read(text: &[u8]) -> Refusal {
    let first = Lexer::new(text)
        .map_while(Result::ok)
        .find(|token| token.kind == Kind::Word);
    let begins = first.map_or_else(String::new, |token| {
        let word = &text[token.at];
        let word = String::from_utf8_lossy(&word[..word.len().min(32)]).into_owned();
        format!(": it begins with {word}, not with {}", READS.join(", "))
    });
    readonly(&format!("Cannot execute query in readonly mode{begins}"))
}

/// Checks a statement of somebody who may only read tables.
///
/// `readonly=1` alone lets through what was found by trying: the scalar `file()`, `INTO OUTFILE`,
/// `DESCRIBE url()`, `BACKUP … TO S3()` and `KILL QUERY`. `reaching` is the lower-case names of
/// functions that reach out of the tables.
///
/// # Errors
/// What is refused, in ClickHouse's words.
pub fn check_foreign(
    text: &[u8],
    params: &[(String, String)],
    reaching: &HashSet<String>,
) -> Result<(), Refusal> {
    if !is_read(text) {
        return Err(not_a_read(text));
    }
    let tokens = Lexer::new(text).collect::<Result<Vec<_>, _>>()?;
    let name = |token: &Token| {
        let at = match token.kind {
            Kind::Word => token.at.clone(),
            Kind::Quoted => token.at.start + 1..token.at.end - 1,
            _ => return None,
        };
        Some(String::from_utf8_lossy(&text[at]).to_ascii_lowercase())
    };
    for (index, token) in tokens.iter().enumerate() {
        let next = tokens.get(index + 1);
        let refuse_name = |name: &str| {
            Err(readonly(&format!(
                "Cannot use function {name} in readonly mode: it reaches beyond the tables"
            )))
        };
        match token.kind {
            // `$` opens heredocs, and is also part of words.
            Kind::Symbol(b'$' | 0) => {
                return Err(syntax("heredocs and zero bytes are not accepted here"));
            }
            // Typographic quotes are quotes to the engine, other letters are errors to it.
            Kind::Symbol(byte) if !byte.is_ascii() => {
                return Err(syntax("a letter outside of ASCII needs quotes"));
            }
            Kind::Symbol(b';') if next.is_some() => {
                return Err(syntax("Multi-statements are not allowed"));
            }
            Kind::Quoted if text[token.at.clone()].contains(&b'\\') => {
                return Err(syntax("a quoted name may not hold a backslash"));
            }
            _ => {}
        }
        if is(text, token, "OUTFILE") {
            return Err(readonly("Cannot write a file in readonly mode"));
        }
        if is(text, token, "PARALLEL") && next.is_some_and(|next| is(text, next, "WITH")) {
            return Err(readonly("Cannot execute query in readonly mode"));
        }
        let Some(word) = name(token) else { continue };
        let called = next.is_some_and(|next| next.kind == Kind::Symbol(b'('));
        if called && reaching.contains(&word) {
            return refuse_name(&word);
        }
        if word == "apply" {
            let after = tokens[index + 1..]
                .iter()
                .find(|token| token.kind != Kind::Symbol(b'('));
            if let Some(applied) = after.and_then(name).filter(|name| reaching.contains(name)) {
                return refuse_name(&applied);
            }
        }
    }
    // `{name:Identifier}` puts a parameter where a name stands.
    match params
        .iter()
        .find(|(_, value)| reaching.contains(&value.to_ascii_lowercase()))
    {
        Some((_, value)) if tokens.iter().any(|token| is(text, token, "Identifier")) => Err(
            readonly(&format!("Cannot use the name {value} in readonly mode")),
        ),
        _ => Ok(()),
    }
}

/// An `INSERT` that brings its rows along.
#[derive(Debug, PartialEq, Eq)]
pub struct Insert {
    /// Up to where `FROM INFILE` goes.
    pub head: Range<usize>,
    /// A `SETTINGS` clause, or nothing.
    pub settings: Range<usize>,
    pub format: String,
    /// Where the rows begin.
    pub rows: usize,
}

/// Finds the rows in `INSERT INTO t (…) [SETTINGS …] FORMAT x <rows>` or `… VALUES <rows>`; nothing
/// for other statements, `INSERT … SELECT` among them.
#[must_use]
pub fn find_rows(text: &[u8]) -> Option<Insert> {
    let mut lexer = Lexer::new(text);
    let first = lexer.next()?.ok()?;
    if !is(text, &first, "INSERT") {
        return None;
    }
    let mut depth = 0_usize;
    let mut settings = None;
    let mut words = 0;
    while let Some(Ok(token)) = lexer.next() {
        match token.kind {
            Kind::Symbol(b'(') => depth += 1,
            Kind::Symbol(b')') => depth = depth.saturating_sub(1),
            Kind::Word if depth == 0 => {
                words += 1;
                // The first words are INTO, TABLE and the name, which may be a keyword too.
                if words > 1
                    && ["SELECT", "WITH", "FROM"]
                        .iter()
                        .any(|w| is(text, &token, w))
                {
                    return None;
                }
                if is(text, &token, "SETTINGS") {
                    settings = Some(token.at.start);
                }
                let found = |format: String, rows: usize| Insert {
                    head: 0..settings.unwrap_or(token.at.start),
                    settings: settings.unwrap_or(token.at.start)..token.at.start,
                    format,
                    rows,
                };
                if is(text, &token, "VALUES") {
                    return Some(found("Values".to_owned(), token.at.end));
                }
                if is(text, &token, "FORMAT") {
                    let name = lexer.next()?.ok()?;
                    let format = String::from_utf8_lossy(&text[name.at.clone()]).into_owned();
                    let mut rows = name.at.end;
                    while matches!(text.get(rows), Some(b' ' | b'\t' | b'\r')) {
                        rows += 1;
                    }
                    rows += usize::from(text.get(rows) == Some(&b'\n'));
                    return Some(found(format, rows));
                }
            }
            _ => {}
        }
    }
    None
}

/// Whether the statement waits for a table to be gone (`DROP TABLE t SYNC`), which in this engine
/// never happens: nothing works on its queue of dropped tables while a statement runs.
#[must_use]
pub fn waits_for_drop(text: &[u8]) -> bool {
    let mut tokens = Lexer::new(text).map_while(Result::ok);
    let drops = tokens.next().is_some_and(|first| {
        ["DROP", "DETACH", "UNDROP"]
            .iter()
            .any(|word| is(text, &first, word))
    });
    drops && tokens.any(|token| is(text, &token, "SYNC") || is(text, &token, "DELAY"))
}

/// The format that a question asks for itself.
#[must_use]
pub fn format_of(text: &[u8]) -> Option<String> {
    let tokens: Vec<Token> = Lexer::new(text).map_while(Result::ok).collect();
    let mut depth = 0_i32;
    let mut format = None;
    for pair in tokens.windows(2) {
        match pair[0].kind {
            Kind::Symbol(b'(') => depth += 1,
            Kind::Symbol(b')') => depth -= 1,
            Kind::Word
                if depth == 0 && is(text, &pair[0], "FORMAT") && pair[1].kind == Kind::Word =>
            {
                format = Some(String::from_utf8_lossy(&text[pair[1].at.clone()]).into_owned());
            }
            _ => {}
        }
    }
    format
}

/// A string literal.
#[must_use]
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A quoted name.
#[must_use]
pub fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(text: &str) -> Result<(), i32> {
        let reaching = ["file", "url", "s3", "remote"].map(str::to_owned).into();
        let params = [("f".to_owned(), "file".to_owned())];
        check_foreign(text.as_bytes(), &params, &reaching).map_err(|refusal| refusal.code)
    }

    #[test]
    fn reading_tables_passes() {
        for text in [
            "SELECT 1",
            "  -- a comment\n /* another */ select 'it''s; file(' , `file` from t;",
            "(SELECT 1) UNION ALL (SELECT 2)",
            "WITH x AS (SELECT 1) SELECT * FROM x FORMAT JSON",
            "SHOW TABLES",
            "DESCRIBE TABLE usage_rows",
            "EXPLAIN SELECT 1",
            "SELECT {x:UInt8}, 'caf\u{e9} \u{2018} $', 1 # x",
            "SELECT file FROM t",
            "SELECT c APPLY(sum) FROM t",
        ] {
            assert_eq!(verdict(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_readonly_would_let_through_is_refused() {
        for text in [
            "SELECT file('/etc/passwd')",
            "SELECT `file` ('/etc/passwd')",
            "SELECT \"FILE\"/* */('/etc/passwd')",
            "SELECT a APPLY(file) FROM t",
            "SELECT a APPLY file FROM t",
            "SELECT a APPLY({f:Identifier}) FROM t",
            "DESCRIBE url('http://127.0.0.1/')",
            "SELECT 1 INTO OUTFILE '/tmp/x'",
            "BACKUP TABLE t TO S3('http://127.0.0.1/')",
            "KILL QUERY WHERE 1",
            "SET readonly = 0",
            "USE system",
            "INSERT INTO t VALUES (1)",
            "SYSTEM SHUTDOWN",
            "",
            "SELECT 1 PARALLEL WITH DROP TABLE t",
        ] {
            assert_eq!(verdict(text), Err(READONLY), "{text}");
        }
    }

    #[test]
    fn a_mistyped_word_is_named() {
        let refused = check_foreign(b" selec 1", &[], &HashSet::new()).unwrap_err();
        assert!(
            refused
                .message
                .contains("it begins with selec, not with SELECT, WITH"),
            "{}",
            refused.message
        );
    }

    #[test]
    fn what_could_hide_is_refused() {
        for text in [
            "SELECT 1; SELECT 2",
            "SELECT $$ ' $$, file('/etc/passwd'), $$ ' $$",
            "SELECT \u{2018} ' \u{2019} , file('/x') , \u{2018} ' \u{2019}",
            "SELECT /* /* */ 1",
            "SELECT /* */ */ 1 /*",
            "SELECT `fi\\x6ce`('/etc/passwd')",
            "SELECT 'open",
            "SELECT 1 \0 file('/etc/passwd')",
        ] {
            assert_eq!(verdict(text), Err(SYNTAX_ERROR), "{text}");
        }
    }

    #[test]
    fn rows_are_found_behind_their_head() {
        let split = |text: &str| {
            find_rows(text.as_bytes()).map(|insert| {
                (
                    text[insert.head].trim_end().to_owned(),
                    text[insert.settings].trim_end().to_owned(),
                    insert.format,
                    text[insert.rows..].to_owned(),
                )
            })
        };
        let expect = |head: &str, settings: &str, format: &str, rows: &str| {
            Some((head.into(), settings.into(), format.into(), rows.into()))
        };
        assert_eq!(
            split("INSERT INTO t(a, format) SETTINGS x=1 FORMAT RowBinary\n\n\u{1}"),
            expect(
                "INSERT INTO t(a, format)",
                "SETTINGS x=1",
                "RowBinary",
                "\n\u{1}"
            )
        );
        assert_eq!(
            split("insert into `values` values (1), (2)"),
            expect("insert into `values`", "", "Values", " (1), (2)")
        );
        assert_eq!(split("INSERT INTO t SELECT 1 FORMAT JSON"), None);
        assert_eq!(split("INSERT INTO t FROM INFILE 'x' FORMAT CSV"), None);
        assert_eq!(split("SELECT 1 FORMAT JSON"), None);
    }

    #[test]
    fn a_drop_that_would_wait_for_ever_is_seen() {
        assert!(waits_for_drop(b"drop table if exists t sync"));
        assert!(waits_for_drop(b"DROP TABLE t NO DELAY"));
        assert!(!waits_for_drop(b"DROP TABLE `sync`"));
        assert!(!waits_for_drop(b"SELECT sync FROM t"));
    }

    #[test]
    fn the_last_format_counts() {
        assert_eq!(
            format_of(b"SELECT 1 FORMAT JSON -- x").as_deref(),
            Some("JSON")
        );
        assert_eq!(format_of(b"SELECT 'FORMAT JSON', format('{}', 1)"), None);
        assert_eq!(format_of(b"SELECT 1"), None);
    }
}
