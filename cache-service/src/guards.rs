//! What embeddings are blind to. "Is the port open?" and "Is the port closed?" have a cosine above
//! 0.9; a guard compares the words and lets no such pair share an answer.
//!
//! Seven guards, each a pure comparison of two stored [`Features`] (about half a microsecond). They
//! only ever refuse: a wrong refusal costs a call, a wrong pass costs trust. Word overlap as such is
//! not compared: it was measured and lowers precision.

mod features;
mod numbers;
pub(crate) mod words;

pub use features::Features;

use crate::eligibility::Reason;
use features::Word;

/// Cosine that a pair needs where a text is not English and the word lists say little.
pub const THRESHOLD_FOREIGN: f32 = 0.95;

/// The threshold that two texts must pass, at least.
#[must_use]
pub fn threshold(a: &Features, b: &Features, threshold: f32) -> f32 {
    if a.english && b.english {
        threshold
    } else {
        threshold.max(THRESHOLD_FOREIGN)
    }
}

/// The first guard that refuses to let two texts share an answer; `None` where all pass.
#[must_use]
pub fn refuse(a: &Features, b: &Features) -> Option<Reason> {
    if a.numbers != b.numbers {
        return Some(Reason::GuardNumber);
    }
    if a.negations % 2 != b.negations % 2 {
        return Some(Reason::GuardNegation);
    }
    if opposed(a, b) || negated(a, b) || negated(b, a) {
        return Some(Reason::GuardAntonym);
    }
    if a.units != b.units {
        return Some(Reason::GuardUnit);
    }
    if a.times != b.times {
        return Some(Reason::GuardTime);
    }
    if a.names.iter().any(|&name| !b.has(name)) || b.names.iter().any(|&name| !a.has(name)) {
        return Some(Reason::GuardEntity);
    }
    if turned(a, b) || swapped(a, b) {
        return Some(Reason::GuardOrder);
    }
    None
}

/// One text has a word, the other its opposite, and neither has both.
fn opposed(a: &Features, b: &Features) -> bool {
    let in_polar = |f: &Features, word: Word| f.polar.iter().any(|(w, _)| *w == word);
    a.polar.iter().any(|(x, opposites)| {
        !in_polar(b, *x) && opposites.iter().any(|&y| in_polar(b, y) && !in_polar(a, y))
    })
}

/// `a` says "unlock" where `b` says "lock".
fn negated(a: &Features, b: &Features) -> bool {
    a.negated
        .iter()
        .any(|&(word, base)| b.has(base) && !b.has(word) && !a.has(base))
}

/// "X to Y" against "Y to X".
fn turned(a: &Features, b: &Features) -> bool {
    a.links
        .iter()
        .any(|&(x, y)| x != y && b.links.contains(&(y, x)) && !a.links.contains(&(y, x)))
}

