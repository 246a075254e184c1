//! Answers by meaning, and everything that must not be one.

use cache_service::{CacheConfig, CacheService, HitKind, Stored};
use serde_json::{Value, json};

use crate::world::{Tenant, ask, semantic_config, shared, told};

#[tokio::test]
async fn the_same_question_in_other_words_is_a_hit() {
    let t = Tenant::of(shared().await, "paraphrase");
    assert!(matches!(
        t.teach(&ask("How do I reset my password?"), "Like this.")
            .await,
        Stored::Kept(_)
    ));
    let hit = t.hit(&ask("How can I reset my password?")).await;
    assert_eq!(
        (hit.kind, told(&hit).as_str()),
        (HitKind::Semantic, "Like this.")
    );
    assert!((0.90..1.0).contains(&hit.similarity), "{}", hit.similarity);
    assert!(
        hit.header()
            .starts_with("hit; kind=semantic; similarity=0.9"),
        "{}",
        hit.header()
    );
    let again = t.hit(&ask("How do I reset my password?")).await;
    assert_eq!(
        (again.kind, again.similarity, again.entry),
        (HitKind::Exact, 1.0, hit.entry)
    );
    assert_eq!(
        t.reason(&ask("What is the boiling point of water?")).await,
        "not-found"
    );
}

/// Sceptic 1: what looks alike to an embedding and is not.
#[tokio::test]
async fn answer_changing_edits_miss_and_say_which_guard() {
    let t = Tenant::of(shared().await, "edits");
    let table = [
        (
            "Transfer limits for order #4711?",
            "Transfer limits for order #4712?",
            "guard:number",
        ),
        (
            "Is port 6379 open by default?",
            "Is port 6379 closed by default?",
            "guard:antonym",
        ),
        (
            "How do I convert USD to INR?",
            "How do I convert INR to USD?",
            "guard:order",
        ),
        (
            "Is the annual fee waived for students?",
            "Is the annual fee NOT waived for students?",
            "guard:negation",
        ),
    ];
    for (first, second, guard) in table {
        t.teach(&ask(first), "A").await;
        assert_eq!(t.reason(&ask(second)).await, guard, "{first} | {second}");
    }
}

/// Sceptic 2: another prompt, parameter or unknown field is another question.
#[tokio::test]
async fn prompt_and_parameters_divide_the_cache() {
    let t = Tenant::of(shared().await, "parameters");
    let body = |system: &str, more: Value| {
        let mut body = json!({"model": "m", "messages": [
            {"role": "system", "content": system}, {"role": "user", "content": "What is the capital of Norway?"}]});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    };
    let first = body("Answer in French.", json!({"max_tokens": 16}));
    t.teach(&first, "Oslo").await;
    for other in [
        body("Answer in German.", json!({"max_tokens": 16})),
        body("Answer in French.", json!({"max_tokens": 4_000})),
        body(
            "Answer in French.",
            json!({"max_tokens": 16, "temperature": 0}),
        ),
        body(
            "Answer in French.",
            json!({"max_tokens": 16, "unheard_of": true}),
        ),
    ] {
        assert_eq!(t.reason(&other).await, "not-found", "{other}");
    }
    assert_eq!(
        t.hit(&body(
            "Answer in French.",
            json!({"max_tokens": 16.0, "stream": true})
        ))
        .await
        .kind,
        HitKind::Exact
    );
}

/// Sceptic 3: the tenant comes from the key, and nothing a client writes reaches another's answers.
#[tokio::test]
async fn tenants_never_share() {
    let cache = shared().await;
    let (a, b) = (
        Tenant::of(cache, "org/team-a"),
        Tenant::of(cache, "org/team-b"),
    );
    let question = ask("How do I cook rice in a pot?");
    let Stored::Kept(of_a) = a.teach(&question, "A's answer").await else {
        panic!("not kept")
    };
    assert_eq!(b.reason(&question).await, "not-found");
    assert_eq!(
        b.reason(&ask("How can I cook rice in a pot?")).await,
        "not-found"
    );
    for namespace in ["org/team-a", "", "team-a", "\u{0}org/team-a"] {
        assert_eq!(
            b.with(|c| c.namespace = Some(namespace.to_owned()))
                .reason(&question)
                .await,
            "not-found"
        );
    }
    let Stored::Kept(of_b) = b.teach(&question, "B's answer").await else {
        panic!("not kept")
    };
    assert_ne!(of_a, of_b);
    assert_eq!(told(&b.hit(&question).await), "B's answer");
    assert_eq!(
        told(&a.hit(&ask("How can I cook rice in a pot?")).await),
        "A's answer"
    );
    assert!(
        !cache.delete(of_a, Some("org/team-b")).await.unwrap(),
        "only its tenant deletes an entry"
    );
    assert_eq!(cache.stats().crossed, 0);
}

