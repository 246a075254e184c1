//! Which messages of a chat can go. Pure.

use std::ops::Range;

/// One message of a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it stands in the body.
    pub at: Range<usize>,
    pub role: Role,
    pub tokens: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `system` and `developer`: always stays.
    System,
    /// Begins a turn.
    User,
    /// All that belongs to a turn: answers, tool calls and their results.
    Other,
}

impl Role {
    #[must_use]
    pub fn of(word: &str) -> Self {
        match word {
            "system" | "developer" => Self::System,
            "user" => Self::User,
            _ => Self::Other,
        }
    }
}

/// The oldest turns, as many as have `excess` tokens together, but for the last `keep`; in their order. None
/// where nothing can go. Turns go whole, so a tool's result never stands without its call.
#[must_use]
pub fn middle(messages: &[Message], excess: u64, keep: usize) -> Option<Vec<usize>> {
    let begins: Vec<usize> = messages
        .iter()
        .enumerate()
        .filter(|(_, message)| message.role == Role::User)
        .map(|(at, _)| at)
        .collect();
    let kept_from = *begins.get(begins.len().checked_sub(keep.max(1))?)?;
    let mut dropped = Vec::new();
    let mut gone = 0;
    for (at, message) in messages.iter().enumerate().take(kept_from) {
        if message.role == Role::System {
            continue;
        }
        // Only between turns is there an end.
        if gone >= excess && message.role == Role::User {
            break;
        }
        gone += message.tokens;
        dropped.push(at);
    }
    (!dropped.is_empty()).then_some(dropped)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A letter a message: system, user, assistant (or tool); ten tokens each.
    fn cut(chat: &str, excess: u64, keep: usize) -> Option<String> {
        let messages: Vec<Message> = chat
            .chars()
            .map(|letter| Message {
                at: 0..0,
                role: match letter {
                    's' => Role::System,
                    'u' => Role::User,
                    _ => Role::Other,
                },
                tokens: 10,
            })
            .collect();
        let dropped = middle(&messages, excess, keep)?;
        let left = chat.char_indices().filter(|(at, _)| !dropped.contains(at));
        Some(left.map(|(_, letter)| letter).collect())
    }

    #[test]
    fn the_oldest_turns_go_whole() {
        let table = [
            // As little as is enough, in whole turns.
            ("suauau", 5, 1, Some("suau")),
            ("suauau", 20, 1, Some("suau")),
            ("suauau", 21, 1, Some("su")),
            // The last turn stays, with the calls and results in it.
            ("suauattta", 1_000, 1, Some("suattta")),
            ("suatttaua", 5, 1, Some("sua")),
            ("suauau", 1_000, 2, Some("suau")),
            // What stands before the first question goes first.
            ("saauau", 5, 1, Some("suau")),
            // A system prompt stays wherever it stands.
            ("susauau", 1_000, 1, Some("ssu")),
            // Nothing can go.
            ("su", 5, 1, None),
            ("s", 5, 1, None),
            ("uauau", 5, 9, None),
            ("", 5, 1, None),
        ];
        for (chat, excess, keep, left) in table {
            assert_eq!(
                cut(chat, excess, keep).as_deref(),
                left,
                "{chat} {excess} {keep}"
            );
        }
    }
}
