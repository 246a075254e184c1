//! Every setting with what it does, for the documentation: the table printed.

use std::fmt::Write as _;

use crate::kind::{Effect, Kind, Setting};
use crate::{aliases, known};

/// One line for each known setting: its path, whether it takes effect, and what it means. Then the aliases.
#[must_use]
pub fn reference() -> String {
    let mut out = String::new();
    section(&mut out, "", &[known::TOP]);
    for alias in aliases::ALIASES {
        let names = if alias.names.is_empty() {
            String::new()
        } else {
            format!(" = {}", alias.names.join(" = "))
        };
        // Writing into a string cannot fail.
        let _ = writeln!(out, "alias: {}{names}: {}", alias.canonical, alias.meaning);
    }
    out
}

fn section(out: &mut String, path: &str, groups: &[&[Setting]]) {
    for setting in groups.iter().flat_map(|group| group.iter()) {
        let path = if path.is_empty() {
            setting.name.to_owned()
        } else {
            format!("{path}.{}", setting.name)
        };
        let effect = match setting.effect {
            Effect::Effective => "takes effect",
            Effect::Judged => "depends on its value",
            Effect::NotYet(_) => "not yet",
            Effect::NeverHonoured(_) => "never",
        };
        let why = match setting.effect {
            Effect::NotYet(reason) | Effect::NeverHonoured(reason) => reason,
            _ => setting.doc,
        };
        let _ = writeln!(
            out,
            "{path}: {effect}; {}{}{why}",
            setting.kind.expected(),
            if why.is_empty() { "" } else { "; " }
        );
        below(out, &path, &setting.kind);
    }
}

fn below(out: &mut String, path: &str, kind: &Kind) {
    match kind {
        Kind::Section(groups) | Kind::OpenSection(groups) => section(out, path, groups),
        Kind::List(item) => below(out, &format!("{path}[]"), item),
        Kind::Either { mapping, .. } => below(out, path, mapping),
        _ => {}
    }
}