/// Sceptic 4: what the model cannot see is not compared by it.
#[tokio::test]
async fn texts_over_the_window_are_exact_only() {
    let t = Tenant::of(shared().await, "window");
    let context = "The harbour was built by the town and paid for by its merchants. ".repeat(20);
    let (a, b) = (
        format!("{context} Who built it?"),
        format!("{context} Who paid for it?"),
    );
    t.teach(&ask(&a), "The town").await;
    assert_eq!(t.reason(&ask(&b)).await, "over-window");
    assert_eq!(told(&t.hit(&ask(&a)).await), "The town");
    let far = "many words ".repeat(6_000);
    t.teach(&ask(&format!("{far} a")), "A").await;
    assert_eq!(t.reason(&ask(&format!("{far} b"))).await, "over-window");
}

/// Sceptic 5 and 6: conversations, tools and pictures are only ever the same or not.
#[tokio::test]
async fn conversations_and_pictures_are_exact_only() {
    let t = Tenant::of(shared().await, "turns");
    let talk = |about: &str| {
        json!({"messages": [
            {"role": "user", "content": format!("Explain {about} to me")}, {"role": "assistant", "content": "Well."},
            {"role": "user", "content": "Can you give me an example?"}]})
    };
    t.teach(&talk("monads"), "Maybe").await;
    assert_eq!(t.reason(&talk("functors")).await, "multi-turn");
    assert_eq!(told(&t.hit(&talk("monads")).await), "Maybe");

    let picture = |url: &str, text: &str| {
        json!({"messages": [{"role": "user", "content": [
            {"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]}]})
    };
    t.teach(&picture("a.png", ""), "A cat").await;
    assert_eq!(t.reason(&picture("b.png", "")).await, "not-plain-text");
    t.teach(&picture("a.png", "What is shown in this picture?"), "A cat")
        .await;
    assert_eq!(
        t.reason(&picture("b.png", "What is shown in this picture?"))
            .await,
        "not-plain-text"
    );
    assert_eq!(t.hit(&picture("a.png", "")).await.kind, HitKind::Exact);
}

#[tokio::test]
async fn the_threshold_can_be_raised_and_never_lowered() {
    let t = Tenant::of(shared().await, "threshold");
    t.teach(
        &ask("What should I do to lose weight quickly?"),
        "Eat less.",
    )
    .await;
    let alike = ask("How can I lose weight quickly?");
    let close = t.hit(&alike).await.similarity;
    assert_eq!(
        t.with(|c| c.threshold = Some(close + 0.01))
            .reason(&alike)
            .await,
        "not-found"
    );
    let far = ask("What food helps to lose weight over a longer time?");
    assert_eq!(t.reason(&far).await, "not-found");
    for low in [0.5, -1.0, f32::NAN, 7.0] {
        assert_eq!(
            t.with(|c| c.threshold = Some(low)).reason(&far).await,
            "not-found"
        );
    }
}

/// Sceptic 9, in part: a deleted answer is gone, word for word and by meaning.
#[tokio::test]
async fn a_deleted_answer_is_not_served_again() {
    let cache = shared().await;
    let t = Tenant::of(cache, "deleted");
    let Stored::Kept(id) = t
        .teach(&ask("Which bus goes to the airport?"), "Wrong")
        .await
    else {
        panic!("not kept")
    };
    assert_eq!(t.hit(&ask("What bus goes to the airport?")).await.entry, id);
    assert!(cache.delete(id, Some("deleted")).await.unwrap());
    assert_eq!(
        t.reason(&ask("Which bus goes to the airport?")).await,
        "not-found"
    );
    assert_eq!(
        t.reason(&ask("What bus goes to the airport?")).await,
        "not-found"
    );
    assert!(!cache.delete(id, None).await.unwrap());
}

/// A slow model costs the hit, not the request; the vector is made when there is time.
#[tokio::test]
async fn a_vector_that_comes_too_late_is_a_miss() {
    let config = CacheConfig {
        embed_budget: std::time::Duration::ZERO,
        ..semantic_config()
    };
    let cache = CacheService::open(config).await.unwrap();
    let t = Tenant::of(&cache, "late");
    assert_eq!(
        t.reason(&ask("How do I bake a bread?")).await,
        "embed-timeout"
    );
    t.teach(&ask("How do I bake a bread?"), "With flour.").await;
    assert_eq!(cache.stats().vectors, (1, 0));
    assert_eq!(
        t.hit(&ask("How do I bake a bread?")).await.kind,
        HitKind::Exact
    );
}
