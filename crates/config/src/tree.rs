//! The file as a tree of nodes that remember their line and the text of their scalars.
//!
//! Built from parser events and not through serde: a price must keep its digits, every error its line,
//! and all errors must be told at once, where a deserialiser stops at the first.

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

/// Bounds against files that would blow up when read: anchors multiply, nesting recurses.
const NODES_MAX: usize = 100_000;
const DEPTH_MAX: usize = 64;

/// A value and where it stands.
#[derive(Debug)]
pub(crate) struct Node {
    /// From 1.
    pub line: usize,
    pub value: Value,
    /// A scalar without quotes, or with a tag that says so: what looks like a number or a truth value is one.
    pub bare: bool,
    /// Nodes below and including this one, aliases counted in full.
    size: usize,
    /// Levels below and including this one.
    depth: usize,
}

#[derive(Debug)]
pub(crate) enum Value {
    /// `null`, `~` or nothing.
    Null,
    Scalar(String),
    List(Vec<Rc<Node>>),
    Map(Vec<Entry>),
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub key: String,
    pub line: usize,
    pub value: Rc<Node>,
}

/// What is wrong with the text as YAML.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub line: usize,
    pub message: String,
    /// Key path within the document where one is known.
    pub path: String,
}

/// An open list or mapping.
enum Open {
    List {
        line: usize,
        anchor: usize,
        items: Vec<Rc<Node>>,
    },
    Map {
        line: usize,
        anchor: usize,
        entries: Vec<Entry>,
        key: Option<(String, usize)>,
    },
}

impl Node {
    pub fn map(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub fn list(&self) -> Option<&[Rc<Self>]> {
        match &self.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.map()?.iter().find(|entry| entry.key == key)
    }

    fn new(line: usize, value: Value) -> Self {
        let (size, depth) = match &value {
            Value::Null | Value::Scalar(_) => (0, 0),
            Value::List(items) => measure(items.iter()),
            Value::Map(entries) => measure(entries.iter().map(|entry| &entry.value)),
        };
        Self {
            line,
            value,
            bare: false,
            size: size.saturating_add(1),
            depth: depth + 1,
        }
    }
}

fn measure<'a>(children: impl Iterator<Item = &'a Rc<Node>>) -> (usize, usize) {
    children.fold((0, 0), |(size, depth), child| {
        (size.saturating_add(child.size), depth.max(child.depth))
    })
}

/// Reads the first document of `text`. An empty one is `Null`. Duplicate keys are collected in `faults`.
///
/// # Errors
/// The first thing that is not YAML, with its line.
pub(crate) fn read(text: &str, faults: &mut Vec<Fault>) -> Result<Rc<Node>, Fault> {
    let mut builder = Builder {
        open: Vec::new(),
        anchors: HashMap::new(),
        root: None,
        faults,
    };
    // A byte order mark is not part of the document.
    let mut parser = Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    let mut documents = 0;
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| {
            let line = error.marker().line();
            // A frequent cause: in `{a: ${B}}` the second brace opens a mapping.
            let bare = text
                .lines()
                .nth(line.saturating_sub(1))
                .is_some_and(|line| line.contains(" ${"));
            let hint = if bare {
                "; put quotes around \"${NAME}\""
            } else {
                ""
            };
            // Fixed texts of the parser, apart from one that quotes a single character.
            let message = format!("not valid YAML: {}{hint}", error.info());
            Fault {
                line,
                message,
                path: String::new(),
            }
        })?;
        let line = span.start.line().max(1);
        match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return Err(fault(
                        line,
                        "a second document begins here (`---`); the file must hold one",
                    ));
                }
            }
            Event::StreamEnd => break,
            event => builder.take(event, line)?,
        }
    }
    Ok(builder
        .root
        .unwrap_or_else(|| Rc::new(Node::new(1, Value::Null))))
}

fn fault(line: usize, message: &str) -> Fault {
    Fault {
        line,
        message: message.to_owned(),
        path: String::new(),
    }
}

