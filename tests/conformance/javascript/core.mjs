// What every major of the JavaScript SDKs must find on the scripted engine. BASE_URL and API_KEY say where, OPENAI and
// ANTHROPIC which packages.
import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";

const { BASE_URL, API_KEY, OPENAI, ANTHROPIC } = process.env;
const { default: OpenAI } = await import(OPENAI);
const { zodResponseFormat, zodTextFormat } = await import(`${OPENAI}/helpers/zod`);
const { default: Anthropic } = await import(ANTHROPIC);
const { zodOutputFormat } = await import(`${ANTHROPIC}/helpers/zod`);
const { betaZodTool } = await import(`${ANTHROPIC}/helpers/beta/zod`);

const openai = new OpenAI({ apiKey: API_KEY, baseURL: `${BASE_URL}/v1`, maxRetries: 0 });
const anthropic = new Anthropic({ apiKey: API_KEY, baseURL: BASE_URL, maxRetries: 0 });
const SAID = "what is the answer";
const messages = [{ role: "user", content: SAID }];
const Capital = z.object({ capital: z.string() });
const chat = (model, more = {}) => ({ model, messages, ...more });
const message = (model, more = {}) => ({ model, messages, max_tokens: 2048, ...more });
const thinking = { type: "enabled", budget_tokens: 1024 };

async function collect(stream) {
  const all = [];
  for await (const one of stream) all.push(one);
  return all;
}

function calledTools(calls) {
  return calls.map(({ id, function: { name, arguments: given } }) => [id, name, given]);
}

const CALLS = [["call_a", "weather", '{"city":"Paris"}'], ["call_b", "clock", "{}"]];
const functions = ["weather", "clock"].map((name) => ({ type: "function", function: { name, parameters: {} } }));

test("chat: whole, in chunks, through the helper, raw", async () => {
  const whole = await openai.chat.completions.create(chat("echo"));
  assert.deepEqual([whole.choices[0].message.content, whole.choices[0].finish_reason], [SAID, "stop"]);
  const chunks = await collect(await openai.chat.completions.create(chat("echo", { stream: true })));
  assert.equal(chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join(""), SAID);
  const stream = openai.chat.completions.stream(chat("echo", { stream_options: { include_usage: true } }));
  const final = await stream.finalChatCompletion();
  assert.equal(final.choices[0].message.content, SAID);
  assert.deepEqual(final.usage, whole.usage);
  const two = await openai.chat.completions.create(chat("echo", { n: 2 }));
  assert.deepEqual(two.choices.map((choice) => choice.message.content), [SAID, SAID]);
  const response = await openai.chat.completions.create(chat("echo")).asResponse();
  assert.equal(response.headers.get("x-request-id"), (await response.json()).id);
});

test("chat: calls, whole and streamed; the runner calls the functions itself", async () => {
  const whole = await openai.chat.completions.create(chat("weather", { tools: functions }));
  const streamed = await openai.chat.completions.stream(chat("weather", { tools: functions })).finalChatCompletion();
  for (const { choices: [choice] } of [whole, streamed]) {
    assert.equal(choice.finish_reason, "tool_calls");
    assert.deepEqual(calledTools(choice.message.tool_calls), CALLS);
  }
  const described = { parse: JSON.parse, parameters: { type: "object", properties: {} } };
  const tools = [
    { type: "function", function: { ...described, name: "weather", function: ({ city }) => `sunny in ${city}` } },
    { type: "function", function: { ...described, name: "clock", function: () => "noon" } },
  ];
  for (const stream of [false, true]) {
    const runner = openai.chat.completions.runTools(chat("weather", { tools, stream }));
    assert.equal(await runner.finalContent(), "noon");
  }
});

test("chat: parse", async () => {
  const response_format = zodResponseFormat(Capital, "capital");
  const parsed = await openai.chat.completions.parse(chat("json", { response_format }));
  assert.deepEqual(parsed.choices[0].message.parsed, { capital: "Paris" });
  const streamed = await openai.chat.completions.stream(chat("json", { response_format })).finalChatCompletion();
  assert.deepEqual(streamed.choices[0].message.parsed, { capital: "Paris" });
});

test("responses: whole, streamed, parsed, gone on with", async () => {
  const whole = await openai.responses.create({ model: "weather", input: SAID });
  const streamed = await openai.responses.stream({ model: "weather", input: SAID }).finalResponse();
  for (const { output, output_text } of [whole, streamed]) {
    assert.deepEqual(output.map(({ type }) => type), ["reasoning", "message", "function_call", "function_call"]);
    assert.equal(output_text, "Let me look.");
  }
  const text = { format: zodTextFormat(Capital, "capital") };
  const parsed = await openai.responses.parse({ model: "json", input: SAID, text });
  assert.deepEqual(parsed.output_parsed, { capital: "Paris" });
  const second = await openai.responses.create({ model: "echo", input: "go on", previous_response_id: whole.id });
  assert.equal(second.output_text, "go on");
  assert.ok((await collect(openai.responses.inputItems.list(second.id, { limit: 1 }))).length > 2);
});

