//! One value from several places that may say it.

use crate::aliases::names_of;
use crate::view::View;

/// The first name of a setting that is set. Two names with different values are an error.
pub(super) fn pick<'a>(root: &View<'a>, canonical: &'static str) -> Option<View<'a>> {
    let mut set = names_of(canonical)
        .map(|name| root.get(name))
        .filter(|view| view.is_set() && !view.is_mapping());
    let first = set.next()?;
    for other in set {
        if other.raw() != first.raw() {
            other.error(format!(
                "is the same setting as {} on line {}, with another value",
                first.path, first.line
            ));
        }
    }
    Some(first)
}

/// As [`pick`], for a setting that is a mapping.
pub(super) fn pick_map<'a>(root: &View<'a>, canonical: &'static str) -> Option<View<'a>> {
    let mut set = names_of(canonical)
        .map(|name| root.get(name))
        .filter(View::is_set);
    let first = set.next()?;
    if let Some(other) = set.next() {
        other.error(format!(
            "is the same setting as {} on line {}; keep one",
            first.path, first.line
        ));
    }
    Some(first)
}

/// A truth value, where it is said.
pub(super) fn flag(section: &View<'_>, name: &str, into: &mut bool) {
    if let Some(value) = section.at(name).bool() {
        *into = value;
    }
}

/// The first of several places that says it.
pub(super) fn first<'a, T>(
    root: &View<'a>,
    names: &[&str],
    read: impl Fn(&View<'a>) -> Option<T>,
) -> Option<T> {
    names.iter().find_map(|name| read(&root.get(name)))
}
