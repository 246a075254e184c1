//! The plan of one request, as stories and as properties that no settings can break.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use config::{FailureKind, OfName, Routing};
use proptest::prelude::*;
use routing::{
    Ask, Attempts, Deployment, Failure, GiveUp, Group, Member, Moment, Overrides, Place, Rules,
    Spec, Step, Try,
};

const NOW: Moment = Moment(100_000_000);

/// Names and how many deployments each has; members are called `name/0`, ….
struct World {
    rules: Arc<Rules>,
    groups: BTreeMap<String, Arc<Group<String>>>,
    now: Moment,
    random: u64,
}

impl World {
    fn new(routing: Routing, names: &[(&str, usize)]) -> Self {
        let rules = Arc::new(Rules(routing));
        let groups = names.iter().map(|&(name, count)| {
            let members = (0..count).map(|at| Member {
                deployment: Arc::new(Deployment::new(Spec {
                    id: format!("{name}/{at}").as_str().into(),
                    ..Spec::default()
                })),
                served: format!("{name}/{at}"),
            });
            let group = Group::new(name.into(), members.collect(), &rules, None);
            (name.to_owned(), Arc::new(group))
        });
        Self {
            groups: groups.collect(),
            rules,
            now: NOW,
            random: 1,
        }
    }

    fn plan(&self, name: &str, seconds: u64) -> Attempts<String> {
        Attempts::new(
            self.rules.clone(),
            self.groups[name].clone(),
            None,
            Overrides::default(),
            self.now.plus(Duration::from_secs(seconds)),
        )
    }

    fn step(&mut self, plan: &mut Attempts<String>, failure: Option<Failure>) -> Step<String> {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let (groups, ask) = (&self.groups, Ask::default());
        let lookup = |name: &str| groups.get(name).cloned();
        match failure {
            None => plan.first(&ask, self.now, self.random, &lookup),
            Some(failure) => plan.failed(
                &failure,
                Duration::ZERO,
                &ask,
                self.now,
                self.random,
                &lookup,
            ),
        }
    }

    /// Fails each attempt the same way; who was asked, in order.
    fn run(&mut self, name: &str, kind: FailureKind) -> Vec<String> {
        self.run_with(name, Failure::of(kind))
    }

    fn run_with(&mut self, name: &str, failure: Failure) -> Vec<String> {
        let mut plan = self.plan(name, 600);
        let mut asked = Vec::new();
        let mut step = self.step(&mut plan, None);
        while let Step::Try(attempt) = step {
            asked.push(who(&attempt));
            self.now = self.now.plus(attempt.after);
            step = self.step(&mut plan, Some(failure));
        }
        asked
    }
}

fn who(attempt: &Try<String>) -> String {
    attempt.group.members()[attempt.at].served.clone()
}

fn routing(change: impl FnOnce(&mut Routing)) -> Routing {
    let mut routing = Routing::default();
    change(&mut routing);
    routing
}

fn lists(of: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
    let owned = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
    of.iter()
        .map(|&(n, to)| (n.to_owned(), owned(to)))
        .collect()
}

#[test]
fn one_that_is_alone_is_not_asked_twice_unless_retries_are_set() {
    let mut world = World::new(Routing::default(), &[("m", 1)]);
    assert_eq!(world.run("m", FailureKind::Server), ["m/0"]);
    let mut world = World::new(routing(|r| r.retries.count = Some(2)), &[("m", 1)]);
    assert_eq!(world.run("m", FailureKind::Server), ["m/0", "m/0", "m/0"]);
    assert!(
        world.now.since(NOW) >= Duration::from_millis(750),
        "it backs off"
    );
}

#[test]
fn the_same_name_again_is_a_fallback_by_itself() {
    let mut world = World::new(Routing::default(), &[("m", 2)]);
    let mut asked = world.run("m", FailureKind::Server);
    asked.sort();
    assert_eq!(asked, ["m/0", "m/1"]);
    assert_eq!(world.now, NOW, "another deployment is asked at once");
}

