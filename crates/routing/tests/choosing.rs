//! Which deployment a group gives, strategy by strategy and filter by filter.

use std::sync::Arc;
use std::time::Duration;

use config::{FailureKind, Routing, Strategy};
use routing::{
    Ask, Class, Deployment, Failure, Group, Health, Member, Moment, NoChoice, Rules, Spec, Took,
};
use schemas::{NanoUsd, Text};

const NOW: Moment = Moment(100_000_000);

fn rules(change: impl FnOnce(&mut Routing)) -> Rules {
    let mut routing = Routing::default();
    change(&mut routing);
    Rules(routing)
}

fn group(rules: &Rules, specs: Vec<Spec>) -> Group<&'static str> {
    let names = ["a", "b", "c", "d"];
    let members = specs.into_iter().zip(names).map(|(spec, name)| Member {
        deployment: Arc::new(Deployment::new(Spec {
            id: name.into(),
            ..spec
        })),
        served: name,
    });
    Group::new("model".into(), members.collect(), rules, None)
}

/// How often each of `n` choices falls on each member.
fn shares(
    group: &Group<&'static str>,
    rules: &Rules,
    ask: &Ask<'_, &'static str>,
    n: u64,
) -> Vec<u64> {
    let mut counts = vec![0; group.members().len()];
    for random in 0..n {
        let random = random.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        counts[group.choose(ask, rules, &[], NOW, random).unwrap()] += 1;
    }
    counts
}

