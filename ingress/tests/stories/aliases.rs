//! Names that answer for other names.

use serde_json::json;

use crate::world::{MASTER, World};

#[tokio::test]
async fn a_name_for_another_name_is_answered_under_its_own_and_listed() {
    let world = World::with(|config| {
        for (alias, target) in [
            ("same", "one"),
            ("secret", "one"),
            ("deep", "wild/other"),
            ("up-2", "one"),
            ("nothing", "nobody"),
        ] {
            let aliases = &mut config.routing.aliases;
            aliases.insert(alias.to_owned(), target.to_owned());
        }
        config.routing.hidden.insert("secret".to_owned());
    })
    .await;
    // A name of an entry is its own, whatever another section calls so.
    for (name, upstream) in [
        ("same", "up-1"),
        ("secret", "up-1"),
        ("deep", "other"),
        ("up-2", "up-2"),
    ] {
        let told = world.chat(MASTER, json!({ "model": name })).await;
        assert_eq!(told.status, 200, "{name}: {}", told.text);
        assert_eq!(told.json()["model"], name);
        let sent: serde_json::Value =
            serde_json::from_str(world.provider.bodies().last().unwrap()).unwrap();
        assert_eq!(sent["model"], upstream);
    }
    let told = world.chat(MASTER, json!({ "model": "nothing" })).await;
    assert_eq!(told.status, 400, "{}", told.text);
    let list = world.get("/v1/models").await.json();
    let names: Vec<&str> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["id"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "one",
            "up-2",
            "unpriced",
            "wild/*",
            "tollgate/demo",
            "deep",
            "same"
        ]
    );
}
