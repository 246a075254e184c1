//! Numbers as people write them: digits with separators, with a unit stuck to them, or in words.

use super::words;

/// `1,000`, `01000` and `1000.0` are one number; an id stays as it is.
pub(super) fn canonical_number(folded: &str) -> String {
    // "30k" is 30,000.
    if let Some(thousands) = folded
        .strip_suffix('k')
        .filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    {
        return canonical_number(&format!("{thousands}000"));
    }
    let ordinal = ["st", "nd", "rd", "th"]
        .iter()
        .find_map(|s| folded.strip_suffix(s));
    let text = ordinal
        .filter(|n| n.bytes().all(|b| b.is_ascii_digit()))
        .unwrap_or(folded)
        .replace(',', "");
    if !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') || text.matches('.').count() > 1 {
        return text;
    }
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    match text.trim_start_matches('0') {
        "" => "0".to_owned(),
        rest if rest.starts_with('.') => format!("0{rest}"),
        rest => rest.to_owned(),
    }
}

/// Whether a word is a number.
pub(super) fn is_number_word(word: &str) -> bool {
    value(word).is_some()
}

/// `5kg` is 5 and kilograms, `9pm` is 9 in the evening; `b2b` is neither.
pub(super) fn number_and_unit(folded: &str) -> Option<(&str, &str)> {
    let at = folded.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ','))?;
    let (number, unit) = folded.split_at(at);
    let known = words::UNITS.contains_key(unit) || words::TIMES.contains_key(unit);
    (!number.is_empty() && known).then_some((number, unit))
}

/// Adds up runs of number words: "two hundred and fifty" is 250.
#[derive(Default)]
pub(super) struct NumberWords {
    total: u64,
    current: u64,
    words: u32,
    only_one: bool,
    after_hundred: bool,
}

impl NumberWords {
    pub(super) fn see(&mut self, word: &str, found: &mut dyn FnMut(&str)) {
        if word == "and" && self.after_hundred {
            return;
        }
        let Some(value) = value(word) else {
            return self.end(found);
        };
        // "two three" are two numbers, "twenty three" is one.
        if value < 100
            && self.words > 0
            && !self.after_hundred
            && !(self.current % 100 >= 20 && self.current.is_multiple_of(10) && value < 10)
        {
            self.end(found);
        }
        self.only_one = self.words == 0 && word == "one";
        self.words += 1;
        self.after_hundred = value >= 100;
        match value {
            100 => self.current = self.current.max(1).saturating_mul(100),
            1_000.. => {
                self.total = self
                    .total
                    .saturating_add(self.current.max(1).saturating_mul(value));
                self.current = 0;
            }
            _ => self.current = self.current.saturating_add(value),
        }
    }

    /// A bare "one" is mostly no number ("which one", "one of"); against any other number its
    /// absence tells it apart as well.
    pub(super) fn end(&mut self, found: &mut dyn FnMut(&str)) {
        if self.words > 0 && !self.only_one {
            found(&self.total.saturating_add(self.current).to_string());
        }
        *self = Self::default();
    }
}

fn value(word: &str) -> Option<u64> {
    Some(match word {
        "zero" => 0,
        "one" | "first" => 1,
        "two" | "second" | "twice" => 2,
        "three" | "third" | "thrice" => 3,
        "four" | "fourth" => 4,
        "five" | "fifth" => 5,
        "six" | "sixth" => 6,
        "seven" | "seventh" => 7,
        "eight" | "eighth" => 8,
        "nine" | "ninth" => 9,
        "ten" | "tenth" => 10,
        "eleven" | "eleventh" => 11,
        "twelve" | "twelfth" | "dozen" => 12,
        "thirteen" => 13,
        "fourteen" => 14,
        "fifteen" => 15,
        "sixteen" => 16,
        "seventeen" => 17,
        "eighteen" => 18,
        "nineteen" => 19,
        "twenty" => 20,
        "thirty" => 30,
        "forty" => 40,
        "fifty" => 50,
        "sixty" => 60,
        "seventy" => 70,
        "eighty" => 80,
        "ninety" => 90,
        "hundred" => 100,
        "thousand" => 1_000,
        "million" => 1_000_000,
        "billion" => 1_000_000_000,
        "trillion" => 1_000_000_000_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut out = Vec::new();
        let mut run = NumberWords::default();
        for word in text.split(' ') {
            run.see(word, &mut |n| out.push(n.to_owned()));
        }
        run.end(&mut |n| out.push(n.to_owned()));
        out
    }

    #[test]
    fn numbers_in_words_and_digits_meet() {
        assert_eq!(
            words("two hundred and fifty thousand and three"),
            ["250003"]
        );
        assert_eq!(words("twenty five or two and three"), ["25", "2", "3"]);
        assert_eq!(words("which one is the first"), ["1"]);
        assert!(words("one of them").is_empty());
        assert_eq!(canonical_number("1,000.50"), "1000.5");
        assert_eq!(canonical_number("007"), "7");
        assert_eq!(canonical_number("2nd"), "2");
        assert_eq!(canonical_number("30k"), "30000");
        assert_eq!(canonical_number("b2b"), "b2b");
        assert_eq!(canonical_number("0.50"), "0.5");
        assert_eq!(number_and_unit("5kg"), Some(("5", "kg")));
        assert_eq!(number_and_unit("b2b"), None);
    }
}