#[test]
fn a_callers_mistake_is_told_at_once() {
    let routing = routing(|r| {
        r.retries.count = Some(5);
        r.fallbacks.default = vec!["other".into()];
    });
    let mut world = World::new(routing, &[("m", 2), ("other", 1)]);
    assert_eq!(world.run("m", FailureKind::BadRequest).len(), 1);
}

#[test]
fn fallbacks_follow_in_order_and_lists_never_nest() {
    let routing = routing(|r| {
        r.retries.count = Some(0);
        r.fallbacks.general = lists(&[("a", &["b", "c"]), ("b", &["d", "a"]), ("c", &["d"])]);
    });
    let mut world = World::new(routing, &[("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
    assert_eq!(world.run("a", FailureKind::Server), ["a/0", "b/0", "c/0"]);
}

#[test]
fn retries_and_attempts_at_fallbacks_add_up() {
    let routing = routing(|r| {
        r.retries.count = Some(1);
        r.fallbacks.default = vec!["b".into(), "c".into()];
        r.fallbacks.attempts_each = 2;
    });
    let mut world = World::new(routing, &[("a", 1), ("b", 1), ("c", 1)]);
    assert_eq!(world.plan("a", 9).budget(), 6);
    let asked = world.run("a", FailureKind::Server);
    assert_eq!(asked, ["a/0", "a/0", "b/0", "b/0", "c/0", "c/0"]);
}

#[test]
fn fallback_on_says_after_which_failures() {
    let routing = routing(|r| {
        r.fallbacks.default = vec!["b".into()];
        r.fallbacks.on = Some(vec![FailureKind::Timeout, FailureKind::RateLimit]);
    });
    let mut world = World::new(routing, &[("a", 1), ("b", 1)]);
    assert_eq!(world.run("a", FailureKind::Server), ["a/0"]);
    assert_eq!(world.run("a", FailureKind::Timeout), ["a/0", "b/0"]);
}

#[test]
fn long_prompts_and_refused_contents_have_lists_of_their_own() {
    let routing = routing(|r| {
        r.fallbacks.default = vec!["plain".into()];
        r.fallbacks.context_window = lists(&[("a", &["wide"])]);
        r.fallbacks.content_policy = lists(&[("a", &["bold"])]);
    });
    let names = [("a", 1), ("plain", 1), ("wide", 1), ("bold", 1)];
    let mut world = World::new(routing, &names);
    let asked = world.run("a", FailureKind::ContextWindow);
    assert_eq!(asked, ["a/0", "wide/0"]);
    let asked = world.run("a", FailureKind::ContentPolicy);
    assert_eq!(asked, ["a/0", "bold/0"]);
    assert_eq!(world.run("a", FailureKind::Server), ["a/0", "plain/0"]);
}

#[test]
fn a_name_may_have_retries_and_a_delay_of_its_own() {
    let routing = routing(|r| {
        let own = OfName {
            retries: Some(3),
            wait: Some(Duration::from_secs(2)),
            ..OfName::default()
        };
        r.names.insert("a".into(), own);
    });
    let mut world = World::new(routing, &[("a", 1), ("b", 1)]);
    assert_eq!(world.run("b", FailureKind::Server).len(), 1);
    assert_eq!(world.now, NOW);
    assert_eq!(world.run("a", FailureKind::Server).len(), 4);
    assert!(world.now.since(NOW) >= Duration::from_secs(6));
}

#[test]
fn retry_policies_count_by_kind() {
    let routing = routing(|r| {
        r.retries.count = Some(3);
        r.retries.by_kind =
            BTreeMap::from([(FailureKind::Timeout, 0), (FailureKind::BadRequest, 1)]);
    });
    let mut world = World::new(routing, &[("a", 1)]);
    assert_eq!(world.run("a", FailureKind::Timeout).len(), 1);
    assert_eq!(world.run("a", FailureKind::BadRequest).len(), 2);
    assert_eq!(world.run("a", FailureKind::Server).len(), 4);
}

#[test]
fn a_provider_that_asks_for_longer_than_is_left_is_given_up() {
    let mut world = World::new(routing(|r| r.retries.count = Some(5)), &[("m", 1)]);
    let failure = Failure {
        retry_after: Some(Duration::from_secs(30)),
        ..Failure::of(FailureKind::RateLimit)
    };
    let mut plan = world.plan("m", 20);
    let Step::Try(_) = world.step(&mut plan, None) else {
        panic!("a first attempt");
    };
    let step = world.step(&mut plan, Some(failure));
    assert!(matches!(step, Step::GiveUp(GiveUp::Failed)));
    let mut plan = world.plan("m", 600);
    let Step::Try(_) = world.step(&mut plan, None) else {
        panic!("a first attempt");
    };
    let Step::Try(again) = world.step(&mut plan, Some(failure)) else {
        panic!("a second attempt");
    };
    assert!(again.after >= Duration::from_secs(30));
}

#[test]
fn a_wrong_key_is_not_tried_again() {
    let mut world = World::new(routing(|r| r.retries.count = Some(9)), &[("m", 3)]);
    let mut asked = world.run("m", FailureKind::Auth);
    asked.sort();
    assert_eq!(asked, ["m/0", "m/1", "m/2"]);
}

/// A slow attempt is joined by one at another deployment, out of the same budget, and what ends first decides.
#[test]
fn a_slow_attempt_is_joined_by_another() {
    let mut world = World::new(routing(|r| r.retries.count = Some(2)), &[("a", 3)]);
    let mut plan = world.plan("a", 60);
    let Step::Try(first) = world.step(&mut plan, None) else {
        panic!("nothing was chosen")
    };
    let second = plan.hedge(&Ask::default(), NOW, 7).unwrap();
    assert_eq!(second.number, 2);
    assert_ne!(second.at, first.at);
    assert!(plan.hedge(&Ask::default(), NOW, 7).is_none());
    // The first one fails; the second one, the present one from now on, does so as well.
    plan.swap();
    plan.aside_over(Some(&Failure::of(FailureKind::Server)), Duration::ZERO, NOW);
    let Step::Try(third) = world.step(&mut plan, Some(Failure::of(FailureKind::Server))) else {
        panic!("the budget has a third attempt")
    };
    assert_eq!(third.number, 3);
    assert!(![first.at, second.at].contains(&third.at));
    // The budget is used up.
    assert!(plan.hedge(&Ask::default(), NOW, 7).is_none());
}

#[test]
fn a_full_deployment_costs_no_attempt() {
    let mut world = World::new(routing(|r| r.retries.count = Some(0)), &[("m", 3)]);
    let mut plan = world.plan("m", 600);
    let mut step = world.step(&mut plan, None);
    let mut seen = Vec::new();
    while let Step::Try(attempt) = step {
        seen.push(who(&attempt));
        assert_eq!(attempt.number, 1);
        let (groups, ask) = (&world.groups, Ask::default());
        let lookup = |name: &str| groups.get(name).cloned();
        step = plan.full(&ask, world.now, 5, &lookup);
    }
    seen.sort();
    assert_eq!(seen, ["m/0", "m/1", "m/2"]);
    assert_eq!(plan.made(), 0);
}

#[test]
fn a_threshold_sends_one_attempt_elsewhere() {
    let world = World::new(
        routing(|r| r.retries.count = Some(0)),
        &[("a", 1), ("pool", 1)],
    );
    let mut plan = Attempts::new(
        world.rules.clone(),
        world.groups["a"].clone(),
        Some(world.groups["pool"].clone()),
        Overrides::default(),
        NOW.plus(Duration::from_secs(60)),
    );
    let mut world = world;
    let Step::Try(first) = world.step(&mut plan, None) else {
        panic!("a first attempt");
    };
    assert_eq!(
        (who(&first), first.place),
        ("pool/0".into(), Place::Elsewhere)
    );
    let Step::Try(second) = world.step(&mut plan, Some(Failure::of(FailureKind::Server))) else {
        panic!("a second attempt");
    };
    assert_eq!((who(&second), second.place), ("a/0".into(), Place::Asked));
    let step = world.step(&mut plan, Some(Failure::of(FailureKind::Server)));
    assert!(matches!(step, Step::GiveUp(GiveUp::Failed)));
}

fn kinds() -> impl Strategy<Value = FailureKind> {
    prop::sample::select(FailureKind::ALL.to_vec())
}

prop_compose! {
    fn settings()(
        retries in prop::option::of(0..40_u32),
        wait in 0..20_u64,
        each in 1..5_u32,
        names_max in 0..6_u32,
        default in prop::collection::vec(0..4_usize, 0..5),
        allowed in prop::option::of(0..3_u32),
        time in 0..90_u64,
        by_kind in prop::collection::btree_map(kinds(), 0..6_u32, 0..4),
        own in prop::option::of(0..9_u32),
        own_by_kind in prop::collection::btree_map(kinds(), 0..6_u32, 0..3),
        own_list in prop::option::of(prop::collection::vec(0..4_usize, 0..4)),
        policy in prop::collection::vec(0..4_usize, 0..4),
        on in prop::option::of(prop::collection::vec(kinds(), 0..6)),
        disabled in any::<bool>(),
    ) -> Routing {
        let names = ["a", "b", "c", "d"];
        let named = |list: &[usize]| -> Vec<String> {
            list.iter().map(|&at| names[at].to_owned()).collect()
        };
        routing(|r| {
            r.retries.count = retries;
            r.retries.wait = Duration::from_secs(wait);
            r.retries.by_kind = by_kind;
            r.fallbacks.attempts_each = each;
            r.fallbacks.names_max = names_max;
            r.fallbacks.default = default.iter().map(|&at| names[at].to_owned()).collect();
            r.fallbacks.context_window = lists(&[("a", &["b", "c", "d"])]);
            r.cooldown.allowed_fails = allowed;
            r.cooldown.time = Duration::from_secs(time);
            r.cooldown.disabled = disabled;
            r.fallbacks.on = on;
            r.fallbacks.content_policy.insert("a".into(), named(&policy));
            for name in own_list.iter().flat_map(|list| named(list)) {
                r.fallbacks.general.entry("a".into()).or_default().push(name.clone());
                // Lists of other names are there, too, and never followed.
                r.fallbacks.general.insert(name, named(&[0, 1, 2, 3]));
            }
            let own = OfName { retries: own, by_kind: own_by_kind, ..OfName::default() };
            r.names.insert("a".into(), own);
        })
    }
}

prop_compose! {
    fn overrides()(
        retries in prop::option::weighted(0.3, 0..50_u32),
        fallbacks in prop::option::weighted(0.3, prop::collection::vec(0..4_usize, 0..6)),
    ) -> Overrides {
        let names = ["a", "b", "c", "d"];
        Overrides {
            retries,
            fallbacks: fallbacks.map(|list| list.into_iter().map(|at| names[at].to_owned()).collect()),
        }
    }
}

/// What happens to an attempt, beside that it fails.
#[derive(Debug, Clone, Copy)]
enum Turn {
    Fails,
    /// Its deployment had no room: it was not sent.
    NoRoom,
    /// Another one goes out beside it, and this one fails first, or last.
    Hedged {
        first: bool,
    },
}

fn turns() -> impl Strategy<Value = Turn> {
    prop_oneof![
        4 => Just(Turn::Fails),
        1 => Just(Turn::NoRoom),
        2 => any::<bool>().prop_map(|first| Turn::Hedged { first }),
    ]
}

/// The most attempts that any reading of the settings allows: sums, and no products of retries with names.
fn most(settings: &Routing, overrides: &Overrides, elsewhere: bool) -> u32 {
    let by_kind = |of: &BTreeMap<FailureKind, u32>| of.values().copied().max().unwrap_or(0);
    let own = &settings.names["a"];
    let retries = [
        overrides.retries.unwrap_or(0),
        own.retries.unwrap_or(0),
        settings.retries.count.unwrap_or(2),
        by_kind(&own.by_kind),
        by_kind(&settings.retries.by_kind),
    ];
    let retries = retries.into_iter().max().unwrap_or(0);
    let names = settings.fallbacks.names_max * settings.fallbacks.attempts_each;
    (1 + retries + names + u32::from(elsewhere)).min(32)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever the settings, the client's own wishes, thresholds, failures, full deployments and hedges: the one
    /// budget and the one deadline hold, nothing multiplies, and none that cools down is asked while another of its
    /// name is healthy and has not been asked.
    #[test]
    fn no_settings_break_the_budget_or_the_deadline(
        settings in settings(),
        overrides in overrides(),
        elsewhere in any::<bool>(),
        sizes in prop::array::uniform4(1..4_usize),
        failures in prop::collection::vec((kinds(), prop::option::of(0..100_u64), 0..30_u64, turns()), 120),
        seconds in 1..300_u64,
        seed in any::<u64>(),
    ) {
        let names = [("a", sizes[0]), ("b", sizes[1]), ("c", sizes[2]), ("d", sizes[3]), ("pool", 2)];
        let most = most(&settings, &overrides, elsewhere);
        let mut world = World::new(settings, &names);
        world.random = seed;
        let mut plan = Attempts::new(
            world.rules.clone(),
            world.groups["a"].clone(),
            elsewhere.then(|| world.groups["pool"].clone()),
            overrides,
            world.now.plus(Duration::from_secs(seconds)),
        );
        let (budget, deadline) = (plan.budget(), plan.deadline());
        prop_assert!(budget <= most, "a budget of {} where {} are allowed", budget, most);
        let mut sent = 0;
        let mut asked: Vec<String> = Vec::new();
        let mut failures = failures.into_iter();
        let mut step = world.step(&mut plan, None);
        while let Step::Try(attempt) = step {
            prop_assert_eq!(attempt.number, sent + 1);
            prop_assert!(sent < budget, "attempt {} of {}", sent + 1, budget);
            world.now = world.now.plus(attempt.after);
            prop_assert!(sent == 0 || world.now < deadline);
            let members = attempt.group.members();
            let chosen = &members[attempt.at].deployment;
            if members.len() > 1 && chosen.cooled_until(world.now).is_some() {
                let better = members.iter().any(|m| {
                    m.deployment.cooled_until(world.now).is_none() && !asked.contains(&m.served)
                });
                prop_assert!(!better, "a cooled one was asked");
            }
            asked.push(who(&attempt));
            let (kind, retry_after, took, turn) = failures.next().expect("more than any budget");
            let failure = Failure { kind, retry_after: retry_after.map(Duration::from_secs) };
            if let Turn::NoRoom = turn {
                let (groups, ask) = (&world.groups, Ask::default());
                let lookup = |name: &str| groups.get(name).cloned();
                step = plan.full(&ask, world.now, seed, &lookup);
                continue;
            }
            sent += 1;
            if let Turn::Hedged { first } = turn
                && let Some(beside) = plan.hedge(&Ask::default(), world.now, seed)
            {
                sent += 1;
                prop_assert_eq!(beside.number, sent);
                prop_assert!(sent <= budget, "a hedge past the budget");
                prop_assert!(world.now < deadline);
                asked.push(who(&beside));
                if first {
                    plan.swap();
                }
                plan.aside_over(Some(&failure), Duration::from_secs(took), world.now);
            }
            world.now = world.now.plus(Duration::from_secs(took));
            step = world.step(&mut plan, Some(failure));
        }
        prop_assert!(sent <= most);
        prop_assert_eq!(plan.made(), sent);
    }
}
