//! Rules across settings: two names of one, budgets and holds, the cache, who may reach what.

use super::{check, load};

#[test]
fn two_names_of_one_setting_must_agree() {
    check(
        "litellm_settings: {max_budget: 5}\ngeneral_settings: {global_max_budget: 6}\n",
        &[
            "f.yaml:2: general_settings.global_max_budget: is the same setting as litellm_settings.max_budget on line 1, with another value",
        ],
    );
    let loaded = load(
        "litellm_settings: {max_budget: 5, budget_duration: 30d}\ngeneral_settings: {global_max_budget: 5}\n",
    );
    assert_eq!(
        loaded.config.budgets.global_period,
        Some(config::Period::Monthly)
    );
    check(
        "litellm_settings: {cache: true, enable_cache: false}\n",
        &[
            "f.yaml:1: litellm_settings.enable_cache: is the same setting as litellm_settings.cache on line 1, with another value",
        ],
    );
}

#[test]
fn rules_across_settings() {
    check(
        "tollgate: {budgets: {hold_s: 60}}\n",
        &[
            "f.yaml:1: tollgate.budgets.hold_s: must be longer than the longest call may take, which is 600 s",
        ],
    );
    check(
        "tollgate: {journal: {segment_bytes: 1048576, cap_bytes: 1048577}}\n",
        &["f.yaml:1: tollgate.journal.cap_bytes: must hold two segments, 2097152 bytes, or more"],
    );
    // A longer call makes holds live longer of itself.
    let loaded =
        load("model_list:\n- {model_name: a, litellm_params: {model: gpt-4o, timeout: 6000}}\n");
    assert_eq!(loaded.config.budgets.hold.as_secs(), 6300);
    check(
        "general_settings: {master_key: sk-1}\nkey_settings: [{api_key: sk-1}, {api_key: k}, {api_key: k}]\n",
        &[
            "f.yaml:2: key_settings[0].api_key: is the master key; a virtual key must be another",
            "f.yaml:2: key_settings[2].api_key: is the same key as that of key_settings[1]",
        ],
    );
    check(
        "user_api_key_list: [{api_key: k, max_budget: 1, budget_reset_period: fortnightly}]\n",
        &[
            "f.yaml:1: user_api_key_list[0].budget_reset_period: expected daily, weekly, monthly, yearly, or a time with a unit such as 12h, 7d or 1mo",
        ],
    );
    check(
        "model_list:\n- {model_name: a, litellm_params: {model: gpt-4o, extra_headers: {\"a b\": x, ok: \"l1\\nl2\"}}}\n",
        &[
            "f.yaml:2: model_list[0].litellm_params.extra_headers.\"a b\": is not a header name",
            "f.yaml:2: model_list[0].litellm_params.extra_headers.ok: holds a line break or another character that a header cannot carry",
        ],
    );
}

#[test]
fn the_cache_is_semantic_when_the_file_means_it() {
    let semantic = |text: &str| {
        let cache = load(text).config.cache;
        (cache.enabled, cache.semantic)
    };
    assert_eq!(semantic(""), (false, false));
    assert_eq!(semantic("litellm_settings: {cache: true}\n"), (true, true));
    assert_eq!(
        semantic("litellm_settings: {enable_cache: on}\n"),
        (true, true)
    );
    assert_eq!(
        semantic("litellm_settings: {cache: true, cache_params: {type: local}}\n"),
        (true, false)
    );
    assert_eq!(
        semantic("litellm_settings: {cache: true, cache_params: {type: redis-semantic}}\n"),
        (true, true)
    );
    assert_eq!(
        semantic(
            "litellm_settings: {cache: true, cache_params: {type: redis, similarity_threshold: 0.8}}\n"
        ),
        (true, true)
    );
    assert_eq!(
        semantic("litellm_settings: {cache: true}\ntollgate: {cache: {semantic: false}}\n"),
        (true, false)
    );
    assert_eq!(
        semantic("litellm_settings: {cache_params: {similarity_threshold: 0.8}}\n"),
        (false, false)
    );
}

#[test]
fn users_and_customers_have_default_budgets() {
    let loaded = load(
        "litellm_settings: {max_end_user_budget: 0.5, default_max_internal_user_budget: 10, internal_user_budget_duration: 1mo}\n",
    );
    let budgets = &loaded.config.budgets;
    assert_eq!(budgets.end_user_budget, "0.5".parse().ok());
    assert_eq!(budgets.user_budget, "10".parse().ok());
    assert_eq!(budgets.user_period, Some(config::Period::Monthly));
    let told = config::check(&loaded);
    assert!(
        told.contains("0.5 USD for the life of each customer"),
        "{told}"
    );
    assert!(told.contains("over the keys of each user"), "{told}");
    let alone = load("litellm_settings: {internal_user_budget_duration: 1d}\n");
    assert_eq!(
        alone.warnings[0].reason,
        "has no effect without max_internal_user_budget"
    );
}

#[test]
fn who_may_reach_which_route_is_read_and_checked() {
    let loaded = load(
        "general_settings:\n  allowed_ips: [10.0.0.0/8, '::1']\n  use_x_forwarded_for: true\n  \
         allowed_routes: [/chat/completions, /key/*]\n  admin_only_routes: [/key/info]\n",
    );
    let access = &loaded.config.server.access;
    assert!(access.addresses[0].holds("10.3.4.5".parse().unwrap()) && access.forwarded);
    assert_eq!((access.routes.len(), access.admin_routes.len()), (2, 1));
    let told = config::check(&loaded);
    for said in [
        "answers only 10.0.0.0/8, ::1, by the last address of x-forwarded-for",
        "only the routes /chat/completions, /key/*",
        "for the master key only: /key/info",
    ] {
        assert!(told.contains(said), "{told}");
    }
    check(
        "general_settings:\n  allowed_ips: [localhost]\n  allowed_routes: []\n  admin_only_routes: [key]\n",
        &[
            "f.yaml:2: general_settings.allowed_ips[0]: expected an IP address, such as 10.1.2.3, or a network, such as 10.0.0.0/8",
            "f.yaml:3: general_settings.allowed_routes: an empty list would answer nobody; leave it out to answer everybody",
            "f.yaml:4: general_settings.admin_only_routes[0]: expected a route, such as /chat/completions or /key/*",
        ],
    );
}
