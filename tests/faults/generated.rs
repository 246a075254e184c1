//! A run that nobody planned: faults drawn from the seed, one after another under load.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tests::gateway::signal;
use tests::parts::Parts;
use tests::{Shape, World};

use crate::books::close;
use crate::kills::keys;
use crate::load::{Load, Plan, Seen};
use crate::outages::tear;
use crate::table::Row;

#[derive(Debug, Clone, Copy)]
enum Fault {
    KillIngress,
    KillBilling,
    FreezeBilling,
    KillRedis,
    KillTables,
    FreezeBroker,
    KillBroker,
}

const FAULTS: &[Fault] = &[
    Fault::KillIngress,
    Fault::KillBilling,
    Fault::FreezeBilling,
    Fault::KillRedis,
    Fault::KillTables,
    Fault::FreezeBroker,
    Fault::KillBroker,
];

const RUNS: u32 = 8;

pub async fn faults_from_the_seed(mut random: StdRng) -> Row {
    let mut row = Row::of("eight faults drawn from the seed", 400);
    let parts = Parts::start().await;
    let mut world = World::with(Shape::Split, "").on(&parts).start().await;
    let (keys, seen) = (keys(&world, 8).await, Seen::default());
    for _ in 0..RUNS {
        let fault = *FAULTS.choose(&mut random).expect("faults");
        let plan = Plan {
            pause: Duration::from_millis(100),
            ..Plan::of(&keys, 50)
        };
        let load = Load::start(&world, &seen, &plan);
        tokio::time::sleep(Duration::from_millis(random.random_range(50..600))).await;
        let down = Duration::from_millis(random.random_range(0..3_000));
        crate::say(&format!("  {fault:?} for {down:?}"));
        let (ingress, billing) = (
            random.random_range(0..world.ingresses.len()),
            random.random_range(0..world.billing.len()),
        );
        match fault {
            Fault::KillIngress => world.ingresses[ingress].kill(),
            Fault::KillBilling => world.billing[billing].kill(),
            Fault::FreezeBilling => signal(world.billing[billing].pid(), "STOP"),
            Fault::KillRedis => {
                parts.budgets.kill();
                tear(&parts, &mut random);
            }
            Fault::KillTables => world.engine.as_mut().expect("an engine").kill(),
            Fault::FreezeBroker => parts.kafka.freeze(),
            Fault::KillBroker => parts.kafka.kill(),
        }
        tokio::time::sleep(down).await;
        match fault {
            Fault::KillIngress => world.ingresses[ingress].again(),
            Fault::KillBilling => world.billing[billing].again(),
            Fault::FreezeBilling => signal(world.billing[billing].pid(), "CONT"),
            Fault::KillRedis => parts.budgets.restart().await,
            Fault::KillTables => world.engine.as_mut().expect("an engine").again(),
            Fault::FreezeBroker => parts.kafka.thaw(),
            Fault::KillBroker => parts.kafka.restart().await,
        }
        load.over().await;
        row.runs += 1;
    }
    world.ready().await;
    close(&world, &seen, &keys, &mut row).await;
    row
}