/// The word of a tag of YAML's own. Others (`!vault`, `!env`) ask for something that is not done here: their value
/// would be taken for what it is not.
fn known_tag(tag: Option<&Tag>, line: usize) -> Result<Option<&str>, Fault> {
    let Some(tag) = tag else { return Ok(None) };
    let words = ["str", "int", "float", "bool", "null", "seq", "map", "merge"];
    if tag.is_yaml_core_schema() && words.contains(&tag.suffix.as_str()) {
        return Ok(Some(&tag.suffix));
    }
    Err(fault(
        line,
        "a tag that is not YAML's own (such as !!str); write the value itself, or os.environ/NAME",
    ))
}

struct Builder<'a> {
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    root: Option<Rc<Node>>,
    faults: &'a mut Vec<Fault>,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), Fault> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let bare = match known_tag(tag.as_deref(), line)? {
                    None => style == ScalarStyle::Plain,
                    Some(suffix) => suffix != "str",
                };
                let null = bare && matches!(text.as_ref(), "" | "~" | "null" | "Null" | "NULL");
                let value = if null {
                    Value::Null
                } else {
                    Value::Scalar(text.into_owned())
                };
                let in_key_place = matches!(self.open.last(), Some(Open::Map { key: None, .. }));
                if let (true, Value::Null) = (in_key_place, &value) {
                    return Err(fault(line, "an empty key"));
                }
                let node = Node {
                    bare,
                    ..Node::new(line, value)
                };
                self.place(Rc::new(node), anchor, line)
            }
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node = node.ok_or_else(|| fault(line, "an alias inside of its own anchor"))?;
                self.place(node, 0, line)
            }
            Event::SequenceStart(anchor, tag) => {
                known_tag(tag.as_deref(), line)?;
                self.deeper(line)?;
                self.open.push(Open::List {
                    line,
                    anchor,
                    items: Vec::new(),
                });
                Ok(())
            }
            Event::MappingStart(anchor, tag) => {
                known_tag(tag.as_deref(), line)?;
                self.deeper(line)?;
                self.open.push(Open::Map {
                    line,
                    anchor,
                    entries: Vec::new(),
                    key: None,
                });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(closed) = self.open.pop() else {
                    return Ok(());
                };
                let (line, anchor, value) = match closed {
                    Open::List {
                        line,
                        anchor,
                        items,
                    } => (line, anchor, Value::List(items)),
                    Open::Map {
                        line,
                        anchor,
                        entries,
                        ..
                    } => (line, anchor, Value::Map(entries)),
                };
                self.place(Rc::new(Node::new(line, value)), anchor, line)
            }
            _ => Ok(()),
        }
    }

    fn deeper(&self, line: usize) -> Result<(), Fault> {
        if self.open.len() >= DEPTH_MAX {
            Err(fault(line, "nested too deeply"))
        } else {
            Ok(())
        }
    }

    /// Puts a finished node where it belongs.
    fn place(&mut self, node: Rc<Node>, anchor: usize, line: usize) -> Result<(), Fault> {
        if node.size > NODES_MAX || node.depth > DEPTH_MAX {
            return Err(fault(
                line,
                "too large: more than 100000 values, or nested too deeply, with its anchors expanded",
            ));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        let here = self.path();
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, key, .. }) => match key.take() {
                None => match &node.value {
                    Value::Scalar(text) => *key = Some((text.clone(), line)),
                    _ => return Err(fault(line, "a key that is a list or a mapping")),
                },
                Some((name, key_line)) if name == "<<" => merge(entries, &node, key_line)?,
                Some((name, key_line)) => {
                    // A key merged in with `<<` gives way; it stands on an earlier, negative place.
                    if let Some(first) = entries.iter().find(|entry| entry.key == name) {
                        if first.line != 0 {
                            self.faults.push(Fault {
                                line: key_line,
                                message: format!("the key is already set on line {}", first.line),
                                path: join(&here, &name),
                            });
                        }
                        entries.retain(|entry| entry.key != name);
                    }
                    entries.push(Entry {
                        key: name,
                        line: key_line,
                        value: node,
                    });
                }
            },
        }
        Ok(())
    }

    /// Path of the innermost open collection.
    fn path(&self) -> String {
        self.open
            .iter()
            .enumerate()
            .fold(String::new(), |path, (at, open)| {
                let innermost = at + 1 == self.open.len();
                match open {
                    Open::List { items, .. } if !innermost => format!("{path}[{}]", items.len()),
                    Open::Map {
                        key: Some((key, _)),
                        ..
                    } if !innermost => join(&path, key),
                    _ => path,
                }
            })
    }
}

