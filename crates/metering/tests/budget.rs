//! Budgets told as tables, and the promise that used and held stay within the limit.

use std::collections::HashMap;

use metering::budget::{Account, Change, Hold, Phase, Short, Verdict, grant, offer, settle_unheld};
use proptest::prelude::*;
use schemas::{Micros, NanoUsd, Pseq};

const TTL_S: i64 = 300;

/// What a store keeps around the transitions: accounts, holds, and the mark of the log.
#[derive(Default)]
struct World {
    accounts: Vec<(Account, Option<NanoUsd>)>,
    holds: HashMap<String, Hold>,
    /// One record per call in these tables: its settlement is known by the call's name.
    settled: Vec<String>,
    now: Micros,
}

impl World {
    fn with_limits(limits: &[Option<&str>]) -> Self {
        let account = |limit: &Option<&str>| {
            let limit = limit.map(|usd| usd.parse().unwrap());
            (Account::default(), limit)
        };
        Self {
            accounts: limits.iter().map(account).collect(),
            ..Self::default()
        }
    }

    fn apply(&mut self, change: Change) {
        for (account, _) in &mut self.accounts {
            account.apply(change);
        }
    }

    fn reserve(&mut self, id: &str, want: NanoUsd, least: NanoUsd) -> Result<NanoUsd, Short> {
        if let Some(hold) = self.holds.get(id) {
            return Ok(hold.granted());
        }
        let rooms = self
            .accounts
            .iter()
            .map(|(account, limit)| account.room(*limit));
        let granted = grant(want, least, rooms)?;
        let (hold, change) = Hold::reserve(granted, self.now.plus_secs(TTL_S));
        self.holds.insert(id.to_owned(), hold);
        self.apply(change);
        Ok(granted)
    }

    fn settle(&mut self, id: &str, amount: NanoUsd) -> bool {
        if self.settled.iter().any(|known| known == id) {
            return false;
        }
        self.settled.push(id.to_owned());
        let hold = self.holds.get_mut(id);
        let change = hold.map_or_else(|| settle_unheld(amount), |hold| hold.settle(amount, true));
        self.apply(change);
        true
    }

    fn sweep(&mut self) {
        let now = self.now;
        let changes: Vec<Change> = self.holds.values_mut().map(|h| h.expire(now)).collect();
        for change in changes {
            self.apply(change);
        }
    }

    /// Runs one step and says what came of it.
    fn step(&mut self, words: &[&str]) -> &'static str {
        let usd = |at: usize| words.get(at).map(|usd| usd.parse::<NanoUsd>().unwrap());
        let changed = |change: Change| change != Change::NONE;
        match (words[0], words[1]) {
            ("reserve", id) => {
                let want = usd(2).unwrap();
                match self.reserve(id, want, usd(3).unwrap_or(want)) {
                    Ok(granted) if granted == want => "held",
                    Ok(_) => "held-part",
                    Err(_) => "refused",
                }
            }
            ("adjust" | "finish" | "release", id) => {
                let Some(hold) = self.holds.get_mut(id) else {
                    return "unknown";
                };
                let change = match words[0] {
                    "adjust" => hold.adjust(usd(2).unwrap()),
                    "finish" => hold.finish(usd(2).unwrap()),
                    _ => hold.release(),
                };
                self.apply(change);
                if changed(change) { "done" } else { "repeated" }
            }
            ("settle", id) if self.settle(id, usd(2).unwrap()) => "settled",
            ("settle", _) => "repeated",
            ("wait", seconds) => {
                self.now = self
                    .now
                    .plus_secs(seconds.trim_end_matches('s').parse().unwrap());
                self.sweep();
                "waited"
            }
            (other, _) => panic!("unknown step {other}"),
        }
    }
}

/// Each line: a step, `->`, what comes of it, what is left of the first account.
fn check(limits: &[Option<&str>], story: &str) {
    let mut world = World::with_limits(limits);
    for line in story.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (step, expected) = line.split_once("->").unwrap();
        let words: Vec<&str> = step.split_whitespace().collect();
        let outcome = world.step(&words);
        let (account, limit) = world.accounts[0];
        let left = account.room(limit).unwrap();
        let got = format!("{outcome} left {left}");
        let expected: Vec<&str> = expected.split_whitespace().collect();
        assert_eq!(got, expected.join(" "), "{line}");
    }
}

