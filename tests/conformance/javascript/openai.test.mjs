// The OpenAI SDK for JavaScript against the real model. BASE_URL and API_KEY say where.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const { BASE_URL, API_KEY } = process.env;
const MODEL = "smollm2-135m-instruct";
const client = new OpenAI({ apiKey: API_KEY, baseURL: `${BASE_URL}/v1`, maxRetries: 0 });
const ask = {
  model: "grok-beta",
  messages: [{ role: "user", content: "Tell me about the sea." }],
  max_completion_tokens: 16,
};

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

function texts(chunks, choices = 1) {
  const said = Array(choices).fill("");
  for (const { index, delta } of chunks.flatMap((chunk) => chunk.choices)) said[index] += delta.content ?? "";
  return said;
}

function textOf(logprobs) {
  return Buffer.from(logprobs.content.flatMap(({ bytes }) => bytes)).toString();
}

// After the first word, so that something is left before it.
function longestWord(text) {
  const [, ...words] = text.trim().split(/\s+/);
  return words.slice(0, 6).sort((one, other) => other.length - one.length)[0];
}

test("an answer has its text, the resolved model and a usage that adds up", async () => {
  const answer = await client.chat.completions.create(ask);
  assert.equal(answer.object, "chat.completion");
  assert.equal(answer.model, MODEL);
  assert.match(answer.system_fingerprint, /^fp_/);
  assert.equal(answer.choices.length, 1);
  const [{ message, finish_reason }] = answer.choices;
  assert.equal(message.role, "assistant");
  assert.equal(message.refusal, null);
  assert.ok(message.content);
  assert.ok(["stop", "length"].includes(finish_reason));
  const { usage } = answer;
  assert.ok(usage.prompt_tokens > 0 && usage.completion_tokens > 0);
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
  const { text_tokens, audio_tokens, image_tokens, cached_tokens } = usage.prompt_tokens_details;
  assert.deepEqual([text_tokens, audio_tokens, image_tokens], [usage.prompt_tokens, 0, 0]);
  assert.ok(cached_tokens >= 0 && cached_tokens < usage.prompt_tokens);
  assert.equal(usage.completion_tokens_details.reasoning_tokens, 0);
  const ticks = 1000 * (usage.prompt_tokens - cached_tokens) + 250 * cached_tokens + 4000 * usage.completion_tokens;
  assert.equal(usage.cost_in_usd_ticks, ticks);
});

test("the request's id is the answer's", async () => {
  const { data, response, request_id } = await client.chat.completions.create(ask).withResponse();
  assert.equal(request_id, data.id);
  assert.equal(response.headers.get("request-id"), data.id);
});

test("chunks share one shell, and the usage comes with the last finish", async () => {
  const chunks = await collect(await client.chat.completions.create({ ...ask, stream: true }));
  const shells = chunks.map(({ id, object, created, model, system_fingerprint }) =>
    [id, object, created, model, system_fingerprint].join(),
  );
  assert.equal(new Set(shells).size, 1);
  assert.equal(chunks[0].object, "chat.completion.chunk");
  assert.equal(chunks[0].model, MODEL);
  assert.deepEqual(chunks[0].choices[0].delta, { role: "assistant", content: "" });
  assert.ok(texts(chunks)[0]);
  const finishes = chunks.map((chunk) => chunk.choices[0].finish_reason);
  assert.ok(finishes.slice(0, -1).every((reason) => reason === null));
  assert.ok(["stop", "length"].includes(finishes.at(-1)));
  assert.deepEqual(chunks.map((chunk) => Boolean(chunk.usage)), chunks.map((_, i) => i === chunks.length - 1));
});

test("with include_usage the usage has a chunk of its own", async () => {
  const options = { stream: true, stream_options: { include_usage: true } };
  const chunks = await collect(await client.chat.completions.create({ ...ask, ...options }));
  const { choices, usage } = chunks.at(-1);
  assert.deepEqual(choices, []);
  assert.ok(usage.completion_tokens > 0 && usage.cost_in_usd_ticks > 0);
  assert.ok(["stop", "length"].includes(chunks.at(-2).choices[0].finish_reason));
  assert.ok(chunks.slice(0, -1).every((chunk) => !chunk.usage));
});

test("the stream helper's final answer is what it streamed", async () => {
  const stream = client.chat.completions.stream(ask);
  let streamed = "";
  stream.on("content", (delta) => (streamed += delta));
  const final = await stream.finalChatCompletion();
  assert.ok(streamed);
  assert.equal(final.choices[0].message.content, streamed);
  assert.equal(await stream.finalContent(), streamed);
  assert.equal((await stream.totalUsage()).total_tokens, final.usage.total_tokens);
});

test("a stream can be left early", async () => {
  const stream = await client.chat.completions.create({ ...ask, max_completion_tokens: 200, stream: true });
  for await (const chunk of stream) if (chunk.choices[0].delta.content) break;
  assert.ok(stream.controller.signal.aborted);
  assert.ok((await client.chat.completions.create(ask)).choices[0].message.content);
});

test("models are listed, and an alias finds its model", async () => {
  const listed = [];
  for await (const model of client.models.list()) listed.push(model);
  assert.deepEqual(listed.map(({ id, object }) => [id, object]), [[MODEL, "model"]]);
  assert.deepEqual(await client.models.retrieve("grok-beta"), listed[0]);
  assert.deepEqual(await client.models.retrieve(MODEL), listed[0]);
});

