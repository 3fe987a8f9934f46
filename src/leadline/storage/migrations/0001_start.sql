-- Times are microseconds since 1970 in UTC; money is ticks (1 USD = 10^10).

CREATE TABLE organisations (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE users (
    id TEXT PRIMARY KEY,
    organisation_id TEXT NOT NULL REFERENCES organisations (id),
    email TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

-- `digest` is a keyed hash: the key itself is stored nowhere.
CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    organisation_id TEXT NOT NULL REFERENCES organisations (id),
    name TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE,
    last_four TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    disabled_at BIGINT,
    revoked_at BIGINT
);

CREATE TABLE accounts (
    organisation_id TEXT PRIMARY KEY REFERENCES organisations (id),
    balance_ticks BIGINT NOT NULL CHECK (balance_ticks >= 0)
);

-- Open streams only. A row that a crash left is released when the server starts again.
CREATE TABLE holds (
    request_id TEXT PRIMARY KEY,
    organisation_id TEXT NOT NULL REFERENCES accounts (organisation_id),
    key_id TEXT NOT NULL,
    model TEXT NOT NULL,
    reserved_ticks BIGINT NOT NULL CHECK (reserved_ticks >= 0),
    opened_at BIGINT NOT NULL
);

-- Append-only. A charge has its request's id, so a request can be charged once.
CREATE TABLE entries (
    id TEXT PRIMARY KEY,
    organisation_id TEXT NOT NULL REFERENCES accounts (organisation_id),
    at BIGINT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('grant', 'charge', 'refund', 'expiry', 'adjustment')),
    amount_ticks BIGINT NOT NULL,
    reason TEXT NOT NULL,
    request_id TEXT UNIQUE,
    key_id TEXT,
    model TEXT,
    endpoint TEXT,
    reserved_ticks BIGINT,
    prompt_tokens BIGINT,
    cached_tokens BIGINT,
    image_tokens BIGINT,
    output_tokens BIGINT,
    reasoning_tokens BIGINT
);

CREATE INDEX entries_by_organisation ON entries (organisation_id, at);
