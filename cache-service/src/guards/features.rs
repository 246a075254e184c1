//! What the guards need to know of one text: a few lists of word hashes, computed once and stored
//! with the entry, so that the question itself need not be kept.

use serde::{Deserialize, Serialize};

use super::numbers::{NumberWords, canonical_number, is_number_word, number_and_unit};
use super::words;

/// Longer texts are over the model's window anyway; the rest of one is not looked at.
const TOKENS_MAX: usize = 512;

/// A word's hash.
pub(super) type Word = u32;

/// The features of one text. Lists are sorted unless their order is the feature.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features {
    /// Every word without its plural ending.
    pub(super) words: Vec<Word>,
    /// Words with content, in the order of the text.
    pub(super) content: Vec<Word>,
    /// Numbers and ids, with repetitions.
    pub(super) numbers: Vec<Word>,
    /// Count of negations.
    pub(super) negations: u8,
    /// Words that have listed opposites, by base form, with those opposites.
    pub(super) polar: Vec<(Word, Vec<Word>)>,
    /// Words such as "unlock", with the word that they negate.
    pub(super) negated: Vec<(Word, Word)>,
    /// Units and currencies.
    pub(super) units: Vec<Word>,
    /// Date and time words.
    pub(super) times: Vec<Word>,
    /// Names.
    pub(super) names: Vec<Word>,
    /// Pairs in a direction: "X to Y", "Y from X".
    pub(super) links: Vec<(Word, Word)>,
    /// Pairs without one: "X and Y".
    pub(super) joined: Vec<(Word, Word)>,
    /// Whether the word lists can be trusted on this text.
    pub(super) english: bool,
}

