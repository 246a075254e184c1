//! The members of a request that a deployment has rules for: defaults, what it cannot take, what is left out.
//! Looked at only where the deployment or the request has such rules; all others go out as they came.

mod path;

use std::borrow::Cow;
use std::ops::Range;

use config::ModelEntry;
use config::providers::{self, Quirk};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::Error;
use crate::edit::Edits;
use crate::endpoint::Endpoint;
use crate::models::Served;
use crate::request::ModelRequest;

/// What a deployment does to requests, made ready.
#[derive(Debug)]
pub struct Rules {
    defaults: Vec<(String, String)>,
    extra_body: Vec<(String, String)>,
    max_tokens: Option<u64>,
    output_ceiling: Option<u64>,
    lacks: Vec<config::Lack>,
    drop: bool,
    also_drop: Vec<String>,
    /// From the name that requests may have to the one that the provider takes.
    rename: Option<(&'static str, &'static str)>,
    pub takes_stream_options: bool,
    /// What defaults and `extra_body` put into a request at most.
    pub added_bytes: u64,
}

impl Rules {
    /// None where all requests go out as they came.
    pub fn of(entry: &ModelEntry, upstream_model: &str) -> Option<Box<Self>> {
        let params = &entry.params;
        let has = |quirk| {
            entry.shape.quirks.contains(&quirk)
                || providers::find(&entry.provider).is_some_and(|provider| provider.has(quirk))
        };
        let lacks = entry.lacking(upstream_model);
        // OpenAI's models that reason refuse the older name, which is a note in the table of what they lack.
        let reasons = matches!(&*entry.provider, "openai" | "azure")
            && lacks
                .iter()
                .any(|lack| lack.param == "temperature" && !lack.provider_says);
        let rules = Self {
            defaults: params.defaults.clone(),
            extra_body: params.extra_body.clone(),
            max_tokens: params.max_tokens.map(u64::from),
            output_ceiling: params.output_ceiling.map(u64::from),
            drop: params.drop,
            also_drop: params.also_drop.clone(),
            rename: if has(Quirk::MaxTokensOnly) {
                Some(("max_completion_tokens", "max_tokens"))
            } else {
                reasons.then_some(("max_tokens", "max_completion_tokens"))
            },
            takes_stream_options: !has(Quirk::NoStreamOptions),
            lacks,
            added_bytes: params
                .defaults
                .iter()
                .chain(&params.extra_body)
                .map(|(name, value)| (name.len() + value.len()) as u64)
                .sum(),
        };
        let idle = rules.defaults.is_empty()
            && rules.extra_body.is_empty()
            && rules.max_tokens.is_none()
            && rules.output_ceiling.is_none()
            && rules.lacks.is_empty()
            && rules.also_drop.is_empty()
            && rules.rename.is_none()
            && rules.takes_stream_options;
        (!idle).then(|| Box::new(rules))
    }

    /// The bound that a request without one of its own is sent with.
    pub fn max_tokens(&self, request: &ModelRequest) -> Option<u64> {
        self.max_tokens.filter(|_| request.output_cap.is_none())
    }

    /// Whether a request has to be looked at for what the deployment cannot take.
    fn looks_for_lacks(&self, request: &ModelRequest) -> bool {
        let drops = self.drops(request);
        matches!(request.endpoint, Endpoint::Chat | Endpoint::Completions)
            && self.lacks.iter().any(|lack| drops || !lack.provider_says)
    }

    fn drops(&self, request: &ModelRequest) -> bool {
        let own = request.rules.as_ref().and_then(|own| own.drop);
        own.unwrap_or(self.drop)
    }
}

/// Refuses what the deployment cannot take and may not leave out.
///
/// # Errors
/// 400 with the parameter's name.
pub fn check(request: &ModelRequest, served: &Served) -> Result<(), Error> {
    refuse_contents(request, served)?;
    let Some(rules) = served.params.as_deref() else {
        return Ok(());
    };
    if request.form.is_some() || !rules.looks_for_lacks(request) || rules.drops(request) {
        return Ok(());
    }
    let members = Members::of(&request.body);
    let lacking: Vec<&str> = lacking(rules, request, &members)
        .filter(|(_, member)| !is_neutral(&member.name, member.text(&request.body)))
        .filter(|(lack, _)| !lack.provider_says)
        .map(|(_, member)| &*member.name)
        .collect();
    let Some(first) = lacking.first() else {
        return Ok(());
    };
    Err(Error::bad_request(
        format!(
            "{} does not support parameters: {lacking:?}, for model={}. To leave them out, set drop_params: true in \
             litellm_settings or in the deployment's litellm_params, or send \"drop_params\": true; to send them all \
             the same, name them in allowed_openai_params",
            served.deployment.provider, served.upstream_model,
        ),
        *first,
    ))
}

