// Embeddings through the OpenAI SDK for JavaScript, which asks for base64 unless it is told otherwise.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const { BASE_URL, API_KEY } = process.env;
const client = new OpenAI({ apiKey: API_KEY, baseURL: `${BASE_URL}/v1`, maxRetries: 0 });
const INPUT = ["the cat sat", "a mat", "blue"];

function length(vector) {
  return Math.hypot(...vector);
}

test("vectors are numbers, in the order of the inputs, whether they travel as base64 or not", async () => {
  const usual = await client.embeddings.create({ model: "embed", input: INPUT });
  const floats = await client.embeddings.create({ model: "embed", input: INPUT, encoding_format: "float" });
  assert.equal(usual.object, "list");
  assert.equal(usual.model, "embed");
  assert.deepEqual(usual.data.map(({ index }) => index), [0, 1, 2]);
  assert.deepEqual(usual.data.map(({ embedding }) => Array.from(embedding)), floats.data.map(({ embedding }) => embedding));
  for (const { embedding } of usual.data) assert.ok(Math.abs(length(embedding) - 1) < 1e-6);
  assert.deepEqual(usual.usage, { prompt_tokens: 6, total_tokens: 6, cost_in_usd_ticks: 60000 });
});

test("base64 that was asked for stays base64", async () => {
  const { data } = await client.embeddings.create({ model: "embed", input: "blue", encoding_format: "base64" });
  assert.equal(Buffer.from(data[0].embedding, "base64").length, 16);
});

test("tokens and fewer dimensions are taken", async () => {
  const { data } = await client.embeddings.create({ model: "embed", input: [[3, 5], [7]], dimensions: 2 });
  assert.deepEqual(data.map(({ embedding }) => embedding.length), [2, 2]);
});

test("an input that is empty is a bad request that names it", async () => {
  await assert.rejects(client.embeddings.create({ model: "embed", input: ["a", ""] }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.param, "input[1]");
    return true;
  });
});