impl Features {
    /// Bytes on the heap, about.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        4 * (self.words.len() + self.content.len() + self.numbers.len() + self.units.len())
            + 4 * (self.times.len() + self.names.len())
            + 8 * (self.negated.len() + self.links.len() + self.joined.len())
            + self
                .polar
                .iter()
                .map(|(_, o)| 32 + 4 * o.len())
                .sum::<usize>()
    }

    /// Reads a text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let tokens = tokens(text);
        let mut f = Self {
            english: is_english(text, &tokens),
            ..Self::default()
        };
        let caps = Capitals::of(&tokens);
        let mut number_words = NumberWords::default();
        for (at, token) in tokens.iter().enumerate() {
            let before = at
                .checked_sub(1)
                .map(|b| &tokens[b])
                .filter(|_| !token.starts);
            let after = tokens.get(at + 1).filter(|t| !t.starts);
            let word = hash(&token.stem);
            f.words.push(word);
            if !words::STOPWORDS.contains(token.folded.as_str()) {
                f.content.push(word);
            }
            number_words.see(&token.folded, &mut |n| f.numbers.push(hash(n)));
            if token.has_digit {
                f.digits(token);
            }
            f.negation(&tokens, at);
            f.opposites(token);
            if let Some(unit) = words::UNITS.get(token.folded.as_str()) {
                // "3 feet" is a length, "cold feet" is not.
                let counted = before.is_some_and(|t| t.has_digit || is_number_word(&t.folded));
                if !unit.starts_with('~') || counted {
                    f.units.push(hash(unit));
                }
            }
            f.time(token, before, after);
            if caps.is_name(token) || words::NAMES.contains(token.folded.as_str()) {
                f.names.push(word);
            }
            f.pair(&tokens, at);
        }
        number_words.end(&mut |n| f.numbers.push(hash(n)));
        for list in [&mut f.words, &mut f.units, &mut f.times, &mut f.names] {
            list.sort_unstable();
            list.dedup();
        }
        f.numbers.sort_unstable();
        f
    }

    pub(super) fn has(&self, word: Word) -> bool {
        self.words.binary_search(&word).is_ok()
    }

    fn digits(&mut self, token: &Token<'_>) {
        match number_and_unit(&token.folded) {
            Some((number, unit)) => {
                self.numbers.push(hash(&canonical_number(number)));
                if let Some(name) = words::UNITS.get(unit) {
                    self.units.push(hash(name));
                } else if let Some(name) = words::TIMES.get(unit) {
                    self.times.push(hash(name));
                }
            }
            None => self.numbers.push(hash(&canonical_number(&token.folded))),
        }
    }

    fn negation(&mut self, tokens: &[Token<'_>], at: usize) {
        let word = tokens[at].folded.as_str();
        let negates = words::NEGATIONS.contains(word)
            || word.ends_with("n't")
            || (!self.english && words::NEGATIONS_FOREIGN.contains(word));
        // "or not?" and "isn't it?" ask; they deny nothing.
        let ends = |n: usize| tokens.get(at + n).is_none_or(|t| t.starts);
        let before = at.checked_sub(1).map_or("", |b| tokens[b].folded.as_str());
        let only_asks = (word == "not" && before == "or" && ends(1))
            || (word.ends_with("n't") && !tokens[at].starts && ends(2) && !ends(1));
        self.negations = self
            .negations
            .saturating_add(u8::from(negates && !only_asks));
    }

    fn opposites(&mut self, token: &Token<'_>) {
        for base in words::bases(&token.folded) {
            if let Some(opposites) = words::ANTONYMS.get(base.as_str()) {
                self.polar
                    .push((hash(&base), opposites.iter().map(|o| hash(o)).collect()));
            }
        }
        for prefix in [
            "un", "in", "im", "ir", "il", "dis", "non", "de", "mis", "anti",
        ] {
            // Shorter remainders are mostly other words ("under", "input", "detail").
            if let Some(base) = token
                .stem
                .strip_prefix(prefix)
                .filter(|base| base.len() >= 4)
            {
                self.negated.push((hash(&token.stem), hash(base)));
            }
        }
        if let Some(root) = token
            .stem
            .strip_suffix("less")
            .filter(|root| root.len() >= 3)
        {
            self.negated
                .push((hash(&token.stem), hash(&format!("{root}ful"))));
        }
    }

    fn time(&mut self, token: &Token<'_>, before: Option<&Token<'_>>, after: Option<&Token<'_>>) {
        let previous = before.map_or("", |t| t.folded.as_str());
        let of_date = || {
            matches!(
                previous,
                "in" | "since"
                    | "until"
                    | "till"
                    | "by"
                    | "of"
                    | "from"
                    | "before"
                    | "after"
                    | "during"
                    | "this"
                    | "last"
                    | "next"
                    | "early"
                    | "late"
                    | "on"
                    | "and"
                    | "or"
                    | "to"
            ) || after.is_some_and(|t| t.has_digit)
        };
        let name = match token.folded.as_str() {
            // "may" and "march" are months where they stand like one.
            "may" | "march" if !((token.capital && !token.starts) || of_date()) => return,
            "may" => "may",
            // "I am" is not a time of day.
            "am" if !before.is_some_and(|t| t.has_digit) => return,
            word => match words::TIMES
                .get(token.stem.as_str())
                .or_else(|| words::TIMES.get(word))
            {
                Some(name) => name,
                None => return,
            },
        };
        // "a day", "per day" and "daily" say the same; "this week" and "next week" do not.
        if matches!(
            previous,
            "this" | "last" | "next" | "past" | "previous" | "coming"
        ) {
            self.times.push(hash(&format!("{previous} {name}")));
        } else {
            self.times.push(hash(name));
        }
    }

    fn pair(&mut self, tokens: &[Token<'_>], at: usize) {
        let middle = tokens[at].folded.as_str();
        let joins = matches!(middle, "and" | "or" | "vs" | "versus" | "&" | "/");
        let reversed = middle == "from";
        if !joins && !reversed && !words::DIRECTIONS.contains(middle) {
            return;
        }
        let content = |t: &&Token<'_>| !words::STOPWORDS.contains(t.folded.as_str());
        let left = tokens[..at].iter().rev().take(3).find(content);
        let right = tokens[at + 1..].iter().take(3).find(content);
        if let (Some(left), Some(right)) = (left, right) {
            let (left, right) = (hash(&left.stem), hash(&right.stem));
            if joins {
                self.joined.push((left, right));
            } else if reversed {
                self.links.push((right, left));
            } else {
                self.links.push((left, right));
            }
        }
    }
}

/// FNV-1a, folded to 32 bits; stable across builds, since it is stored.
pub(super) fn hash(text: &str) -> Word {
    let mut h: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in text.bytes() {
        h = (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // The halves both depend on every byte; truncation is the point.
    (h ^ (h >> 32)) as u32
}

pub(super) struct Token<'a> {
    raw: &'a str,
    folded: String,
    stem: String,
    /// First word of a sentence.
    starts: bool,
    capital: bool,
    has_digit: bool,
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut out: Vec<Token<'_>> = Vec::new();
    let mut starts = true;
    let mut chars = text.char_indices().peekable();
    while let Some((from, c)) = chars.next() {
        if out.len() >= TOKENS_MAX {
            break;
        }
        if matches!(c, '$' | '€' | '£' | '¥' | '₹' | '%' | '&' | '/') {
            out.push(token(&text[from..from + c.len_utf8()], false));
            continue;
        }
        if !c.is_alphanumeric() {
            starts |= matches!(c, '.' | '!' | '?' | ':' | '\n' | ';');
            continue;
        }
        let mut to = from + c.len_utf8();
        while let Some(&(at, c)) = chars.peek() {
            let next = text[at + c.len_utf8()..].chars().next();
            let inner = next.is_some_and(char::is_alphanumeric)
                && (matches!(c, '\'' | '’' | '.' | '_')
                    || (c == ','
                        && next.is_some_and(|n| n.is_ascii_digit())
                        && text[from..at].ends_with(|p: char| p.is_ascii_digit())));
            // "C++", "C#", "°C" is a unit of its own.
            let suffix = matches!(c, '+' | '#') && text[from..at].chars().count() <= 2;
            if !(c.is_alphanumeric() || inner || suffix) {
                break;
            }
            to = at + c.len_utf8();
            chars.next();
        }
        out.push(token(&text[from..to], starts));
        starts = false;
    }
    out
}

fn token(raw: &str, starts: bool) -> Token<'_> {
    let mut folded = raw.to_lowercase().replace('’', "'");
    // "U.S.A" is "usa".
    if folded.contains('.')
        && folded.split('.').all(|part| {
            part.chars().count() == 1 && !part.starts_with(|c: char| c.is_ascii_digit())
        })
    {
        folded = folded.replace('.', "");
    }
    let stem = stem(&folded);
    let capital = raw.starts_with(char::is_uppercase);
    let has_digit = raw.contains(|c: char| c.is_ascii_digit());
    Token {
        raw,
        folded,
        stem,
        starts,
        capital,
        has_digit,
    }
}

/// Without possessive and plural endings.
fn stem(folded: &str) -> String {
    let word = folded.strip_suffix("'s").unwrap_or(folded);
    if word.len() > 4
        && let Some(base) = word.strip_suffix("ies")
    {
        return format!("{base}y");
    }
    if word.len() > 3
        && !word.ends_with("ss")
        && !word.ends_with("us")
        && !word.ends_with("is")
        && let Some(base) = word.strip_suffix('s')
    {
        return base.to_owned();
    }
    word.to_owned()
}

/// What capitals mean in this text.
struct Capitals {
    /// Titles and shouting capitalise everything.
    meaningless: bool,
}

impl Capitals {
    fn of(tokens: &[Token<'_>]) -> Self {
        let (mut capital, mut lower, mut letters) = (0, 0, 0);
        let mut all_upper = true;
        for token in tokens.iter().filter(|t| !t.has_digit) {
            letters += 1;
            all_upper &= !token.raw.contains(char::is_lowercase);
            if !token.starts
                && token.folded != "i"
                && !token.folded.starts_with("i'")
                && words::STOPWORDS.contains(token.folded.as_str())
            {
                if token.capital {
                    capital += 1
                } else {
                    lower += 1
                }
            }
        }
        Self {
            meaningless: (all_upper && letters > 2) || capital > lower,
        }
    }

    fn is_name(&self, token: &Token<'_>) -> bool {
        if token.has_digit || self.meaningless {
            return false;
        }
        let uppers = token.raw.chars().filter(|c| c.is_uppercase()).count();
        let first = usize::from(token.capital);
        let plain = token.folded == "i" || token.folded.starts_with("i'");
        let acronym_or_mixed = uppers > first;
        !plain
            && (acronym_or_mixed
                || (token.capital
                    && !token.starts
                    && !words::STOPWORDS.contains(token.folded.as_str())
                    && !words::OPENERS.contains(token.folded.as_str())))
    }
}

fn is_english(text: &str, tokens: &[Token<'_>]) -> bool {
    let (mut ascii, mut other) = (0u32, 0u32);
    for c in text.chars().filter(|c| c.is_alphabetic()) {
        if c.is_ascii() { ascii += 1 } else { other += 1 }
    }
    let count = |list: &std::collections::HashSet<&str>| {
        tokens
            .iter()
            .filter(|t| list.contains(t.folded.as_str()))
            .count()
    };
    // Words that both languages have count for English alone.
    let foreign = tokens
        .iter()
        .filter(|t| {
            words::STOPWORDS_FOREIGN.contains(t.folded.as_str())
                && !words::STOPWORDS.contains(t.folded.as_str())
        })
        .count();
    other * 9 <= ascii && count(&words::STOPWORDS) >= foreign
}
