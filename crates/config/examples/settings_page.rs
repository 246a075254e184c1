//! Prints the page of settings: `cargo run -p config --example settings_page > docs/litellm-settings.md`.

use std::io::Write;

fn main() -> std::io::Result<()> {
    std::io::stdout().write_all(config::settings_page().as_bytes())
}
