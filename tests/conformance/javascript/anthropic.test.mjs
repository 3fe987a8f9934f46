// The Anthropic SDK for JavaScript against the real model. BASE_URL and API_KEY say where.
import assert from "node:assert/strict";
import { test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";

const { BASE_URL, API_KEY } = process.env;
const MODEL = "smollm2-135m-instruct";
const client = new Anthropic({ apiKey: API_KEY, baseURL: BASE_URL, maxRetries: 0 });
const prompt = {
  model: "grok-beta",
  system: "You are a sailor.",
  messages: [{ role: "user", content: "Tell me about the sea." }],
};
const ask = { ...prompt, max_tokens: 16 };

const promptTokens = ({ input_tokens, cache_read_input_tokens }) => input_tokens + cache_read_input_tokens;

function textOf(message) {
  assert.deepEqual(message.content.map((block) => block.type), ["text"]);
  return message.content[0].text;
}

// After the first word, so that something is left before it.
function longestWord(text) {
  const [, ...words] = text.trim().split(/\s+/);
  return words.slice(0, 6).sort((one, other) => other.length - one.length)[0];
}

test("a message has its text, the model asked for and its cost", async () => {
  const message = await client.messages.create(ask);
  assert.deepEqual([message.type, message.role, message.model], ["message", "assistant", "grok-beta"]);
  assert.equal(message.id, `msg_${message._request_id.replaceAll("-", "")}`);
  assert.ok(textOf(message));
  assert.ok(["end_turn", "max_tokens"].includes(message.stop_reason));
  assert.equal(message.stop_sequence, null);
  const { input_tokens, cache_creation_input_tokens, cache_read_input_tokens, output_tokens } = message.usage;
  assert.equal(cache_creation_input_tokens, 0);
  assert.ok(input_tokens > 0 && output_tokens > 0 && output_tokens <= 16);
  const ticks = 1000 * input_tokens + 250 * cache_read_input_tokens + 4000 * output_tokens;
  assert.equal(message.usage.cost_in_usd_ticks, ticks);
});

test("the key goes as a bearer token too", async () => {
  const bearer = new Anthropic({ apiKey: null, authToken: API_KEY, baseURL: BASE_URL });
  assert.ok(textOf(await bearer.messages.create(ask)));
});

test("a stream's events come in order, the cost in the last delta", async () => {
  const events = [];
  for await (const event of await client.messages.create({ ...ask, stream: true })) events.push(event);
  const types = events.map((event) => event.type);
  const deltas = types.filter((type) => type === "content_block_delta");
  assert.ok(deltas.length > 0);
  assert.deepEqual(types, [
    ...["message_start", "content_block_start", ...deltas],
    ...["content_block_stop", "message_delta", "message_stop"],
  ]);
  const { message } = events[0];
  assert.deepEqual([message.model, message.content, message.stop_reason], ["grok-beta", [], null]);
  const { delta, usage } = events.at(-2);
  assert.ok(["end_turn", "max_tokens"].includes(delta.stop_reason));
  assert.equal(promptTokens(usage), promptTokens(message.usage));
  assert.ok(usage.cost_in_usd_ticks > 4000 * usage.output_tokens);
});

test("the stream helper's final message is what it streamed", async () => {
  const stream = client.messages.stream(ask);
  let streamed = "";
  stream.on("text", (delta) => (streamed += delta));
  const final = await stream.finalMessage();
  assert.ok(streamed);
  assert.equal(textOf(final), streamed);
  assert.equal(await stream.finalText(), streamed);
  assert.ok(final.usage.output_tokens > 0);
});

test("a stream can be left early", async () => {
  const stream = await client.messages.create({ ...ask, max_tokens: 200, stream: true });
  for await (const event of stream) if (event.type === "content_block_delta") break;
  assert.ok(stream.controller.signal.aborted);
  assert.ok(textOf(await client.messages.create(ask)));
});

test("counted tokens are the prompt's billed ones", async () => {
  const { input_tokens } = await client.messages.countTokens(prompt);
  const { usage } = await client.messages.create(ask);
  assert.equal(input_tokens, promptTokens(usage));
});

test("models are listed, and an alias finds its model", async () => {
  const listed = [];
  for await (const model of client.models.list()) listed.push(model);
  assert.deepEqual(listed.map(({ id, type }) => [id, type]), [[MODEL, "model"]]);
  assert.ok(Date.parse(listed[0].created_at));
  const { id, display_name } = await client.models.retrieve("grok-beta");
  assert.deepEqual([id, display_name], [MODEL, listed[0].display_name]);
});

const errors = {
  "a wrong key": [Anthropic.AuthenticationError, 401, "authentication_error", {}, "ll_wrong"],
  "an unknown model": [Anthropic.NotFoundError, 404, "not_found_error", { model: "claude-0" }, API_KEY],
  "a bad field": [Anthropic.BadRequestError, 400, "invalid_request_error", { temperature: 3 }, API_KEY],
  "no max_tokens": [Anthropic.BadRequestError, 400, "invalid_request_error", { max_tokens: undefined }, API_KEY],
};
for (const [what, [kind, status, type, fields, apiKey]] of Object.entries(errors)) {
  test(`${what} is a ${kind.name}`, async () => {
    const caller = new Anthropic({ apiKey, baseURL: BASE_URL });
    for (const stream of [false, true]) {
      await assert.rejects(caller.messages.create({ ...ask, ...fields, stream }), (error) => {
        assert.ok(error instanceof kind);
        assert.deepEqual([error.status, error.error.type, error.error.error.type], [status, "error", type]);
        assert.equal(error.error.request_id, error.requestID);
        for (const [field, value] of Object.entries(fields)) {
          assert.match(error.error.error.message, new RegExp(field === "model" ? value : field));
        }
        return true;
      });
    }
  });
}

test("earlier turns are part of the prompt", async () => {
  const first = await client.messages.create(ask);
  const messages = [
    ...ask.messages,
    { role: "assistant", content: first.content },
    { role: "user", content: [{ type: "text", text: "And of its fish?" }] },
  ];
  const second = await client.messages.create({ ...ask, messages });
  assert.ok(promptTokens(second.usage) > promptTokens(first.usage) + first.usage.output_tokens);
  assert.ok(textOf(second));
});

test("a message ends before its stop sequence, which is named", async () => {
  const steady = { ...ask, temperature: 0 };
  const unstopped = textOf(await client.messages.create(steady));
  const stop = longestWord(unstopped);
  const stopped = { ...steady, stop_sequences: ["§§§", stop] };
  const message = await client.messages.create(stopped);
  assert.deepEqual([message.stop_reason, message.stop_sequence], ["stop_sequence", stop]);
  assert.ok(unstopped.startsWith(textOf(message)) && !textOf(message).includes(stop));
  const streamed = await client.messages.stream(stopped).finalMessage();
  assert.deepEqual([streamed.stop_reason, streamed.stop_sequence], ["stop_sequence", stop]);
  assert.equal(textOf(streamed), textOf(message));
});

test("one token ends with max_tokens", async () => {
  const message = await client.messages.create({ ...ask, max_tokens: 1 });
  assert.equal(message.stop_reason, "max_tokens");
  assert.equal(message.usage.output_tokens, 1);
});