fn chosen(group: &Group<&'static str>, rules: &Rules, ask: &Ask<'_, &'static str>) -> &'static str {
    let at = group.choose(ask, rules, &[], NOW, 7).unwrap();
    group.members()[at].served
}

fn cool(deployment: &Deployment, rules: &Rules) {
    let failure = Failure::of(FailureKind::RateLimit);
    deployment.failed(&failure, Duration::ZERO, &rules.0.cooldown, false, NOW);
}

#[test]
fn shuffling_follows_the_weights() {
    let rules = rules(|_| {});
    let weighted = |weight| Spec {
        weight: Some(weight),
        ..Spec::default()
    };
    let group = group(&rules, vec![weighted(3.0), weighted(1.0)]);
    let counts = shares(&group, &rules, &Ask::default(), 8_000);
    assert!((5_700..6_300).contains(&counts[0]), "{counts:?}");
    // The slow way, taken when one has been tried, keeps the shares of the rest.
    let tried = [group.members()[0].deployment.clone()];
    let at = group.choose(&Ask::default(), &rules, &tried, NOW, 1);
    assert_eq!(at, Ok(1));
}

#[test]
fn shuffling_goes_by_rpm_where_no_weight_is_given() {
    let rules = rules(|_| {});
    let limited = |rpm| Spec {
        rpm: Some(rpm),
        ..Spec::default()
    };
    let group = group(&rules, vec![limited(900), limited(100)]);
    let counts = shares(&group, &rules, &Ask::default(), 5_000);
    assert!((4_350..4_650).contains(&counts[0]), "{counts:?}");
}

#[test]
fn round_robin_gives_exact_shares() {
    let rules = rules(|r| r.strategy = Strategy::WeightedRoundRobin);
    let members = ["us", "eu"].map(|name| Member {
        deployment: Arc::new(Deployment::new(Spec::default())),
        served: name,
    });
    let group = Group::new("pool".into(), members.into(), &rules, Some(&[0.6, 0.4]));
    assert_eq!(shares(&group, &rules, &Ask::default(), 100), [60, 40]);
    cool(&group.members()[0].deployment, &rules);
    assert_eq!(shares(&group, &rules, &Ask::default(), 10), [0, 10]);
}

#[test]
fn the_least_busy_is_chosen() {
    let rules = rules(|r| r.strategy = Strategy::LeastBusy);
    let group = group(&rules, vec![Spec::default(), Spec::default()]);
    let busy = group.members()[0].deployment.begin(NOW);
    assert_eq!(shares(&group, &rules, &Ask::default(), 10), [0, 10]);
    drop(busy);
    let idle = shares(&group, &rules, &Ask::default(), 100);
    assert!(idle[0] > 20 && idle[1] > 20, "{idle:?}");
}

#[test]
fn the_fastest_is_chosen_and_the_unknown_is_tried_first() {
    let rules = rules(|r| r.strategy = Strategy::Latency);
    let group = group(&rules, vec![Spec::default(), Spec::default()]);
    let took = |first, whole, tokens| Took {
        first: Some(Duration::from_millis(first)),
        whole: Duration::from_millis(whole),
        tokens,
        prompt: 10,
    };
    let [a, b] = [0, 1].map(|at| group.members()[at].deployment.clone());
    a.succeeded(took(100, 200, 100), NOW);
    assert_eq!(chosen(&group, &rules, &Ask::default()), "b");
    // Sooner to its first token, and slower to its last.
    b.succeeded(took(50, 5_000, 100), NOW);
    assert_eq!(chosen(&group, &rules, &Ask::default()), "a");
    // Time-outs count as the time they took.
    let timeout = Failure::of(FailureKind::Timeout);
    for _ in 0..20 {
        a.failed(
            &timeout,
            Duration::from_secs(60),
            &rules.0.cooldown,
            true,
            NOW,
        );
    }
    assert_eq!(chosen(&group, &rules, &Ask::default()), "b");
}

#[test]
fn an_answer_that_came_whole_tells_its_speed_by_its_length() {
    let rules = rules(|r| r.strategy = Strategy::Latency);
    let group = group(&rules, vec![Spec::default(), Spec::default()]);
    let whole = |ms, tokens| Took {
        whole: Duration::from_millis(ms),
        tokens,
        ..Took::default()
    };
    let [a, b] = [0, 1].map(|at| group.members()[at].deployment.clone());
    a.succeeded(whole(20_000, 2_000), NOW);
    b.succeeded(whole(900, 10), NOW);
    assert_eq!(chosen(&group, &rules, &Ask::default()), "a");
}

#[test]
fn an_unknown_one_gets_one_call_and_one_that_fails_no_second_this_minute() {
    let rules = rules(|r| r.strategy = Strategy::Latency);
    let group = group(&rules, vec![Spec::default(), Spec::default()]);
    let [a, b] = [0, 1].map(|at| group.members()[at].deployment.clone());
    b.succeeded(Took::default(), NOW);
    let open = a.begin(NOW);
    assert_eq!(chosen(&group, &rules, &Ask::default()), "b");
    drop(open);
    assert_eq!(chosen(&group, &rules, &Ask::default()), "a");
    let failure = Failure::of(FailureKind::Server);
    a.failed(&failure, Duration::ZERO, &rules.0.cooldown, false, NOW);
    assert_eq!(chosen(&group, &rules, &Ask::default()), "b");
}

/// Among a thousand not all are looked at: what is best is found all the same, and kept.
#[test]
fn the_best_of_a_thousand_is_soon_found() {
    let thousand = |rules: &Rules, change: &dyn Fn(usize, &mut Spec)| {
        let members = (0..1_000).map(|at| {
            let mut spec = Spec {
                id: format!("d{at}").as_str().into(),
                ..Spec::default()
            };
            change(at, &mut spec);
            Member {
                deployment: Arc::new(Deployment::new(spec)),
                served: at,
            }
        });
        Group::new("model".into(), members.collect(), rules, None)
    };
    let choose = |group: &Group<usize>, rules: &Rules, ask: &Ask<'_, usize>, random: u64| {
        let random = random.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        group.choose(ask, rules, &[], NOW, random)
    };

    let by_cost = rules(|r| r.strategy = Strategy::Cost);
    let group = thousand(&by_cost, &|at, spec| {
        spec.cost = Some(NanoUsd(if at == 617 { 1 } else { 1_000 }));
    });
    let found = (0..).position(|n| choose(&group, &by_cost, &Ask::default(), n) == Ok(617));
    assert!(found.unwrap() < 500, "{found:?}");
    for n in 0..100 {
        assert_eq!(choose(&group, &by_cost, &Ask::default(), 7 + n), Ok(617));
    }

    // Nobody who is busy, while nearly all are idle; and all get their turn.
    let least_busy = rules(|r| r.strategy = Strategy::LeastBusy);
    let group = thousand(&least_busy, &|_, _| {});
    let mut open = Vec::new();
    for n in 0..500 {
        let at = choose(&group, &least_busy, &Ask::default(), n).unwrap();
        let deployment = &group.members()[at].deployment;
        assert_eq!(deployment.in_flight(), 0);
        open.push(deployment.begin(NOW));
    }

    // The only one that can, and the only one that is left.
    let by_skill = rules(|r| r.strategy = Strategy::Capability);
    let group = thousand(&by_skill, &|at, spec| {
        if at == 331 {
            spec.capabilities = vec!["vision".into()];
        }
    });
    let ask = Ask {
        needs: &["vision"],
        ..Ask::default()
    };
    assert_eq!(choose(&group, &by_skill, &ask, 1), Ok(331));
    for member in group.members().iter().filter(|member| member.served != 44) {
        cool(&member.deployment, &by_skill);
    }
    for n in 0..20 {
        assert_eq!(choose(&group, &by_skill, &Ask::default(), n), Ok(44));
    }
}

