// Calls the gateway with the Vercel AI SDK, unmodified, and prints what came back, as ../python/callers.py.
//
// usage: node callers.mjs BASE_URL KEY MODEL      (BASE_URL ends in /v1)

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText, tool } from "ai";
import { z } from "zod";

const [baseURL, apiKey, name] = process.argv.slice(2);
const provider = createOpenAICompatible({ name: "tollgate", baseURL, apiKey, includeUsage: true });
const call = { model: provider(name), prompt: "How is the weather in Paris?", maxRetries: 0 };
const counts = (usage) => [usage.inputTokens, usage.outputTokens];
const show = (line) => console.log(JSON.stringify({ tool_calls: [], ...line }));

const plain = await generateText(call);
show({ case: "vercel_plain", text: plain.text, usage: counts(plain.usage) });

const stream = streamText(call);
let text = "";
for await (const part of stream.textStream) text += part;
show({ case: "vercel_stream", text, usage: counts(await stream.usage) });

const weather = tool({ description: "The weather of a city", inputSchema: z.object({ city: z.string() }) });
const asked = await generateText({ ...call, tools: { weather } });
show({
  case: "vercel_tools",
  text: asked.text,
  tool_calls: asked.toolCalls.map((made) => ({ name: made.toolName, arguments: made.input })),
  usage: counts(asked.usage),
});
