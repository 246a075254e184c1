"""Calls the gateway with the official OpenAI SDK for Python, unmodified, and prints what came back.

usage: chat.py BASE_URL KEY MODEL [CASE …]      (BASE_URL ends in /v1; no CASE: all of them)

One JSON document a line, one line a case, with the same fields and the same values as ../node/chat.mjs
prints, so that a test can compare the two, and plain with streamed:

    case              its name
    text              what each choice said, by index
    tool_calls        [{choice, name, arguments, has_id}]
    finish_reasons    of each choice, by index
    usage             {prompt_tokens, completion_tokens, total_tokens}, or null
    cost              the x-litellm-response-cost header as it came, or null
    call_id           the x-litellm-call-id header, or null; the one field that differs from run to run
    chunks            events of the stream, null if plain
    usage_chunk_seen  whether an event without choices carried usage, null if plain
    models            ids, sorted; null unless the case lists models
    error             {class, status, type, code}, or null
"""

import json
import sys

import openai

QUESTION = [{"role": "user", "content": "What is the weather in Paris today?"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city today.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]
CASES = {
    "plain": {},
    "stream": {"stream": True},
    "stream_usage": {"stream": True, "stream_options": {"include_usage": True}},
    "tools": {"tools": TOOLS, "tool_choice": "required"},
    "tools_stream": {"tools": TOOLS, "tool_choice": "required", "stream": True},
    "n": {"n": 2},
    "n_stream": {"n": 2, "stream": True},
    "models": None,
    "wrong_key": {},
    "unknown_model": {},
}


def main(base_url, key, model, *names):
    # No retries: a case is one call, so that bills can be counted.
    client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=60)
    for name in names or CASES:
        print(json.dumps(run(client, name, model)), flush=True)


def run(client, name, model):
    seen = dict.fromkeys(
        ("case", "text", "tool_calls", "finish_reasons", "usage", "cost", "call_id", "chunks", "usage_chunk_seen", "models", "error")
    )
    seen["case"] = name
    try:
        if name == "models":
            seen["models"] = sorted(listed.id for listed in client.models.list())
        elif name == "wrong_key":
            chat(client.with_options(api_key="sk-no-such-key"), model, CASES[name], seen)
        elif name == "unknown_model":
            chat(client, "no-such-model", CASES[name], seen)
        else:
            chat(client, model, CASES[name], seen)
    except openai.APIError as error:
        seen["error"] = {
            "class": type(error).__name__,
            "status": getattr(error, "status_code", None),
            "type": error.type,
            "code": error.code,
        }
    return seen


def chat(client, model, options, seen):
    raw = client.chat.completions.with_raw_response.create(model=model, messages=QUESTION, **options)
    seen["cost"] = raw.headers.get("x-litellm-response-cost")
    seen["call_id"] = raw.headers.get("x-litellm-call-id")
    if options.get("stream"):
        read_stream(raw.parse(), seen)
    else:
        read_plain(raw.parse(), seen)


def read_plain(completion, seen):
    choices = sorted(completion.choices, key=lambda choice: choice.index)
    seen["text"] = [choice.message.content or "" for choice in choices]
    seen["finish_reasons"] = [choice.finish_reason for choice in choices]
    seen["tool_calls"] = [
        tool_call(choice.index, call.function.name, call.function.arguments, call.id)
        for choice in choices
        for call in choice.message.tool_calls or []
    ]
    seen["usage"] = counts(completion.usage)


def read_stream(stream, seen):
    texts, reasons, calls = {}, {}, {}
    seen["chunks"], seen["usage_chunk_seen"] = 0, False
    for chunk in stream:
        seen["chunks"] += 1
        if chunk.usage:
            seen["usage"] = counts(chunk.usage)
            seen["usage_chunk_seen"] = seen["usage_chunk_seen"] or not chunk.choices
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
            reasons[choice.index] = choice.finish_reason or reasons.get(choice.index)
            for part in choice.delta.tool_calls or []:
                call = calls.setdefault((choice.index, part.index), tool_call(choice.index, "", "", None))
                call["has_id"] = call["has_id"] or bool(part.id)
                call["name"] += part.function.name or ""
                call["arguments"] += part.function.arguments or ""
    seen["text"] = [texts[index] for index in sorted(texts)]
    seen["finish_reasons"] = [reasons[index] for index in sorted(reasons)]
    seen["tool_calls"] = [calls[place] for place in sorted(calls)]


def tool_call(choice, name, arguments, id):
    return {"choice": choice, "name": name, "arguments": arguments, "has_id": bool(id)}


def counts(usage):
    return usage and {name: getattr(usage, name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
