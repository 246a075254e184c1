//! The page of settings in the documentation, made from the table: what takes effect, what does not, and why.

use std::fmt::Write as _;

use crate::kind::{Effect, Kind, Setting};
use crate::{aliases, known};

const HEAD: &str = "# Settings of LiteLLM's configuration file, and what Tollgate does with them

Tollgate reads the configuration files of LiteLLM's proxy unchanged. Every setting is checked; an unknown one is an
error that names its line and the nearest known name. What takes effect, and what does not, stands below; a file
that asks for something in vain is told so at each start, and `tollgate config check FILE` explains what it will do.

This page is made from the table that the program itself reads (`crates/config/src/known`), by
`cargo run -p config --example settings_page > docs/litellm-settings.md`; a test holds it against that table.
";

/// One section: where it stands, and its settings.
struct Section {
    path: String,
    settings: Vec<&'static Setting>,
}

/// The page, in Markdown.
#[must_use]
pub fn settings_page() -> String {
    let mut sections = Vec::new();
    collect(&mut sections, "", &[known::TOP]);
    let mut out = HEAD.to_owned();
    // Writing into a string cannot fail.
    let _ = write(&mut out, &sections);
    out
}

fn write(out: &mut String, sections: &[Section]) -> std::fmt::Result {
    for (title, intro, with_effect) in [
        ("What takes effect", "", true),
        (
            "What does not take effect, and why",
            "Checked, and without effect. \"Never\" has no place here at all; the others may come.\n",
            false,
        ),
    ] {
        writeln!(
            out,
            "\n## {title}\n{}{intro}",
            if intro.is_empty() { "" } else { "\n" }
        )?;
        for section in sections {
            let rows: Vec<_> = section
                .settings
                .iter()
                .filter(|setting| takes_effect(setting) == with_effect)
                .collect();
            if rows.is_empty() {
                continue;
            }
            let path = if section.path.is_empty() {
                "the file itself".to_owned()
            } else {
                format!("`{}`", section.path)
            };
            if with_effect {
                writeln!(
                    out,
                    "### In {path}\n\n| setting | value | what it does |\n|---|---|---|"
                )?;
            } else {
                writeln!(out, "### In {path}\n\n| setting | why |\n|---|---|")?;
            }
            for setting in rows {
                match setting.effect {
                    Effect::NotYet(why) => writeln!(out, "| `{}` | {} |", setting.name, cell(why))?,
                    Effect::NeverHonoured(why) => {
                        writeln!(out, "| `{}` | never: {} |", setting.name, cell(why))?;
                    }
                    Effect::Effective | Effect::Judged => writeln!(
                        out,
                        "| `{}` | {} | {}{} |",
                        setting.name,
                        cell(&setting.kind.expected()),
                        cell(setting.doc),
                        if setting.required { " (required)" } else { "" }
                    )?,
                }
            }
            writeln!(out)?;
        }
    }
    writeln!(
        out,
        "## Names for the same setting\n\n| setting | other names | meaning |\n|---|---|---|"
    )?;
    for alias in aliases::ALIASES {
        let names: Vec<_> = alias.names.iter().map(|name| format!("`{name}`")).collect();
        let names = if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        };
        writeln!(
            out,
            "| `{}` | {names} | {} |",
            alias.canonical,
            cell(alias.meaning)
        )?;
    }
    Ok(())
}

const fn takes_effect(setting: &Setting) -> bool {
    matches!(setting.effect, Effect::Effective | Effect::Judged)
}

/// A table's cell holds no bar.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn collect(sections: &mut Vec<Section>, path: &str, groups: &[&'static [Setting]]) {
    let settings: Vec<&'static Setting> = groups.iter().flat_map(|group| group.iter()).collect();
    let known = sections.iter().any(|section| section.path == path);
    if !known {
        sections.push(Section {
            path: path.to_owned(),
            settings: settings.clone(),
        });
    }
    for setting in settings.into_iter().filter(|setting| takes_effect(setting)) {
        let below = if path.is_empty() {
            setting.name.to_owned()
        } else {
            format!("{path}.{}", setting.name)
        };
        descend(sections, &below, &setting.kind);
    }
}

fn descend(sections: &mut Vec<Section>, path: &str, kind: &'static Kind) {
    match kind {
        Kind::Section(groups) | Kind::OpenSection(groups) => collect(sections, path, groups),
        Kind::List(item) => descend(sections, &format!("{path}[]"), item),
        Kind::Map(item) => descend(sections, &format!("{path}.NAME"), item),
        Kind::Either { mapping, .. } => descend(sections, path, mapping),
        _ => {}
    }
}
