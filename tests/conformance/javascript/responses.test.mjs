// The OpenAI SDK for JavaScript and the Responses API. BASE_URL, API_KEY and MODEL say where.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const { BASE_URL, API_KEY, MODEL } = process.env;
const client = new OpenAI({ apiKey: API_KEY, baseURL: `${BASE_URL}/v1`, maxRetries: 0 });
const ask = { model: MODEL, input: "Tell me about the sea.", max_output_tokens: 16 };

function addsUp({ input_tokens, output_tokens, total_tokens, cost_in_usd_ticks }) {
  assert.ok(input_tokens > 0 && output_tokens > 0 && cost_in_usd_ticks > 0);
  assert.equal(total_tokens, input_tokens + output_tokens);
}

test("a response has its text and a usage that adds up", async () => {
  const { data: response, request_id } = await client.responses.create(ask).withResponse();
  assert.equal(response.id, `resp_${request_id.replaceAll("-", "")}`);
  assert.ok(response.output_text);
  assert.ok(["completed", "incomplete"].includes(response.status));
  addsUp(response.usage);
});

test("the stream helper's final response is what it streamed", async () => {
  const stream = client.responses.stream(ask);
  let streamed = "";
  let number = 0;
  stream.on("response.output_text.delta", ({ delta }) => (streamed += delta));
  for await (const event of stream) assert.equal(event.sequence_number, number++);
  const final = await stream.finalResponse();
  assert.ok(streamed);
  assert.equal(final.output_text, streamed);
  addsUp(final.usage);
});

test("a stored response is found, gone on with, and deleted", async () => {
  const first = await client.responses.create(ask);
  assert.deepEqual((await client.responses.retrieve(first.id)).output, first.output);
  const second = await client.responses.create({ ...ask, input: "And of its fish?", previous_response_id: first.id });
  const roles = [];
  for await (const item of client.responses.inputItems.list(second.id, { limit: 1, order: "asc" })) roles.push(item.role);
  assert.deepEqual(roles, ["user", "assistant", "user"]);
  await client.responses.delete(first.id);
  await assert.rejects(client.responses.retrieve(first.id), OpenAI.NotFoundError);
});

test("a stored response is streamed again", async () => {
  const { id, output_text } = await client.responses.create(ask);
  let streamed = "";
  for await (const event of await client.responses.retrieve(id, { stream: true })) {
    if (event.type === "response.output_text.delta") streamed += event.delta;
  }
  assert.equal(streamed, output_text);
});

test("what is not done is a BadRequestError that names it", async () => {
  await assert.rejects(client.responses.create({ ...ask, tools: [{ type: "web_search" }] }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.deepEqual([error.status, error.param], [400, "tools[0].type"]);
    assert.match(error.message, /web_search/);
    return true;
  });
});