/// What stands in the messages cannot be left out.
fn refuse_contents(request: &ModelRequest, served: &Served) -> Result<(), Error> {
    let lacks = &served.deployment.entry.hints.lacks;
    if lacks.is_empty() {
        return Ok(());
    }
    let without = |capability: &str| {
        lacks
            .iter()
            .any(|word| word.replace('-', "_").eq_ignore_ascii_case(capability))
    };
    let audio = || memchr::memmem::find(&request.body, b"\"input_audio\"").is_some();
    let what = if request.attachments.images > 0 && without("vision") {
        "images"
    } else if without("audio_input") && audio() {
        "audio"
    } else if request.attachments.files > 0 && without("pdf_input") {
        "files"
    } else {
        return Ok(());
    };
    Err(Error::bad_request(
        format!(
            "{} does not support {what} in messages, for model={}",
            served.deployment.provider, served.upstream_model
        ),
        "messages",
    ))
}

/// Edits a body by the rules of the deployment and of the request itself.
pub fn edit(edits: &mut Edits, request: &ModelRequest, served: &Served) {
    if request.form.is_some() {
        return;
    }
    let rules = served.params.as_deref();
    let own = request.rules.as_deref();
    let members = Members::of(&request.body);
    let body = &request.body;
    let mut gone: Vec<&str> = Vec::new();
    if let Some(rules) = rules {
        let drops = rules.drops(request);
        for (_, member) in lacking(rules, request, &members) {
            let neutral = is_neutral(&member.name, member.text(body));
            if drops || neutral {
                gone.push(&member.name);
            }
        }
        if !rules.takes_stream_options {
            gone.push("stream_options");
        }
    }
    let also = rules.map_or(&[][..], |rules| &rules.also_drop);
    let also = also
        .iter()
        .chain(own.into_iter().flat_map(|own| &own.also_drop));
    let mut inside: Vec<&str> = Vec::new();
    for path in also {
        if path.contains(['.', '[']) {
            inside.push(path);
        } else if !KEPT.contains(&path.as_str()) {
            gone.push(path);
        }
    }
    let extra = rules.map_or(&[][..], |rules| &rules.extra_body);
    for member in &members.0 {
        if gone.contains(&&*member.name) {
            edits.remove_member(body, member.value.clone());
            continue;
        }
        if let Some((_, value)) = extra.iter().find(|(name, _)| *name == member.name) {
            edits.replace(member.value.clone(), value.clone());
            continue;
        }
        if let Some(changed) = path::without(&inside, &member.name, member.text(body)) {
            edits.replace(member.value.clone(), changed);
            continue;
        }
        if let Some(rules) = rules {
            bound(edits, rules, request, &members, member);
        }
    }
    let Some(rules) = rules else { return };
    for (name, value) in extra {
        if !members.has(name) {
            edits.insert(request.first_member, format!("{}:{value},", quoted(name)));
        }
    }
    for (name, value) in &rules.defaults {
        let wanted = goes_to(name, request.endpoint) && !gone.contains(&&**name);
        if wanted && !members.says(name, body) && !extra.iter().any(|(own, _)| own == name) {
            // A `null` says nothing.
            match members.0.iter().find(|member| *member.name == **name) {
                Some(null) => edits.replace(null.value.clone(), value.clone()),
                None => edits.insert(request.first_member, format!("{}:{value},", quoted(name))),
            }
        }
    }
}

/// Members that a request is nothing without, and what its hold counts on.
const KEPT: &[&str] = &[
    "model",
    "messages",
    "input",
    "prompt",
    "stream",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
];

/// The bound of the output: under the name that the provider takes, and no more than it makes.
fn bound(
    edits: &mut Edits,
    rules: &Rules,
    request: &ModelRequest,
    members: &Members<'_>,
    member: &Member<'_>,
) {
    let caps = request.endpoint.caps();
    if !caps.contains(&&*member.name) {
        return;
    }
    let body = &request.body;
    let asked: Option<u64> = member.text(body).parse().ok();
    if let (Some(asked), Some(ceiling)) = (asked, rules.output_ceiling)
        && asked > ceiling
    {
        edits.replace(member.value.clone(), ceiling.to_string());
    }
    if let (Some(_), Some((from, to))) = (asked, rules.rename)
        && *member.name == *from
        && caps.contains(&to)
        && !members.has(to)
    {
        edits.rename_member(body, member.value.clone(), to);
    }
}