#[test]
fn the_least_used_share_is_chosen() {
    let rules = rules(|r| r.strategy = Strategy::Usage);
    let limited = |tpm| Spec {
        tpm: Some(tpm),
        ..Spec::default()
    };
    let group = group(&rules, vec![limited(1_000), limited(100_000)]);
    for member in group.members() {
        let took = Took {
            tokens: 500,
            ..Took::default()
        };
        member.deployment.succeeded(took, NOW);
    }
    assert_eq!(chosen(&group, &rules, &Ask::default()), "b");
}

#[test]
fn the_cheapest_is_chosen_by_price_and_else_by_hint() {
    let rules = rules(|r| r.strategy = Strategy::Cost);
    let hinted = |usd| Spec {
        cost: Some(NanoUsd(usd)),
        ..Spec::default()
    };
    let group = group(&rules, vec![hinted(30), hinted(20)]);
    assert_eq!(chosen(&group, &rules, &Ask::default()), "b");
    let price = |name: &&str| (*name == "a").then_some(NanoUsd(0));
    let ask = Ask {
        tokens: 1_000,
        cost: Some(&price),
        ..Ask::default()
    };
    assert_eq!(chosen(&group, &rules, &ask), "a");
}

#[test]
fn capabilities_steer_and_lacks_exclude() {
    let rules = rules(|r| r.strategy = Strategy::Capability);
    let able = |can: &[&str], cannot: &[&str]| Spec {
        capabilities: can.iter().map(|c| Text::from(*c)).collect(),
        lacks: cannot.iter().map(|c| Text::from(*c)).collect(),
        ..Spec::default()
    };
    let group = group(
        &rules,
        vec![
            able(&["speed"], &["vision"]),
            able(&["vision"], &[]),
            able(&[], &[]),
        ],
    );
    let ask = |needs: &'static [&'static str]| Ask {
        needs,
        ..Ask::default()
    };
    assert_eq!(chosen(&group, &rules, &ask(&["vision"])), "b");
    assert_eq!(chosen(&group, &rules, &ask(&["speed"])), "a");
}

#[test]
fn a_long_prompt_never_goes_to_a_small_window() {
    let rules = rules(|_| {});
    let window = |tokens| Spec {
        window: Some(tokens),
        ..Spec::default()
    };
    let group = group(&rules, vec![window(1_000), window(50_000)]);
    let ask = |tokens, must_fit| Ask {
        tokens,
        must_fit,
        ..Ask::default()
    };
    assert_eq!(shares(&group, &rules, &ask(2_000, true), 50), [0, 50]);
    assert!(shares(&group, &rules, &ask(2_000, false), 50)[0] > 0);
    assert_eq!(
        group.choose(&ask(60_000, true), &rules, &[], NOW, 1),
        Err(NoChoice::TooLong { window: 50_000 })
    );
}

#[test]
fn tags_choose_and_exclude() {
    let tagged = |tags: &[&str]| Spec {
        tags: tags.iter().map(|t| Text::from(*t)).collect(),
        ..Spec::default()
    };
    let specs = || {
        vec![
            tagged(&["free"]),
            tagged(&["paid", "eu"]),
            tagged(&["default"]),
        ]
    };
    let on = rules(|r| r.tag_filtering = true);
    let many = group(&on, specs());
    let tags = |tags: &[&str]| tags.iter().map(|t| Text::from(*t)).collect::<Vec<_>>();
    let choose = |rules: &Rules, group: &Group<&'static str>, words: &[&str]| {
        let words = tags(words);
        let ask = Ask {
            tags: &words,
            ..Ask::default()
        };
        let at = group.choose(&ask, rules, &[], NOW, 3)?;
        Ok::<_, NoChoice>(group.members()[at].served)
    };
    assert_eq!(choose(&on, &many, &["free"]), Ok("a"));
    assert_eq!(choose(&on, &many, &["eu", "other"]), Ok("b"));
    assert_eq!(choose(&on, &many, &[]), Ok("c"));
    assert_eq!(choose(&on, &many, &["gold"]), Err(NoChoice::Tags));
    let all = rules(|r| (r.tag_filtering, r.tags_match_any) = (true, false));
    let strict = group(&all, specs());
    assert_eq!(choose(&all, &strict, &["eu", "other"]), Err(NoChoice::Tags));
    assert_eq!(choose(&all, &strict, &["eu", "paid"]), Ok("b"));
    let off = rules(|_| {});
    assert!(choose(&off, &group(&off, specs()), &["gold"]).is_ok());
}

