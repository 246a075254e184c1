//! The word lists behind the guards and the eligibility rules, read once from `words/*.txt`.
//!
//! Written by hand from general English; no labelled trap list was copied into them.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

type Words = LazyLock<HashSet<&'static str>>;

fn list(text: &'static str) -> HashSet<&'static str> {
    lines(text).flat_map(str::split_whitespace).collect()
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
}

/// Words that make an answer depend on the day it is asked.
pub(crate) static FRESH: Words = LazyLock::new(|| list(include_str!("words/fresh.txt")));
/// The same, after "this", "last", "next", "past" or "right".
pub(crate) static FRESH_AFTER_THIS: Words =
    LazyLock::new(|| list(include_str!("words/fresh_after_this.txt")));
/// Verbs that order something to be done, at the start of a text.
pub(crate) static ACTIONS: Words = LazyLock::new(|| list(include_str!("words/actions.txt")));
/// Words before such a verb that do not change that.
pub(crate) static POLITE: Words = LazyLock::new(|| list(include_str!("words/polite.txt")));
/// Words of negation.
pub(super) static NEGATIONS: Words = LazyLock::new(|| list(include_str!("words/negations.txt")));
/// Words of negation in some other languages, for texts that are not English.
pub(super) static NEGATIONS_FOREIGN: Words =
    LazyLock::new(|| list(include_str!("words/negations_foreign.txt")));
/// English words without content of their own.
pub(super) static STOPWORDS: Words = LazyLock::new(|| list(include_str!("words/stopwords.txt")));
/// The same of some other languages.
pub(super) static STOPWORDS_FOREIGN: Words =
    LazyLock::new(|| list(include_str!("words/stopwords_foreign.txt")));
/// Words that open a sentence with a capital and are no names.
pub(super) static OPENERS: Words = LazyLock::new(|| list(include_str!("words/openers.txt")));
/// Names that are known as such in lower case too.
pub(super) static NAMES: Words = LazyLock::new(|| list(include_str!("words/names.txt")));
/// Words whose two sides have different roles.
pub(super) static DIRECTIONS: Words = LazyLock::new(|| list(include_str!("words/directions.txt")));

/// Every spelling of a unit or currency, to its name.
pub(super) static UNITS: LazyLock<HashMap<&'static str, &'static str>> =
    LazyLock::new(|| synonyms(include_str!("words/units.txt")));
/// Every spelling of a date or time word, to its name.
pub(super) static TIMES: LazyLock<HashMap<&'static str, &'static str>> =
    LazyLock::new(|| synonyms(include_str!("words/times.txt")));

fn synonyms(text: &'static str) -> HashMap<&'static str, &'static str> {
    let mut names = HashMap::new();
    for line in lines(text) {
        let mut words = line.split_whitespace();
        if let Some(name) = words.next() {
            names.insert(name, name);
            names.extend(words.map(|word| (word, name)));
        }
    }
    names
}

/// Opposites, by the base form of a word.
pub(super) static ANTONYMS: LazyLock<HashMap<&'static str, Vec<&'static str>>> =
    LazyLock::new(|| {
        let mut pairs: HashMap<&str, Vec<&str>> = HashMap::new();
        for line in lines(include_str!("words/antonyms.txt")) {
            if let Some((left, right)) = line.split_once('|') {
                for x in left.split_whitespace() {
                    for y in right.split_whitespace() {
                        pairs.entry(x).or_default().push(y);
                        pairs.entry(y).or_default().push(x);
                    }
                }
            }
        }
        pairs
    });

/// The forms a word may be listed under: itself, then without its ending.
pub(super) fn bases(word: &str) -> impl Iterator<Item = String> {
    let mut forms = vec![word.to_owned()];
    for ending in ["s", "es", "ed", "d", "ing", "ly"] {
        if let Some(base) = word.strip_suffix(ending).filter(|base| base.len() >= 3) {
            forms.push(base.to_owned());
            if ending == "ing" || ending == "ed" {
                forms.push(format!("{base}e"));
                // "stopped", "getting": the doubled letter belongs to the ending.
                let mut letters = base.chars().rev();
                if let (Some(last), Some(before)) = (letters.next(), letters.next())
                    && last == before
                {
                    forms.push(base[..base.len() - last.len_utf8()].to_owned());
                }
            }
        }
    }
    if let Some(base) = word.strip_suffix("ies").filter(|base| base.len() >= 2) {
        forms.push(format!("{base}y"));
    }
    forms.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_there_and_endings_fold() {
        assert!(ANTONYMS.len() > 300);
        assert_eq!(UNITS["kilometres"], "km");
        assert_eq!(TIMES["sept"], "september");
        let has = |word: &str, base: &str| bases(word).any(|b| b == base);
        assert!(
            has("stopped", "stop")
                && has("increasing", "increase")
                && has("cities", "city")
                && has("closed", "close")
        );
    }
}