#[test]
fn a_hold_settles_once_and_late_usage_is_still_billed() {
    check(
        &[Some("1.00")],
        "reserve r1 0.60  -> held left 0.4
         reserve r2 0.60  -> refused left 0.4
         settle  r1 0.25  -> settled left 0.75
         settle  r1 0.25  -> repeated left 0.75
         reserve r3 0.50  -> held left 0.25
         wait    301s     -> waited left 0.75
         settle  r3 0.10  -> settled left 0.65",
    );
}

#[test]
fn a_call_that_ends_frees_its_headroom_before_the_log_is_read() {
    check(
        &[Some("1.00")],
        "reserve r1 0.60  -> held left 0.4
         finish  r1 0.25  -> done left 0.75
         finish  r1 0.30  -> repeated left 0.75
         release r1       -> repeated left 0.75
         wait    9999s    -> waited left 0.75
         settle  r1 0.25  -> settled left 0.75
         finish  r1 0.25  -> repeated left 0.75",
    );
}

#[test]
fn every_step_counts_once() {
    check(
        &[Some("1.00")],
        "reserve r1 0.60  -> held left 0.4
         reserve r1 0.60  -> held left 0.4
         adjust  r1 0.50  -> done left 0.5
         adjust  r1 0.50  -> repeated left 0.5
         adjust  r1 0.90  -> repeated left 0.5
         release r1       -> done left 1.0
         release r1       -> repeated left 1.0
         adjust  r1 0.10  -> repeated left 1.0
         settle  r1 0.20  -> settled left 0.8
         settle  r9 0.10  -> settled left 0.7
         release r9       -> unknown left 0.7",
    );
}

#[test]
fn a_grant_stretches_between_least_and_wanted_and_takes_all_accounts_or_none() {
    check(
        &[Some("1.00"), None, Some("0.30")],
        "reserve r1 0.60       -> refused left 1.0
         reserve r1 0.60 0.31  -> refused left 1.0
         reserve r1 0.60 0.30  -> held-part left 0.7
         reserve r2 0.01 0.01  -> refused left 0.7
         reserve r3 0.00       -> held left 0.7
         finish  r1 0.10       -> done left 0.9
         reserve r4 0.60 0.05  -> held-part left 0.7",
    );
}

#[test]
fn attempts_settle_out_of_the_hold_of_their_call() {
    let mut account = Account::default();
    let (mut hold, change) = Hold::reserve(NanoUsd(100), Micros(5));
    account.apply(change);
    account.apply(hold.settle(NanoUsd(30), false));
    assert_eq!((account.used, account.held), (NanoUsd(30), NanoUsd(70)));
    // the call cost 50 in all; 30 of it are settled
    account.apply(hold.finish(NanoUsd(50)));
    assert_eq!((account.held, account.spend()), (NanoUsd(20), NanoUsd(50)));
    account.apply(hold.settle(NanoUsd(20), true));
    assert_eq!((account.used, account.held), (NanoUsd(50), NanoUsd::ZERO));
    assert_eq!(
        (account.finished, hold.phase()),
        (NanoUsd::ZERO, Phase::Gone)
    );
}

#[test]
fn a_refusal_tells_holds_from_spend() {
    let account = Account {
        used: NanoUsd(40),
        held: NanoUsd(50),
        finished: NanoUsd(10),
    };
    let limit = NanoUsd(100);
    assert_eq!(account.spend(), NanoUsd(50));
    assert!(account.blocked_by_holds(limit, NanoUsd(50)));
    assert!(!account.blocked_by_holds(limit, NanoUsd(51)));
    assert!(!account.blocked_by_holds(limit, NanoUsd(10)));
    let rooms = [Some(NanoUsd(7)), None, Some(NanoUsd(-3)), Some(NanoUsd(-3))];
    let short = grant(NanoUsd(1), NanoUsd(1), rooms).unwrap_err();
    assert_eq!((short.at, short.room), (2, NanoUsd(-3)));
}

#[test]
fn the_log_is_applied_in_order_and_without_holes() {
    let judge = |mark, next| offer(Pseq(mark), Pseq(next));
    assert_eq!(judge(0, 1), Verdict::Apply);
    assert_eq!(judge(4, 4), Verdict::Repeated);
    assert_eq!(judge(4, 5), Verdict::Apply);
    assert_eq!(judge(4, 7), Verdict::Gap { expected: Pseq(5) });
}