#[test]
fn lower_orders_come_first_while_they_are_healthy() {
    let rules = rules(|_| {});
    let order = |order| Spec {
        order,
        ..Spec::default()
    };
    let group = group(&rules, vec![order(2), order(1)]);
    assert_eq!(shares(&group, &rules, &Ask::default(), 50), [0, 50]);
    cool(&group.members()[1].deployment, &rules);
    assert_eq!(shares(&group, &rules, &Ask::default(), 50), [50, 0]);
}

#[test]
fn a_session_stays_where_its_prompt_is_cached() {
    let rules = rules(|_| {});
    let group = group(&rules, vec![Spec::default(); 3]);
    let of_session = |session| Ask {
        session: Some(session),
        ..Ask::default()
    };
    let mut seen = [0; 3];
    for session in 0..300 {
        let counts = shares(&group, &rules, &of_session(session), 5);
        let home = counts.iter().position(|n| *n == 5).expect("one for all");
        seen[home] += 1;
    }
    assert!(seen.iter().all(|n| *n > 60), "{seen:?}");
}

#[test]
fn regions_keep_calls_in() {
    let rules = rules(|_| {});
    let region = |region: &str| Spec {
        region: Some(region.into()),
        ..Spec::default()
    };
    let group = group(&rules, vec![region("us-east-1"), region("eu-west-1")]);
    let ask = |region| Ask {
        region: Some(region),
        ..Ask::default()
    };
    assert_eq!(chosen(&group, &rules, &ask("eu")), "b");
    assert_eq!(
        group.choose(&ask("e"), &rules, &[], NOW, 1),
        Err(NoChoice::Region)
    );
}

#[test]
fn slow_and_dead_ones_come_last() {
    let rules = rules(|r| {
        r.latency_threshold = Some(Duration::from_millis(500));
        r.health.steer = true;
    });
    let slow = Spec {
        latency: Some(Duration::from_secs(1)),
        ..Spec::default()
    };
    let group = group(&rules, vec![slow, Spec::default(), Spec::default()]);
    group.members()[1].deployment.probed(false, NOW);
    assert_eq!(shares(&group, &rules, &Ask::default(), 20), [0, 0, 20]);
    cool(&group.members()[2].deployment, &rules);
    assert_eq!(shares(&group, &rules, &Ask::default(), 20), [20, 0, 0]);
}

#[test]
fn thresholds_send_small_calls_to_the_cheap_and_long_ones_to_the_wide() {
    let rules = rules(|_| {});
    let wide = Spec {
        window: Some(100_000),
        cost: Some(NanoUsd(15_000_000)),
        latency: Some(Duration::from_millis(800)),
        capabilities: vec!["long-context".into()],
        ..Spec::default()
    };
    let cheap = Spec {
        window: Some(4_000),
        cost: Some(NanoUsd(500_000)),
        ..Spec::default()
    };
    let group = group(&rules, vec![wide, cheap]);
    let ask = |class, tokens| Ask {
        class,
        tokens,
        must_fit: true,
        ..Ask::default()
    };
    assert_eq!(chosen(&group, &rules, &ask(Class::Small, 100)), "b");
    assert_eq!(chosen(&group, &rules, &ask(Class::Long, 60_000)), "a");
}

#[test]
fn several_that_cool_down_say_when_the_first_is_back() {
    let rules = rules(|r| r.cooldown.time = Duration::from_secs(60));
    let group = group(&rules, vec![Spec::default(), Spec::default()]);
    for member in group.members() {
        cool(&member.deployment, &rules);
    }
    let until = NOW.plus(Duration::from_secs(60));
    let none = group.choose(&Ask::default(), &rules, &[], NOW, 1);
    assert_eq!(none, Err(NoChoice::Cooled { until }));
    assert!(group.choose(&Ask::default(), &rules, &[], until, 1).is_ok());
}

