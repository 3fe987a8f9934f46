// Files through the OpenAI SDK for JavaScript, whose forms hold their fields in whatever order they were given.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI, { toFile } from "openai";

const { BASE_URL, API_KEY } = process.env;
const client = new OpenAI({ apiKey: API_KEY, baseURL: `${BASE_URL}/v1`, maxRetries: 0 });
const HELD = Buffer.alloc(1_000_000, "hello\n");

test("a file is uploaded, shown, listed, fetched and deleted", async () => {
  const file = await toFile(HELD, "nøtes \"a\".txt");
  const made = await client.files.create({ file, purpose: "assistants", expires_after: { anchor: "created_at", seconds: 3600 } });
  assert.deepEqual([made.object, made.bytes, made.filename, made.purpose], ["file", HELD.length, 'nøtes "a".txt', "assistants"]);
  assert.equal(made.expires_at, made.created_at + 3600);
  assert.deepEqual({ ...(await client.files.retrieve(made.id)) }, { ...made });
  assert.equal((await client.files.waitForProcessing(made.id)).status, "processed");
  const second = await client.files.create({ purpose: "batch", file: await toFile(Buffer.from("{}\n"), "b.jsonl") });
  const listed = [];
  for await (const { id } of client.files.list({ limit: 1 })) listed.push(id);
  assert.deepEqual(listed, [second.id, made.id]);
  const content = await client.files.content(made.id);
  assert.ok(HELD.equals(Buffer.from(await content.arrayBuffer())));
  const { id, deleted } = await client.files.delete(made.id);
  assert.deepEqual([id, deleted], [made.id, true]);
  await assert.rejects(client.files.retrieve(made.id), OpenAI.NotFoundError);
});

test("what is too large or has no name is refused", async () => {
  const large = await toFile(Buffer.alloc(50_000_001), "large");
  await assert.rejects(client.files.create({ file: large, purpose: "batch" }), ({ status }) => status === 413);
  const nested = await toFile(Buffer.from("x"), "a\nb");
  await assert.rejects(client.files.create({ file: nested, purpose: "batch" }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.param, "filename");
    return true;
  });
});
