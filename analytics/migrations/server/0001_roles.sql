-- Logins of a ClickHouse server; the embedded engine has no users, its HTTP front decides.
-- Run once by an administrator, with real passwords in place of the words in capitals.

CREATE ROLE IF NOT EXISTS tollgate_reader SETTINGS
  readonly = 1, max_execution_time = 60, max_memory_usage = 1073741824,
  max_result_rows = 1000000, max_result_bytes = 268435456, result_overflow_mode = 'throw';
GRANT SELECT, SHOW ON tollgate.* TO tollgate_reader;
CREATE USER IF NOT EXISTS analyst IDENTIFIED WITH sha256_password BY 'ANALYST_PASSWORD' DEFAULT ROLE tollgate_reader;
GRANT tollgate_reader TO analyst;

CREATE USER IF NOT EXISTS tollgate IDENTIFIED WITH sha256_password BY 'WRITER_PASSWORD';
GRANT SELECT, INSERT, CREATE TABLE, ALTER TABLE, OPTIMIZE, TRUNCATE, SHOW ON tollgate.* TO tollgate;