test("messages: whole, in events, through the helper, raw", async () => {
  const whole = await anthropic.messages.create(message("echo"));
  assert.deepEqual([whole.content[0].text, whole.stop_reason], [SAID, "end_turn"]);
  const events = await collect(await anthropic.messages.create(message("echo", { stream: true })));
  assert.deepEqual([events[0].type, events.at(-1).type], ["message_start", "message_stop"]);
  const final = await anthropic.messages.stream(message("echo")).finalMessage();
  assert.deepEqual(final.content.map(({ text }) => text), [SAID]);
  assert.equal(final.usage.output_tokens, whole.usage.output_tokens);
  const response = await anthropic.messages.create(message("echo")).asResponse();
  assert.equal(response.headers.get("request-id").replaceAll("-", ""), (await response.json()).id.slice(4));
  const beta = await anthropic.beta.messages.create(message("echo", { betas: ["context-1m-2025-08-07"] }));
  assert.equal(beta.content[0].text, SAID);
});

test("messages: thoughts and calls; the runner calls the functions itself", async () => {
  const tools = ["weather", "clock"].map((name) => ({ name, input_schema: { type: "object" } }));
  const ask = message("weather", { tools, thinking });
  for (const said of [await anthropic.messages.create(ask), await anthropic.messages.stream(ask).finalMessage()]) {
    assert.deepEqual(said.content.map(({ type }) => type), ["thinking", "text", "tool_use", "tool_use"]);
    assert.equal(said.content[0].thinking, "hm, two");
    assert.deepEqual(said.content.slice(2).map(({ id, name, input }) => [id, name, input]), [
      ["call_a", "weather", { city: "Paris" }],
      ["call_b", "clock", {}],
    ]);
    assert.equal(said.stop_reason, "tool_use");
  }
  const weather = { name: "weather", description: "The weather.", inputSchema: z.object({ city: z.string() }) };
  const clock = { name: "clock", description: "The time.", inputSchema: z.object({}) };
  const runnable = [
    betaZodTool({ ...weather, run: ({ city }) => `sunny in ${city}` }),
    betaZodTool({ ...clock, run: () => "noon" }),
  ];
  for (const stream of [false, true]) {
    const final = await anthropic.beta.messages.toolRunner(message("weather", { tools: runnable, stream })).runUntilDone();
    assert.equal(final.content[0].text, "noon");
  }
});

test("messages: parse, count and models", async () => {
  const output_config = { format: zodOutputFormat(Capital) };
  assert.deepEqual((await anthropic.messages.parse(message("json", { output_config }))).parsed_output, {
    capital: "Paris",
  });
  assert.equal((await anthropic.messages.countTokens({ model: "echo", messages })).input_tokens, 4);
  const models = await collect(anthropic.models.list({ limit: 2 }));
  assert.ok(models.every(({ created_at, display_name }) => created_at && display_name));
  assert.ok(models.some(({ id }) => id === "echo"));
  assert.ok((await collect(openai.models.list())).some(({ id }) => id === "echo"));
});

const refused = [
  ["an unknown model", "nothing", {}, "NotFoundError", 404, "not_found_error"],
  ["a busy engine", "busy", {}, "InternalServerError", 503, "overloaded_error"],
  ["a broken engine", "broken-before", {}, "InternalServerError", 502, "api_error"],
  ["a bad field", "echo", { temperature: 3 }, "BadRequestError", 400, "invalid_request_error"],
];
for (const [what, model, more, kind, status, type] of refused) {
  test(`${what} is a typed error in both, whole and streamed`, async () => {
    for (const stream of [false, true]) {
      await assert.rejects(openai.chat.completions.create(chat(model, { ...more, stream })), (error) => {
        assert.ok(error instanceof OpenAI[kind], String(error));
        assert.equal(error.status, status);
        assert.ok(error.requestID);
        return true;
      });
      await assert.rejects(anthropic.messages.create(message(model, { ...more, stream })), (error) => {
        assert.ok(error instanceof Anthropic.APIError, String(error));
        assert.equal(error.status, status === 503 ? 529 : status);
        assert.equal(error.error.error.type, type);
        return true;
      });
    }
  });
}

test("a wrong key is an AuthenticationError in both", async () => {
  await assert.rejects(openai.withOptions({ apiKey: "no" }).models.list(), OpenAI.AuthenticationError);
  await assert.rejects(anthropic.withOptions({ apiKey: "no" }).models.list(), Anthropic.AuthenticationError);
});

test("a stream that breaks is an error in both, and in the Responses' last event", async () => {
  await assert.rejects(openai.chat.completions.stream(chat("broken-after")).finalContent(), /The engine broke/);
  await assert.rejects(anthropic.messages.stream(message("broken-after")).finalText(), /The engine broke/);
  const events = await collect(openai.responses.stream({ model: "broken-after", input: SAID }));
  assert.equal(events.at(-1).type, "response.failed");
});