/// The same words, two of them exchanged, unless an "and" makes that harmless, or both texts give
/// the two the same direction ("from X to Y", "to Y from X").
fn swapped(a: &Features, b: &Features) -> bool {
    if a.content.len() != b.content.len() {
        return false;
    }
    let mut places = a
        .content
        .iter()
        .zip(&b.content)
        .enumerate()
        .filter(|(_, (x, y))| x != y);
    let (Some((i, (x, y))), Some((j, (u, v))), None) =
        (places.next(), places.next(), places.next())
    else {
        return false;
    };
    let pair = |list: &[(Word, Word)]| list.iter().any(|p| *p == (*x, *y) || *p == (*y, *x));
    let joined = pair(&a.joined) && pair(&b.joined);
    let same_link = |link| a.links.contains(&link) && b.links.contains(&link);
    // "work stress" is "stress at work".
    let compound = j == i + 1 && pair(&a.links) != pair(&b.links);
    let harmless = joined || compound || same_link((*x, *y)) || same_link((*y, *x));
    x == v && y == u && !harmless
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(a: &str, b: &str) -> Option<Reason> {
        let (a, b) = (Features::of(a), Features::of(b));
        let verdict = refuse(&a, &b);
        assert_eq!(
            verdict.is_some(),
            refuse(&b, &a).is_some(),
            "a guard looks the same from both sides"
        );
        verdict
    }

    #[test]
    fn answer_changing_edits_are_refused() {
        use Reason as R;
        let table = [
            (
                "Transfer limits for order #4711?",
                "Transfer limits for order #4712?",
                R::GuardNumber,
            ),
            (
                "Summarise it in three sentences",
                "Summarise it in 7 sentences",
                R::GuardNumber,
            ),
            (
                "Who won the World Cup in 1998?",
                "Who won the World Cup in 2002?",
                R::GuardNumber,
            ),
            (
                "Is the fee waived?",
                "Is the fee NOT waived?",
                R::GuardNegation,
            ),
            (
                "Does it work with a password?",
                "Does it work without a password?",
                R::GuardNegation,
            ),
            (
                "Why do people like it?",
                "Why don't people like it?",
                R::GuardNegation,
            ),
            (
                "Is port 6379 open by default?",
                "Is port 6379 closed by default?",
                R::GuardAntonym,
            ),
            (
                "How do I increase my limit?",
                "How do I decrease my limit?",
                R::GuardAntonym,
            ),
            (
                "How do I lock my account?",
                "How do I unlock my account?",
                R::GuardAntonym,
            ),
            (
                "Is the disk encrypted?",
                "Is the disk unencrypted?",
                R::GuardAntonym,
            ),
            (
                "How long is 5 miles?",
                "How long is 5 kilometres?",
                R::GuardUnit,
            ),
            (
                "How much is $20 worth?",
                "How much is €20 worth?",
                R::GuardUnit,
            ),
            (
                "Are you open on Monday?",
                "Are you open on Tuesday?",
                R::GuardTime,
            ),
            (
                "What happened in May?",
                "What happened in June?",
                R::GuardTime,
            ),
            (
                "What is due next week?",
                "What is due this week?",
                R::GuardTime,
            ),
            (
                "Translate 'good night' to French",
                "Translate 'good night' to German",
                R::GuardEntity,
            ),
            (
                "What is the capital of france?",
                "What is the capital of spain?",
                R::GuardEntity,
            ),
            ("Who founded Acme?", "Who founded Initech?", R::GuardEntity),
            (
                "How do I convert USDC to DAI?",
                "How do I convert DAI to USDC?",
                R::GuardOrder,
            ),
            (
                "How do I convert meters from yards?",
                "How do I convert yards from meters?",
                R::GuardOrder,
            ),
            (
                "Why does the dog bite the man?",
                "Why does the man bite the dog?",
                R::GuardOrder,
            ),
        ];
        for (a, b, reason) in table {
            assert_eq!(check(a, b), Some(reason), "{a} | {b}");
        }
    }

    #[test]
    fn harmless_rewrites_pass() {
        let table = [
            (
                "What is the capital of France?",
                "what is the capital of france",
            ),
            (
                "What's the capital of France?",
                "Please tell me: what is the capital of France?",
            ),
            ("How do I reset my password?", "How can I reset my password"),
            (
                "How do I reset my password?",
                "Hello, how do I reset my password? Thanks!",
            ),
            (
                "What is the difference between TCP and UDP?",
                "What is the difference between UDP and TCP?",
            ),
            ("What is 1,000 m in feet?", "What is 1000 metres in feet?"),
            ("Who may apply?", "Who can apply?"),
            ("It is allowed, isn't it?", "It is allowed, right?"),
            ("Is it allowed or not?", "Is it allowed?"),
            (
                "How do I reduce work stress?",
                "How do I reduce stress at work?",
            ),
            (
                "Which laptop is best under 30k?",
                "Which laptop is best under 30,000?",
            ),
            (
                "How To Lose Weight Without The Gym",
                "How to lose weight without the gym",
            ),
            ("Why is the sky blue?", "WHY IS THE SKY BLUE?"),
            (
                "How do I get from Oslo to Bergen?",
                "How do I get to Bergen from Oslo?",
            ),
        ];
        for (a, b) in table {
            assert_eq!(check(a, b), None, "{a} | {b}");
        }
    }

    #[test]
    fn a_foreign_text_needs_a_higher_threshold() {
        let english = Features::of("What is the best way to cook rice?");
        let german = Features::of("Wie kocht man am besten den Reis für die Gäste?");
        let chinese = Features::of("如何煮米饭？");
        assert_eq!(threshold(&english, &english, 0.9), 0.9);
        assert_eq!(threshold(&english, &german, 0.9), THRESHOLD_FOREIGN);
        assert_eq!(threshold(&chinese, &chinese, 0.9), THRESHOLD_FOREIGN);
        assert_eq!(
            check(
                "Ist das erlaubt und warum?",
                "Ist das nicht erlaubt und warum?"
            ),
            Some(Reason::GuardNegation)
        );
    }
}
