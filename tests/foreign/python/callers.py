"""Calls the gateway with LiteLLM's client and with LangChain, unmodified, and prints what came back.

usage: callers.py BASE_URL KEY MODEL      (BASE_URL ends in /v1)

One JSON document a line: {"case", "text", "tool_calls": [{name, arguments}], "usage": [prompt, completion] or
null}. Streamed texts are put together.
"""

import json
import os
import sys

# Its price list is shipped with it; without this it asks the internet for a newer one.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

QUESTION = [{"role": "user", "content": "How is the weather in Paris?"}]


@tool
def weather(city: str) -> str:
    """The weather of a city"""
    return f"fine in {city}"


def show(case, text, tool_calls=(), usage=None):
    print(json.dumps({"case": case, "text": text, "tool_calls": list(tool_calls), "usage": usage}), flush=True)


def by_litellm(base_url, key, model):
    call = {"model": f"openai/{model}", "messages": QUESTION, "api_base": base_url, "api_key": key, "num_retries": 0}
    plain = litellm.completion(**call)
    show("litellm_plain", plain.choices[0].message.content,
         usage=[plain.usage.prompt_tokens, plain.usage.completion_tokens])
    parts, usage = [], None
    for chunk in litellm.completion(**call, stream=True, stream_options={"include_usage": True}):
        if chunk.choices and chunk.choices[0].delta.content:
            parts.append(chunk.choices[0].delta.content)
        if getattr(chunk, "usage", None):
            usage = [chunk.usage.prompt_tokens, chunk.usage.completion_tokens]
    show("litellm_stream", "".join(parts), usage=usage)


def by_langchain(base_url, key, model):
    chat = ChatOpenAI(base_url=base_url, api_key=key, model=model, max_retries=0, stream_usage=True)
    counts = lambda told: told and [told["input_tokens"], told["output_tokens"]]
    plain = chat.invoke("How is the weather in Paris?")
    show("langchain_plain", plain.content, usage=counts(plain.usage_metadata))
    whole = None
    for chunk in chat.stream("How is the weather in Paris?"):
        whole = chunk if whole is None else whole + chunk
    show("langchain_stream", whole.content, usage=counts(whole.usage_metadata))
    asked = chat.bind_tools([weather]).invoke("How is the weather in Paris?")
    show("langchain_tools", asked.content, [{"name": c["name"], "arguments": c["args"]} for c in asked.tool_calls],
         counts(asked.usage_metadata))


if __name__ == "__main__":
    by_litellm(*sys.argv[1:])
    by_langchain(*sys.argv[1:])
