// Every row of the error table, told by `test_error_table.py` as FACTS, is an exception of the SDKs. BASE_URL says where.
import assert from "node:assert/strict";
import { test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const { BASE_URL, FACTS } = process.env;

function tellsWhetherToRetry(headers, retry) {
  const should = headers.get("x-should-retry");
  const after = headers.get("retry-after");
  if (retry === false) return should === "false" && after === null;
  return should === null && (retry === null ? after === null : Number(after) >= retry && Number(after) <= 60);
}

for (const { name, key, method, headers, body, retry, ...expected } of JSON.parse(FACTS)) {
  test(`${name}, ${body.stream ? "streamed" : "whole"}`, async () => {
    const sdks = {
      openai: [OpenAI, new OpenAI({ apiKey: key, baseURL: `${BASE_URL}/v1`, maxRetries: 0 }), "/chat/completions"],
      anthropic: [Anthropic, new Anthropic({ apiKey: key, baseURL: BASE_URL, maxRetries: 0 }), "/v1/messages"],
    };
    for (const [sdk, [SDK, client, path]] of Object.entries(sdks)) {
      const [kind, status, code] = expected[sdk];
      const options = method === "get" ? {} : { body, headers };
      await assert.rejects(client[method](path, options), (error) => {
        assert.ok(error instanceof (SDK[kind] ?? SDK.APIError), `${sdk}: ${error}`);
        assert.equal(error.status, status);
        assert.equal(sdk === "openai" ? (error.code ?? error.type) : error.error.error.type, code);
        assert.ok(error.requestID);
        assert.ok(tellsWhetherToRetry(error.headers, retry), JSON.stringify([...error.headers]));
        return true;
      });
    }
  });
}
