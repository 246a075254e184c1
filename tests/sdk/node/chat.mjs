// Calls the gateway with the official OpenAI SDK for Node, unmodified, and prints what came back.
//
// usage: node chat.mjs BASE_URL KEY MODEL [CASE …]      (BASE_URL ends in /v1; no CASE: all of them)
//
// The cases and the fields of the output are those of ../python/chat.py, which explains them.

import OpenAI, { APIError } from "openai";

const QUESTION = [{ role: "user", content: "What is the weather in Paris today?" }];
const TOOLS = [
  {
    type: "function",
    function: {
      name: "get_weather",
      description: "The weather in a city today.",
      parameters: {
        type: "object",
        properties: { city: { type: "string" } },
        required: ["city"],
      },
    },
  },
];
const CASES = {
  plain: {},
  stream: { stream: true },
  stream_usage: { stream: true, stream_options: { include_usage: true } },
  tools: { tools: TOOLS, tool_choice: "required" },
  tools_stream: { tools: TOOLS, tool_choice: "required", stream: true },
  n: { n: 2 },
  n_stream: { n: 2, stream: true },
  models: null,
  wrong_key: {},
  unknown_model: {},
};

async function main(baseURL, apiKey, model, ...names) {
  // No retries: a case is one call, so that bills can be counted.
  const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 60_000 });
  for (const name of names.length > 0 ? names : Object.keys(CASES)) {
    console.log(JSON.stringify(await run(client, name, model)));
  }
}

async function run(client, name, model) {
  const seen = {
    case: name,
    text: null,
    tool_calls: null,
    finish_reasons: null,
    usage: null,
    cost: null,
    call_id: null,
    chunks: null,
    usage_chunk_seen: null,
    models: null,
    error: null,
  };
  try {
    if (name === "models") {
      seen.models = [];
      for await (const listed of client.models.list()) seen.models.push(listed.id);
      seen.models.sort();
    } else if (name === "wrong_key") {
      await chat(client.withOptions({ apiKey: "sk-no-such-key" }), model, CASES[name], seen);
    } else if (name === "unknown_model") {
      await chat(client, "no-such-model", CASES[name], seen);
    } else {
      await chat(client, model, CASES[name], seen);
    }
  } catch (error) {
    if (!(error instanceof APIError)) throw error;
    seen.error = {
      class: error.constructor.name,
      status: error.status ?? null,
      type: error.type ?? null,
      code: error.code ?? null,
    };
  }
  return seen;
}

async function chat(client, model, options, seen) {
  const { data, response } = await client.chat.completions
    .create({ model, messages: QUESTION, ...options })
    .withResponse();
  seen.cost = response.headers.get("x-litellm-response-cost");
  seen.call_id = response.headers.get("x-litellm-call-id");
  if (options.stream) await readStream(data, seen);
  else readPlain(data, seen);
}

function readPlain(completion, seen) {
  const choices = completion.choices.toSorted((a, b) => a.index - b.index);
  seen.text = choices.map((choice) => choice.message.content ?? "");
  seen.finish_reasons = choices.map((choice) => choice.finish_reason);
  seen.tool_calls = choices.flatMap((choice) =>
    (choice.message.tool_calls ?? []).map((call) =>
      toolCall(choice.index, call.function.name, call.function.arguments, call.id),
    ),
  );
  seen.usage = counts(completion.usage);
}

async function readStream(stream, seen) {
  const texts = [];
  const reasons = [];
  const calls = []; // by choice, then by the call's index in it
  seen.chunks = 0;
  seen.usage_chunk_seen = false;
  for await (const chunk of stream) {
    seen.chunks += 1;
    if (chunk.usage) {
      seen.usage = counts(chunk.usage);
      seen.usage_chunk_seen ||= chunk.choices.length === 0;
    }
    for (const { index, delta, finish_reason } of chunk.choices) {
      texts[index] = (texts[index] ?? "") + (delta.content ?? "");
      reasons[index] = finish_reason ?? reasons[index] ?? null;
      calls[index] ??= [];
      for (const part of delta.tool_calls ?? []) {
        const call = (calls[index][part.index] ??= toolCall(index, "", "", null));
        call.has_id ||= Boolean(part.id);
        call.name += part.function?.name ?? "";
        call.arguments += part.function?.arguments ?? "";
      }
    }
  }
  seen.text = texts;
  seen.finish_reasons = reasons;
  seen.tool_calls = calls.flat();
}

function toolCall(choice, name, args, id) {
  return { choice, name, arguments: args, has_id: Boolean(id) };
}

function counts(usage) {
  if (!usage) return null;
  const { prompt_tokens, completion_tokens, total_tokens } = usage;
  return { prompt_tokens, completion_tokens, total_tokens };
}

if (process.argv.length < 5) {
  console.error("usage: node chat.mjs BASE_URL KEY MODEL [CASE …]");
  process.exit(2);
}
await main(...process.argv.slice(2));
