#!lua name=tollgate_budgets
-- Budget state of all processes. Every function is one step for everybody: it checks first and writes
-- last, since nothing is rolled back here. Runs the transitions of metering's budget.rs and limits.rs.
--
-- Keys, all under one hash tag; only the first is passed, the others begin as it does:
--   {p}:state              hash  phase (rebuilding, restoring, open), generation, since, until, epoch
--   {p}:members            hash  process, <name>/<life> -> <lease> <generation it told its calls to>
--   {p}:steps              hash  begun, ended: see `write`
-- and these, where the state has an epoch, behind {p}:<epoch>: (see `base_of`)
--   {p}:w:<start>:<budget> hash  u used, h held (finished holds too), f finished, l limit seen, e end
--   {p}:g:<budget>         hash  m minute, r requests, t tokens, p calls in flight
--   {p}:h:<hold>           one call, packed (see HOLD)
--   {p}:exp                zset  holds by the instant they are given back
--   {p}:windows            zset  windows by the instant they are forgotten
--   {p}:marks, {p}:next    hash  what is settled: <source>:<partition> -> pseq, partition -> offset
--   {p}:caught             set   partitions whose lane has caught up in this generation
--
-- Money is the decimal text of an i64. Lua's numbers are doubles: additions are HINCRBY, comparisons go
-- through `exact` as soon as one text is long. Instants are microseconds, below 2^53.

local VERSION, BUILD = 4, '@BUILD@'

-- Which generation this life of the server has seen begin. Not data: a restart, a failover to a replica
-- and a reload of the library forget it, so state that may have been rolled back closes by itself.
local alive = {}

local ABSENT, REBUILDING, RESTARTED, RESTORING, OPEN = 0, 1, 2, 3, 4

-- A finished hold is money that is certainly spent: it stands until its event is settled, and where nobody
-- told the event, for so long after its call's expiry.
local FINISHED_KEPT = 24 * 3600 * 1e6
-- Windows stay known this long after their end, for late events and reports.
local WINDOW_KEPT = 35 * 24 * 3600 * 1e6
local MINUTE = 60 * 1e6
-- Up to here a double holds a text's number, and any sum of a few of them, exactly.
local SHORT = 15
local HUGE = 2 ^ 52

