//! Fault proof 5: the topics are the truth; everything else can be deleted.

use rand::rngs::StdRng;
use tests::{Shape, World};

use crate::books::close;
use crate::kills::keys;
use crate::load::{Load, Plan, Seen};
use crate::table::Row;

/// Every row and every sum, as one text.
fn picture(world: &World) -> String {
    let sums = world.sql(
        "select key_hash, model, toString(sum(amount)), toString(sum(exact)), count() \
         from cost_ledger final group by key_hash, model order by key_hash, model",
    );
    let rows = world.sql(
        "select source_id, kpart, pseq, request_id, outcome, input_tokens, output_tokens, meters \
         from usage_rows final order by source_id, kpart, pseq",
    );
    format!("{sums}\n{rows}")
}

pub async fn from_the_topics(_: StdRng) -> Row {
    let mut row = Row::of("every projection deleted and rebuilt from the topics", 300);
    let mut world = World::start(Shape::Split).await;
    let (keys, seen) = (keys(&world, 12).await, Seen::default());
    Load::start(&world, &seen, &Plan::of(&keys, 300))
        .over()
        .await;
    close(&world, &seen, &keys, &mut row).await;
    let before = picture(&world);
    tokio::task::block_in_place(|| {
        world.stop();
        world.delete_projections();
    });
    world.restart().await;
    close(&world, &seen, &keys, &mut row).await;
    assert_eq!(picture(&world), before);
    row.runs = 1;
    row
}