/// `<<: *anchor`: the anchor's entries, where the mapping has none of its own. They carry line 0
/// until [`Entry::line`] is asked for by a message, which then names the value's line.
fn merge(entries: &mut Vec<Entry>, node: &Node, line: usize) -> Result<(), Fault> {
    match &node.value {
        Value::Map(merged) => {
            for entry in merged {
                if !entries.iter().any(|own| own.key == entry.key) {
                    entries.push(Entry {
                        key: entry.key.clone(),
                        line: 0,
                        value: Rc::clone(&entry.value),
                    });
                }
            }
            Ok(())
        }
        Value::List(items) => items.iter().try_for_each(|item| merge(entries, item, line)),
        _ => Err(fault(line, "`<<` takes a mapping or a list of mappings")),
    }
}

/// The document with more items at the end of one of its lists. They stand on line 0.
pub(crate) fn with_items(root: Rc<Node>, key: &str, items: &[&serde_json::Value]) -> Rc<Node> {
    if items.is_empty() {
        return root;
    }
    let known = root.get(key).map(|entry| &entry.value.value);
    let (Value::Null | Value::Map(_), None | Some(Value::Null | Value::List(_))) =
        (&root.value, known)
    else {
        // Told by the check.
        return root;
    };
    let (mut entries, mut list, mut line) = (Vec::new(), Vec::new(), 0);
    for entry in root.map().unwrap_or_default() {
        if entry.key == key {
            line = entry.line;
            list = entry.value.list().unwrap_or_default().to_vec();
        } else {
            entries.push(Entry {
                key: entry.key.clone(),
                line: entry.line,
                value: entry.value.clone(),
            });
        }
    }
    list.extend(items.iter().map(|item| Rc::new(of_json(item))));
    entries.push(Entry {
        key: key.to_owned(),
        line,
        value: Rc::new(Node::new(line, Value::List(list))),
    });
    Rc::new(Node::new(root.line, Value::Map(entries)))
}

fn of_json(value: &serde_json::Value) -> Node {
    use serde_json::Value as Json;
    let value = match value {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Scalar(flag.to_string()),
        // As it was written: a price keeps its digits.
        Json::Number(number) => Value::Scalar(number.to_string()),
        Json::String(text) => Value::Scalar(text.clone()),
        Json::Array(items) => {
            Value::List(items.iter().map(|item| Rc::new(of_json(item))).collect())
        }
        Json::Object(fields) => Value::Map(
            fields
                .iter()
                .map(|(key, value)| Entry {
                    key: key.clone(),
                    line: 0,
                    value: Rc::new(of_json(value)),
                })
                .collect(),
        ),
    };
    Node::new(0, value)
}

/// `a` and `b` as one path.
pub(crate) fn join(path: &str, key: &str) -> String {
    // A key with unusual characters is quoted so that the path stays readable.
    let plain = key
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_-*/".contains(&b));
    let key = match key {
        // A provider key that slipped into the place of a name.
        secret if secret.starts_with("sk-") => "\"sk-…\"".to_owned(),
        key if plain => key.to_owned(),
        key => format!("{key:?}"),
    };
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}
