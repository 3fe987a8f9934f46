// Completions, functions and thinking with both SDKs for JavaScript, on the scripted engine, which says what it was asked.
import assert from "node:assert/strict";
import { test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const { BASE_URL, API_KEY } = process.env;
const openai = new OpenAI({ apiKey: API_KEY, baseURL: `${BASE_URL}/v1`, maxRetries: 0 });
const anthropic = new Anthropic({ apiKey: API_KEY, baseURL: BASE_URL, maxRetries: 0 });
const messages = [{ role: "user", content: "what is the answer" }];
const functions = ["weather", "clock"].map((name) => ({ name, parameters: { type: "object" } }));

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

test("prompts are continued, choices numbered prompt by prompt", async () => {
  const ask = { model: "echo", prompt: ["one", "two words"], n: 2, logprobs: 1 };
  const whole = await openai.completions.create(ask);
  assert.equal(whole.object, "text_completion");
  assert.deepEqual(whole.choices.map(({ text }) => text), ["one", "one", "two words", "two words"]);
  assert.deepEqual(whole.choices[3].logprobs.text_offset, [0, 3]);
  assert.deepEqual([whole.usage.prompt_tokens, whole.usage.completion_tokens], [3, 6]);
  const chunks = await collect(await openai.completions.create({ ...ask, stream: true }));
  const said = ["", "", "", ""];
  for (const { index, text } of chunks.flatMap(({ choices }) => choices)) said[index] += text;
  assert.deepEqual(said, whole.choices.map(({ text }) => text));
  assert.deepEqual(chunks.at(-1).usage, whole.usage);
});

test("token ids are a prompt, and a text can be echoed", async () => {
  const tokens = await openai.completions.create({ model: "echo", prompt: [5, 7] });
  assert.equal(tokens.choices[0].text, "t5 t7");
  const echoed = await openai.completions.create({ model: "echo", prompt: "one ", echo: true });
  assert.equal(echoed.choices[0].text, "one one");
});

test("a refused field is named", async () => {
  await assert.rejects(openai.completions.create({ model: "echo", prompt: "hi", suffix: "x" }), { param: "suffix" });
});

test("a function is called in the words before tools", async () => {
  const ask = { model: "weather", messages, functions };
  const { choices } = await openai.chat.completions.create(ask);
  assert.equal(choices[0].finish_reason, "function_call");
  assert.deepEqual(choices[0].message.function_call, { name: "weather", arguments: '{"city":"Paris"}' });
  const final = await openai.chat.completions.stream(ask).finalChatCompletion();
  assert.deepEqual(final.choices[0].message.function_call, choices[0].message.function_call);
});

test("an effort comes back in a response", async () => {
  const response = await openai.responses.create({ model: "echo", input: "hi", reasoning: { effort: "high" } });
  assert.equal(response.reasoning.effort, "high");
});

for (const [thinking, kinds] of [
  [undefined, ["text", "tool_use", "tool_use"]],
  [{ type: "enabled", budget_tokens: 1024 }, ["thinking", "text", "tool_use", "tool_use"]],
  [{ type: "adaptive" }, ["thinking", "text", "tool_use", "tool_use"]],
]) {
  test(`thinking is shown as asked: ${thinking?.type}`, async () => {
    const tools = functions.map(({ name, parameters }) => ({ name, input_schema: parameters }));
    const ask = { model: "weather", max_tokens: 2048, messages, tools, ...(thinking && { thinking }) };
    const whole = await anthropic.messages.create(ask);
    assert.deepEqual(whole.content.map(({ type }) => type), kinds);
    const streamed = await anthropic.messages.stream(ask).finalMessage();
    assert.deepEqual(streamed.content, whole.content);
  });
}

test("models come in pages", async () => {
  const all = await collect(anthropic.models.list());
  const paged = await collect(anthropic.models.list({ limit: 2 }));
  assert.ok(all.length > 2);
  assert.deepEqual(paged.map(({ id }) => id), all.map(({ id }) => id));
});