/// The members of a request that the deployment cannot take.
fn lacking<'a, 'm>(
    rules: &'a Rules,
    request: &'a ModelRequest,
    members: &'a Members<'m>,
) -> impl Iterator<Item = (&'a config::Lack, &'a Member<'m>)> {
    let looks = rules.looks_for_lacks(request);
    let allowed = |name: &str| {
        let own = request.rules.as_ref();
        own.is_some_and(|own| own.allow.iter().any(|known| known == name))
    };
    members
        .0
        .iter()
        .filter(move |member| looks && !allowed(&member.name))
        .filter_map(|member| {
            let lack = rules.lacks.iter().find(|lack| *lack.param == *member.name);
            Some((lack?, member))
        })
}

/// Whether a value asks for nothing else than its absence does.
fn is_neutral(name: &str, text: &str) -> bool {
    let number = || text.parse::<f64>().ok();
    match name {
        _ if text == "null" => true,
        "n" | "temperature" | "top_p" => number() == Some(1.0),
        "presence_penalty" | "frequency_penalty" | "top_logprobs" => number() == Some(0.0),
        "logprobs" | "store" => text == "false",
        "parallel_tool_calls" => text == "true",
        "logit_bias" => is_empty(text, b'{'),
        "tools" | "functions" | "stop" => is_empty(text, b'[') || text == "\"\"",
        "tool_choice" | "function_call" => text == "\"none\"",
        "service_tier" => text == "\"auto\"",
        "response_format" => text.len() < 40 && text.contains("\"text\"") && !text.contains("json"),
        "modalities" => text.len() < 20 && text.contains("\"text\"") && !text.contains(','),
        _ => false,
    }
}

fn is_empty(text: &str, opens: u8) -> bool {
    let inside = text.len().checked_sub(1).and_then(|end| text.get(1..end));
    text.as_bytes().first() == Some(&opens) && inside.is_some_and(|text| text.trim().is_empty())
}

/// Whether an endpoint's requests have a member of this name.
fn goes_to(name: &str, endpoint: Endpoint) -> bool {
    match endpoint {
        Endpoint::Chat => !matches!(
            name,
            "dimensions" | "encoding_format" | "input_type" | "reasoning"
        ),
        Endpoint::Completions => matches!(
            name,
            "temperature"
                | "top_p"
                | "top_k"
                | "min_p"
                | "seed"
                | "stop"
                | "presence_penalty"
                | "frequency_penalty"
                | "logit_bias"
                | "user"
        ),
        Endpoint::Responses => matches!(
            name,
            "temperature"
                | "top_p"
                | "reasoning"
                | "service_tier"
                | "tools"
                | "tool_choice"
                | "parallel_tool_calls"
                | "prompt_cache_key"
                | "user"
                | "top_logprobs"
        ),
        Endpoint::Embeddings => matches!(
            name,
            "dimensions" | "encoding_format" | "input_type" | "user"
        ),
        Endpoint::Images => name == "user",
        _ => false,
    }
}

fn quoted(name: &str) -> String {
    // A string always serialises.
    serde_json::to_string(name).unwrap_or_default()
}

/// One member of the request's object.
struct Member<'a> {
    name: Cow<'a, str>,
    value: Range<usize>,
}

impl Member<'_> {
    fn text<'b>(&self, body: &'b [u8]) -> &'b str {
        let raw = body.get(self.value.clone()).unwrap_or_default();
        std::str::from_utf8(raw).unwrap_or_default()
    }
}

/// All of them, in their order.
struct Members<'a>(Vec<Member<'a>>);

impl<'a> Members<'a> {
    /// Of a body that has been read as a request: nothing can be wrong with it here.
    fn of(body: &'a [u8]) -> Self {
        let found: Found<'a> = serde_json::from_slice(body).unwrap_or_default();
        let members = found.0.into_iter().map(|(name, raw)| {
            let start = raw.get().as_ptr() as usize - body.as_ptr() as usize;
            Member {
                name,
                value: start..start + raw.get().len(),
            }
        });
        Self(members.collect())
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|member| *member.name == *name)
    }

    /// Whether a member is there and not `null`.
    fn says(&self, name: &str, body: &[u8]) -> bool {
        let mut of_name = self.0.iter().filter(|member| *member.name == *name);
        of_name.any(|member| member.text(body) != "null")
    }
}

#[derive(Default)]
struct Found<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Found<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Of;
        impl<'de> Visitor<'de> for Of {
            type Value = Found<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found<'de>, A::Error> {
                let mut found = Vec::with_capacity(8);
                while let Some(Name(name)) = map.next_key()? {
                    found.push((name, map.next_value()?));
                }
                Ok(Found(found))
            }
        }
        deserializer.deserialize_map(Of)
    }
}

/// A name as it stands in the body, where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
