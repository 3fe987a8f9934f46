-- Entries are numbered and chained; usage has its own records and sums, written with the charge.

-- Numbers about the instance itself. `heartbeat` is written to find out whether the disk takes writes again; usage
-- records that ended before `records_kept_since` were deleted at their term.
CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO facts (name, value) VALUES ('heartbeat', 0), ('records_kept_since', 0);

-- Append-only, in the order of their commits, so that a commit touches few pages. `digest` covers the row and the digest
-- before it. A charge has its request's id: it happens once.
CREATE TABLE numbered_entries (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    organisation_id TEXT NOT NULL,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('grant', 'charge', 'refund', 'expiry', 'adjustment')),
    amount_ticks BIGINT NOT NULL,
    reason TEXT NOT NULL,
    request_id TEXT,
    key_id TEXT,
    model TEXT,
    reserved_ticks BIGINT,
    digest TEXT NOT NULL
);

INSERT INTO numbered_entries
SELECT
    ROW_NUMBER() OVER (ORDER BY at, id), id, organisation_id, at, kind, amount_ticks, reason, request_id, key_id,
    model, reserved_ticks, ''
FROM entries;

-- A meter counts what one key uses of one model at one endpoint.
CREATE TABLE meters (
    id INTEGER PRIMARY KEY,
    organisation_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    model TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    UNIQUE (organisation_id, key_id, model, endpoint)
);

INSERT INTO meters (organisation_id, key_id, model, endpoint)
SELECT DISTINCT organisation_id, COALESCE(key_id, ''), COALESCE(model, ''), COALESCE(endpoint, '')
FROM entries
WHERE kind = 'charge';

-- One per request, also for those that cost nothing, in the order in which they ended. Never what was said.
CREATE TABLE usage_records (
    number INTEGER PRIMARY KEY,
    request_id TEXT NOT NULL,
    meter_id BIGINT NOT NULL,
    began_at BIGINT NOT NULL,
    at BIGINT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('finished', 'interrupted', 'failed', 'refused')),
    error TEXT NOT NULL,
    streamed BIGINT NOT NULL,
    prompt_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    image_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    cost_ticks BIGINT NOT NULL,
    first_token_milliseconds BIGINT,
    total_milliseconds BIGINT NOT NULL
);

INSERT INTO usage_records
SELECT
    ROW_NUMBER() OVER (ORDER BY e.at, e.id), e.id, m.id, e.at, e.at,
    CASE e.reason WHEN '' THEN 'finished' ELSE 'interrupted' END, '', 0, COALESCE(e.prompt_tokens, 0),
    COALESCE(e.cached_tokens, 0), COALESCE(e.image_tokens, 0), COALESCE(e.output_tokens, 0),
    COALESCE(e.reasoning_tokens, 0), -e.amount_ticks, NULL, 0
FROM entries e
JOIN meters m ON
    m.organisation_id = e.organisation_id AND m.key_id = COALESCE(e.key_id, '') AND m.model = COALESCE(e.model, '')
    AND m.endpoint = COALESCE(e.endpoint, '')
WHERE e.kind = 'charge';

-- Whose entries and records are whose. Written by who reads, for all that came since (`entries_indexed` and
-- `records_indexed`): kept with each commit, an index would cost every organisation a page of it.
CREATE TABLE entries_of (
    organisation_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    PRIMARY KEY (organisation_id, number)
) WITHOUT ROWID;
CREATE TABLE records_of (
    organisation_id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    PRIMARY KEY (organisation_id, request_id)
) WITHOUT ROWID;
INSERT INTO facts (name, value) VALUES ('entries_indexed', 0), ('records_indexed', 0);

DROP TABLE entries;
ALTER TABLE numbered_entries RENAME TO entries;

-- Sums by the hour and the day (since 1970, UTC) in which requests ended. Pages and invoices read these.
CREATE TABLE usage_hours (
    meter_id BIGINT NOT NULL,
    hour BIGINT NOT NULL,
    requests BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    refused BIGINT NOT NULL,
    prompt_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    image_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    cost_ticks BIGINT NOT NULL,
    PRIMARY KEY (meter_id, hour)
) WITHOUT ROWID;

INSERT INTO usage_hours
SELECT
    meter_id, at / 3600000000, COUNT(*), 0, 0, SUM(prompt_tokens), SUM(cached_tokens), SUM(image_tokens),
    SUM(output_tokens), SUM(reasoning_tokens), SUM(cost_ticks)
FROM usage_records
GROUP BY meter_id, at / 3600000000;

CREATE TABLE usage_days (
    meter_id BIGINT NOT NULL,
    day BIGINT NOT NULL,
    requests BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    refused BIGINT NOT NULL,
    prompt_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    image_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    cost_ticks BIGINT NOT NULL,
    PRIMARY KEY (meter_id, day)
) WITHOUT ROWID;

INSERT INTO usage_days
SELECT
    meter_id, hour / 24, SUM(requests), 0, 0, SUM(prompt_tokens), SUM(cached_tokens), SUM(image_tokens),
    SUM(output_tokens), SUM(reasoning_tokens), SUM(cost_ticks)
FROM usage_hours
GROUP BY meter_id, hour / 24;

-- Open streams only, with what they had used at their last checkpoint. A row that a crash left is settled at that.
DROP TABLE holds;
CREATE TABLE holds (
    request_id TEXT PRIMARY KEY,
    organisation_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    model TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    reserved_ticks BIGINT NOT NULL CHECK (reserved_ticks >= 0),
    opened_at BIGINT NOT NULL,
    replayable BIGINT NOT NULL,
    used_ticks BIGINT NOT NULL CHECK (used_ticks <= reserved_ticks),
    prompt_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    image_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL
) WITHOUT ROWID;

-- Grants with a date, until they are spent or expired. Those that expire first are spent first.
CREATE TABLE expiring_grants (
    organisation_id TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    entry_id TEXT NOT NULL,
    left_ticks BIGINT NOT NULL CHECK (left_ticks > 0),
    PRIMARY KEY (organisation_id, expires_at, entry_id)
) WITHOUT ROWID;

-- Whole answers to requests that had an Idempotency-Key, sealed with the instance's secret.
CREATE TABLE replays (
    organisation_id TEXT NOT NULL,
    key_digest TEXT NOT NULL,
    body_digest TEXT NOT NULL,
    request_id TEXT NOT NULL,
    answer BYTEA NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (organisation_id, key_digest)
);
CREATE INDEX replays_by_expiry ON replays (expires_at);
