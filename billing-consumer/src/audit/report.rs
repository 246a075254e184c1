//! What an audit found, for a person and for a script.

use std::fmt;

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Ok,
    /// Everything that is wrong, in words.
    Failed(Vec<String>),
    /// Why it was not done.
    Skipped(String),
}

/// One check with its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub numbers: Vec<(&'static str, String)>,
    pub verdict: Verdict,
}

/// All checks, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub checks: Vec<Check>,
}

impl Check {
    /// Failed if there are problems.
    pub(crate) fn of(
        name: &'static str,
        numbers: Vec<(&'static str, String)>,
        problems: Vec<String>,
    ) -> Self {
        let verdict = if problems.is_empty() {
            Verdict::Ok
        } else {
            Verdict::Failed(problems)
        };
        Self {
            name,
            numbers,
            verdict,
        }
    }

    pub(crate) const fn is_fine(&self) -> bool {
        !matches!(self.verdict, Verdict::Failed(_))
    }

    pub(crate) fn skipped(name: &'static str, why: impl Into<String>) -> Self {
        Self {
            name,
            numbers: Vec::new(),
            verdict: Verdict::Skipped(why.into()),
        }
    }
}

impl Report {
    /// Nothing failed. What was skipped does not count.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.checks.iter().all(Check::is_fine)
    }
}

impl fmt::Display for Report {
    /// A table with a line for each check, and below it what is wrong.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.checks.iter().map(|check| check.name.len()).max();
        let width = width.unwrap_or(0);
        for check in &self.checks {
            let result = match check.verdict {
                Verdict::Ok => "OK",
                Verdict::Failed(_) => "FAIL",
                Verdict::Skipped(_) => "SKIP",
            };
            write!(f, "{:<width$}  {result:<4}", check.name)?;
            for (at, (name, number)) in check.numbers.iter().enumerate() {
                let between = if at == 0 { "  " } else { ", " };
                write!(f, "{between}{number} {name}")?;
            }
            if let Verdict::Skipped(why) = &check.verdict {
                write!(f, "  {why}")?;
            }
            writeln!(f)?;
        }
        for check in &self.checks {
            if let Verdict::Failed(problems) = &check.verdict {
                for problem in problems {
                    writeln!(f, "{}: {problem}", check.name)?;
                }
            }
        }
        Ok(())
    }
}