#[test]
fn allowed_failures_change_nothing_and_the_next_one_does() {
    let rules = rules(|r| r.cooldown.allowed_fails = Some(2));
    let deployment = Deployment::new(Spec::default());
    let fail = |kind, now| {
        let failure = Failure::of(kind);
        deployment.failed(&failure, Duration::ZERO, &rules.0.cooldown, false, now);
        deployment.cooled_until(now)
    };
    assert_eq!(fail(FailureKind::Server, NOW), None);
    assert_eq!(fail(FailureKind::Server, NOW), None);
    // Another minute counts anew, and a caller's mistake counts for nothing.
    let later = NOW.plus(Duration::from_secs(120));
    assert_eq!(fail(FailureKind::Server, later), None);
    for _ in 0..9 {
        assert_eq!(fail(FailureKind::BadRequest, later), None);
    }
    assert_eq!(fail(FailureKind::Server, later), None);
    assert!(fail(FailureKind::Server, later).is_some());
}

/// Without a number in the file: one that answers nothing is found out at once, one that fails half of its
/// calls soon, and a few failures among many calls never.
#[test]
fn outliers_are_left_alone_and_single_failures_forgiven() {
    let rules = rules(|_| {});
    let broken = Failure::of(FailureKind::Server);
    let run = |answers: usize, failures: usize, rounds: usize| {
        let deployment = Arc::new(Deployment::new(Spec::default()));
        for _ in 0..rounds {
            for at in 0..answers + failures {
                let flight = deployment.begin(NOW);
                if at < answers {
                    deployment.succeeded(Took::default(), NOW);
                } else {
                    deployment.failed(&broken, Duration::ZERO, &rules.0.cooldown, false, NOW);
                }
                drop(flight);
            }
        }
        (
            deployment.cooled_until(NOW).is_some(),
            deployment.health(NOW),
        )
    };
    assert_eq!(run(1_000, 0, 1), (false, Health::Healthy));
    assert_eq!(run(1_000, 4, 1), (true, Health::Down));
    assert_eq!(run(0, 3, 1), (false, Health::Partial));
    assert_eq!(run(0, 4, 1), (true, Health::Down));
    assert_eq!(run(1, 1, 4), (true, Health::Down));
    assert_eq!(run(9, 1, 100), (false, Health::Partial));
}

#[test]
fn a_provider_that_asks_for_time_gets_it() {
    let rules = rules(|_| {});
    let deployment = Deployment::new(Spec::default());
    let failure = Failure {
        retry_after: Some(Duration::from_secs(90)),
        ..Failure::of(FailureKind::RateLimit)
    };
    deployment.failed(&failure, Duration::ZERO, &rules.0.cooldown, false, NOW);
    let until = NOW.plus(Duration::from_secs(90));
    assert_eq!(deployment.cooled_until(NOW), Some(until));
    // Once, however often it is asked again meanwhile.
    deployment.failed(&failure, Duration::ZERO, &rules.0.cooldown, false, NOW);
    assert_eq!(deployment.status(NOW).cooldowns, 1);
    deployment.failed(&failure, Duration::ZERO, &rules.0.cooldown, false, until);
    assert_eq!(deployment.status(NOW).cooldowns, 2);
}

/// "At once" is no time to wait: then a failure counts as any other.
#[test]
fn a_provider_that_asks_for_no_time_is_left_alone_all_the_same() {
    let rules = rules(|_| {});
    let deployment = Deployment::new(Spec::default());
    let failure = Failure {
        retry_after: Some(Duration::ZERO),
        ..Failure::of(FailureKind::RateLimit)
    };
    deployment.failed(&failure, Duration::ZERO, &rules.0.cooldown, false, NOW);
    assert!(deployment.cooled_until(NOW).is_some());
}

#[test]
fn what_a_status_says_of_a_deployment_decides_whether_another_is_asked() {
    let kind = |status| Failure::of_status(status, "", None).kind;
    for (status, wanted) in [
        (401, FailureKind::Auth),
        (402, FailureKind::Auth),
        (404, FailureKind::NotFound),
        (405, FailureKind::NotFound),
        (410, FailureKind::NotFound),
        (409, FailureKind::Server),
        (499, FailureKind::Server),
        (529, FailureKind::Server),
        (408, FailureKind::Timeout),
        (429, FailureKind::RateLimit),
        (400, FailureKind::BadRequest),
        (413, FailureKind::BadRequest),
        (422, FailureKind::BadRequest),
    ] {
        assert_eq!(kind(status), wanted, "{status}");
    }
}
