//! Paths of `additional_drop_params` that reach inside of a member: `response_format.json_schema.strict`,
//! `tools[*].function.strict`, `messages[0].name`.

use serde_json::Value;

/// The value of a member without what the paths name, or none where it stays as it is.
pub fn without(paths: &[&str], member: &str, text: &str) -> Option<String> {
    let mut rest = paths
        .iter()
        .filter_map(|path| path.strip_prefix(member))
        .filter(|rest| rest.starts_with(['.', '[']))
        .peekable();
    rest.peek()?;
    let mut value: Value = serde_json::from_str(text).ok()?;
    let mut changed = false;
    for path in rest {
        changed |= remove(&mut value, &steps(path));
    }
    changed.then(|| value.to_string())
}

#[derive(Debug, PartialEq, Eq)]
enum Step<'a> {
    Member(&'a str),
    Item(usize),
    Items,
}

fn steps(path: &str) -> Vec<Step<'_>> {
    path.split(['.', '['])
        .filter(|word| !word.is_empty())
        .map(|word| match word.strip_suffix(']') {
            Some("*") => Step::Items,
            Some(number) => number.parse().map_or(Step::Member(number), Step::Item),
            None => Step::Member(word),
        })
        .collect()
}

/// Whether something was removed.
fn remove(value: &mut Value, steps: &[Step<'_>]) -> bool {
    let Some((first, rest)) = steps.split_first() else {
        return false;
    };
    match (first, value) {
        (Step::Member(name), Value::Object(members)) if rest.is_empty() => {
            members.remove(*name).is_some()
        }
        (Step::Member(name), Value::Object(members)) => members
            .get_mut(*name)
            .is_some_and(|inner| remove(inner, rest)),
        (Step::Item(at), Value::Array(items)) if rest.is_empty() => {
            let there = *at < items.len();
            if there {
                items.remove(*at);
            }
            there
        }
        (Step::Item(at), Value::Array(items)) => {
            items.get_mut(*at).is_some_and(|inner| remove(inner, rest))
        }
        (Step::Items, Value::Array(items)) if rest.is_empty() => {
            let any = !items.is_empty();
            items.clear();
            any
        }
        (Step::Items, Value::Array(items)) => items
            .iter_mut()
            .fold(false, |any, inner| remove(inner, rest) | any),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_reach_inside() {
        let tools = r#"[{"f":{"strict":true,"n":1}},{"f":{"n":2}}]"#;
        assert_eq!(
            without(&["tools[*].f.strict"], "tools", tools).as_deref(),
            Some(r#"[{"f":{"n":1}},{"f":{"n":2}}]"#)
        );
        assert_eq!(
            without(&["a.b"], "a", r#"{"b":1,"c":2}"#).as_deref(),
            Some(r#"{"c":2}"#)
        );
        assert_eq!(without(&["a[0]"], "a", "[1,2]").as_deref(), Some("[2]"));
        assert_eq!(without(&["a.b"], "ab", r#"{"b":1}"#), None);
        assert_eq!(without(&["a.b"], "a", r#"{"c":1}"#), None);
    }
}
