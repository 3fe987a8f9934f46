-- Entries are numbered and chained per organisation; usage has its own records and sums, written with the charge.

-- Numbers about the instance itself. `heartbeat` is written to find out whether the disk takes writes again; usage
-- records that began before `records_kept_since` were deleted at their term.
CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO facts (name, value) VALUES ('heartbeat', 0), ('records_kept_since', 0);

-- `entries` and `digest` are the number and digest of the newest entry, `expiring` how many grants have a date.
ALTER TABLE accounts ADD COLUMN entries BIGINT NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN digest TEXT NOT NULL DEFAULT '';
ALTER TABLE accounts ADD COLUMN expiring BIGINT NOT NULL DEFAULT 0;

-- Append-only. `digest` covers the row and the digest before it. A charge has its request's id: it happens once.
CREATE TABLE numbered_entries (
    organisation_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    id TEXT NOT NULL UNIQUE,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('grant', 'charge', 'refund', 'expiry', 'adjustment')),
    amount_ticks BIGINT NOT NULL,
    reason TEXT NOT NULL,
    request_id TEXT,
    key_id TEXT,
    model TEXT,
    reserved_ticks BIGINT,
    digest TEXT NOT NULL,
    PRIMARY KEY (organisation_id, number)
) WITHOUT ROWID;

INSERT INTO numbered_entries
SELECT
    organisation_id, ROW_NUMBER() OVER (PARTITION BY organisation_id ORDER BY at, id), id, at, kind, amount_ticks,
    reason, request_id, key_id, model, reserved_ticks, ''
FROM entries;

UPDATE accounts SET entries = (
    SELECT COUNT(*) FROM entries WHERE entries.organisation_id = accounts.organisation_id
);

-- One per request, also for those that cost nothing. Never what was said. Request ids sort by time.
CREATE TABLE usage_records (
    organisation_id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    began_at BIGINT NOT NULL,
    at BIGINT NOT NULL,
    key_id TEXT NOT NULL,
    model TEXT NOT NULL,
    endpoint TEXT NOT NULL,
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
    total_milliseconds BIGINT NOT NULL,
    PRIMARY KEY (organisation_id, request_id)
) WITHOUT ROWID;

INSERT INTO usage_records
SELECT
    organisation_id, id, at, at, COALESCE(key_id, ''), COALESCE(model, ''), COALESCE(endpoint, ''),
    CASE reason WHEN '' THEN 'finished' ELSE 'interrupted' END, '', 0, COALESCE(prompt_tokens, 0),
    COALESCE(cached_tokens, 0), COALESCE(image_tokens, 0), COALESCE(output_tokens, 0), COALESCE(reasoning_tokens, 0),
    -amount_ticks, NULL, 0
FROM entries
WHERE kind = 'charge';

DROP TABLE entries;
ALTER TABLE numbered_entries RENAME TO entries;

-- Sums by the hour and the day (since 1970, UTC) in which requests ended. Pages and invoices read these.
CREATE TABLE usage_hours (
    organisation_id TEXT NOT NULL,
    hour BIGINT NOT NULL,
    key_id TEXT NOT NULL,
    model TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    requests BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    refused BIGINT NOT NULL,
    prompt_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    image_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    cost_ticks BIGINT NOT NULL,
    PRIMARY KEY (organisation_id, hour, key_id, model, endpoint)
) WITHOUT ROWID;

INSERT INTO usage_hours
SELECT
    organisation_id, at / 3600000000, key_id, model, endpoint, COUNT(*), 0, 0, SUM(prompt_tokens), SUM(cached_tokens),
    SUM(image_tokens), SUM(output_tokens), SUM(reasoning_tokens), SUM(cost_ticks)
FROM usage_records
GROUP BY organisation_id, at / 3600000000, key_id, model, endpoint;

CREATE TABLE usage_days (
    organisation_id TEXT NOT NULL,
    day BIGINT NOT NULL,
    key_id TEXT NOT NULL,
    model TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    requests BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    refused BIGINT NOT NULL,
    prompt_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    image_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    cost_ticks BIGINT NOT NULL,
    PRIMARY KEY (organisation_id, day, key_id, model, endpoint)
) WITHOUT ROWID;

INSERT INTO usage_days
SELECT
    organisation_id, hour / 24, key_id, model, endpoint, SUM(requests), 0, 0, SUM(prompt_tokens), SUM(cached_tokens),
    SUM(image_tokens), SUM(output_tokens), SUM(reasoning_tokens), SUM(cost_ticks)
FROM usage_hours
GROUP BY organisation_id, hour / 24, key_id, model, endpoint;

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