test("a wrong key is an AuthenticationError", async () => {
  const stranger = new OpenAI({ apiKey: "ll_wrong", baseURL: `${BASE_URL}/v1` });
  await assert.rejects(stranger.chat.completions.create(ask), (error) => {
    assert.ok(error instanceof OpenAI.AuthenticationError);
    assert.deepEqual([error.status, error.code, error.type], [401, "invalid_api_key", "invalid_api_key"]);
    assert.ok(!error.message.includes("ll_wrong"));
    return true;
  });
});

test("an unknown model is a NotFoundError", async () => {
  await assert.rejects(client.chat.completions.create({ ...ask, model: "gpt-0" }), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.deepEqual([error.status, error.code, error.param], [404, "model_not_found", "model"]);
    assert.match(error.message, /gpt-0/);
    return true;
  });
  await assert.rejects(client.models.retrieve("gpt-0"), OpenAI.NotFoundError);
});

for (const stream of [false, true]) {
  test(`a bad field is a BadRequestError that names it, ${stream ? "streamed" : "whole"}`, async () => {
    const fields = { temperature: 3, max_completion_tokens: 0, "messages[0].role": "sailor" };
    for (const [param, value] of Object.entries(fields)) {
      const more = param in ask || param === "temperature" ? { [param]: value } : { messages: [{ role: value }] };
      await assert.rejects(client.chat.completions.create({ ...ask, ...more, stream }), (error) => {
        assert.ok(error instanceof OpenAI.BadRequestError);
        assert.deepEqual([error.status, error.type, error.param], [400, "invalid_request_error", param]);
        assert.ok(error.message.includes(param));
        return true;
      });
    }
  });
}

test("earlier turns are part of the prompt", async () => {
  const [question] = ask.messages;
  const first = await client.chat.completions.create(ask);
  const answered = { role: "assistant", content: first.choices[0].message.content };
  const messages = [question, answered, { role: "user", content: "And of its fish?" }];
  const second = await client.chat.completions.create({ ...ask, messages });
  const grown = first.usage.prompt_tokens + first.usage.completion_tokens;
  assert.ok(second.usage.prompt_tokens > grown, `${second.usage.prompt_tokens} after ${grown}`);
  assert.ok(second.choices[0].message.content);
});

test("an answer ends before its stop", async () => {
  const steady = { ...ask, temperature: 0 };
  const unstopped = (await client.chat.completions.create(steady)).choices[0].message.content;
  const stop = longestWord(unstopped);
  const { message, finish_reason } = (await client.chat.completions.create({ ...steady, stop })).choices[0];
  assert.equal(finish_reason, "stop");
  assert.ok(unstopped.startsWith(message.content) && message.content.length < unstopped.length);
  assert.ok(!message.content.includes(stop));
  const chunks = await collect(await client.chat.completions.create({ ...steady, stop: [stop], stream: true }));
  assert.deepEqual(texts(chunks), [message.content]);
  assert.equal(chunks.at(-1).choices[0].finish_reason, "stop");
});

for (const limit of ["max_completion_tokens", "max_tokens"]) {
  test(`one token of ${limit} ends with length`, async () => {
    const { max_completion_tokens: _, ...unlimited } = ask;
    const answer = await client.chat.completions.create({ ...unlimited, [limit]: 1 });
    assert.equal(answer.choices[0].finish_reason, "length");
    assert.equal(answer.usage.completion_tokens, 1);
  });
}

test("two choices share one prompt, whole and streamed", async () => {
  const alone = await client.chat.completions.create(ask);
  const answer = await client.chat.completions.create({ ...ask, n: 2 });
  assert.deepEqual(answer.choices.map((choice) => choice.index), [0, 1]);
  assert.ok(answer.choices.every((choice) => choice.message.content && choice.finish_reason));
  assert.equal(answer.usage.prompt_tokens, alone.usage.prompt_tokens);
  assert.ok(answer.usage.completion_tokens <= 2 * ask.max_completion_tokens);

  const chunks = await collect(await client.chat.completions.create({ ...ask, n: 2, stream: true }));
  assert.ok(texts(chunks, 2).every(Boolean));
  const finished = chunks.flatMap((chunk) => chunk.choices).filter((choice) => choice.finish_reason);
  assert.deepEqual(finished.map((choice) => choice.index).sort(), [0, 1]);
  assert.equal(chunks.at(-1).usage.prompt_tokens, alone.usage.prompt_tokens);
});

test("the same seed at a temperature answers the same", async () => {
  const seeded = { ...ask, seed: 42, temperature: 0.9 };
  const first = await client.chat.completions.create(seeded);
  const again = await client.chat.completions.create(seeded);
  assert.equal(again.choices[0].message.content, first.choices[0].message.content);
  assert.equal(again.system_fingerprint, first.system_fingerprint);
  const other = await Promise.all([1, 2, 3].map((seed) => client.chat.completions.create({ ...seeded, seed })));
  assert.ok(other.some(({ choices }) => choices[0].message.content !== first.choices[0].message.content));
});

test("log probabilities cover the text", async () => {
  const wanted = { ...ask, temperature: 0, logprobs: true, top_logprobs: 3 };
  const { message, logprobs } = (await client.chat.completions.create(wanted)).choices[0];
  assert.equal(textOf(logprobs), message.content);
  for (const { logprob, token, bytes, top_logprobs } of logprobs.content) {
    assert.ok(logprob <= 0);
    assert.equal(Buffer.from(bytes).toString(), token);
    assert.equal(top_logprobs.length, 3);
    assert.equal(top_logprobs[0].token, token);
    assert.ok(top_logprobs[0].logprob >= top_logprobs[1].logprob);
  }
  const final = await client.chat.completions.stream(wanted).finalChatCompletion();
  assert.equal(textOf(final.choices[0].logprobs), final.choices[0].message.content);
});