#[derive(Debug, Clone)]
enum Step {
    Reserve { call: usize, want: i64, least: i64 },
    Adjust { call: usize, percent: i64 },
    Attempt { call: usize, percent: i64 },
    Finish { call: usize, percent: i64 },
    Settle { call: usize, percent: i64 },
    Release { call: usize },
    Wait { seconds: i64 },
}

fn any_step() -> impl Strategy<Value = Step> {
    let call = 0_usize..12;
    let part = || (0_usize..12, 0_i64..=100);
    prop_oneof![
        4 => (call.clone(), 0_i64..500, 0_i64..500)
            .prop_map(|(call, want, least)| Step::Reserve { call, want, least }),
        1 => part().prop_map(|(call, percent)| Step::Adjust { call, percent }),
        1 => part().prop_map(|(call, percent)| Step::Attempt { call, percent }),
        2 => part().prop_map(|(call, percent)| Step::Finish { call, percent }),
        3 => part().prop_map(|(call, percent)| Step::Settle { call, percent }),
        1 => call.prop_map(|call| Step::Release { call }),
        1 => (0_i64..400).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Zero overshoot: as long as calls cost at most their hold and report before it expires, no order
    /// of reservations, ends, settlements, repeats and expiries takes used + held over any limit.
    #[test]
    fn used_and_held_stay_within_every_limit(
        limits in prop::collection::vec(prop::option::weighted(0.8, 0_i64..2000), 1..4),
        steps in prop::collection::vec(any_step(), 0..120),
    ) {
        let mut accounts: Vec<(Account, Option<NanoUsd>)> =
            limits.iter().map(|limit| (Account::default(), limit.map(NanoUsd))).collect();
        let mut holds: HashMap<usize, Hold> = HashMap::new();
        let mut now = Micros(0);
        for step in steps {
            let change = match step {
                Step::Reserve { call, want, least } => {
                    // A repeat of a known call changes nothing, whatever it asks for.
                    if holds.contains_key(&call) { continue }
                    let rooms = accounts.iter().map(|(account, limit)| account.room(*limit));
                    let Ok(granted) = grant(NanoUsd(want), NanoUsd(least), rooms) else { continue };
                    prop_assert!(granted.0 <= want && granted.0 >= least.min(want));
                    let (hold, change) = Hold::reserve(granted, now.plus_secs(TTL_S));
                    holds.insert(call, hold);
                    change
                }
                Step::Adjust { call, percent } => holds.get_mut(&call).map_or(Change::NONE, |hold| {
                    let to = NanoUsd(hold.granted().0 * percent / 100);
                    let change = hold.adjust(to);
                    assert_eq!(hold.adjust(to), Change::NONE);
                    change
                }),
                // What settles never exceeds what is held at that time.
                Step::Attempt { call, percent } => holds.get_mut(&call).map_or(Change::NONE, |hold| {
                    hold.settle(NanoUsd(hold.amount().0 * percent / 100), false)
                }),
                Step::Finish { call, percent } => holds.get_mut(&call).map_or(Change::NONE, |hold| {
                    let actual = NanoUsd(hold.amount().0 * percent / 100);
                    let change = hold.finish(actual);
                    assert_eq!(hold.finish(actual), Change::NONE);
                    change
                }),
                Step::Settle { call, percent } => holds.get_mut(&call).map_or(Change::NONE, |hold| {
                    hold.settle(NanoUsd(hold.amount().0 * percent / 100), true)
                }),
                Step::Release { call } => holds.get_mut(&call).map_or(Change::NONE, |hold| {
                    let change = hold.release();
                    assert_eq!(hold.release(), Change::NONE);
                    change
                }),
                Step::Wait { seconds } => {
                    now = now.plus_secs(seconds);
                    for hold in holds.values_mut() {
                        let change = hold.expire(now);
                        assert_eq!(hold.expire(now), Change::NONE);
                        accounts.iter_mut().for_each(|(account, _)| account.apply(change));
                    }
                    Change::NONE
                }
            };
            accounts.iter_mut().for_each(|(account, _)| account.apply(change));
            let open = |of: &dyn Fn(&Hold) -> bool| {
                holds.values().filter(|hold| of(hold)).map(|hold| hold.amount().0).sum::<i64>()
            };
            for (account, limit) in &accounts {
                prop_assert_eq!(account.held.0, open(&|_| true));
                prop_assert_eq!(account.finished.0, open(&|hold| hold.phase() == Phase::Finished));
                if let Some(limit) = limit {
                    prop_assert!(account.used.0 + account.held.0 <= limit.0, "{account:?} {limit}");
                }
            }
        }
    }
}
