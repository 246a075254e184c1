//! The page of settings says what the program does.

#[test]
fn the_page_is_that_of_the_table() {
    let page = include_str!("../../../../docs/litellm-settings.md");
    let wanted = config::settings_page();
    let differs = page.lines().zip(wanted.lines()).find(|(a, b)| a != b);
    assert!(
        page == wanted,
        "docs/litellm-settings.md is not that of the table; write it anew: \
         cargo run -p config --example settings_page > docs/litellm-settings.md\nfirst difference: {differs:?}"
    );
    for said in [
        "| `drop_params` | true or false |",
        "| `database_url` | never: there is no relational database",
        "`general_settings.global_max_budget`",
    ] {
        assert!(page.contains(said), "{said}");
    }
}
