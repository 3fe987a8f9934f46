-- Batches of requests that run when there is room. A request's id is the one that it has in the ledger, from the moment
-- on at which it was added; `name` is what its client calls it. `request` and `result` are sealed with the instance's
-- secret. What is `pending` has no charge; a result is written in one commit with its charge. A batch that is not `open`
-- is still being filled from its file, and nobody sees it.
CREATE TABLE batches (
    id TEXT PRIMARY KEY,
    organisation_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    cancelled_at BIGINT,
    cancelled_because TEXT NOT NULL,
    input_file_id TEXT,
    open BIGINT NOT NULL,
    requests BIGINT NOT NULL,
    bytes BIGINT NOT NULL
);
CREATE INDEX batches_by_organisation ON batches (organisation_id, id);
CREATE INDEX batches_by_age ON batches (created_at);

CREATE TABLE batch_requests (
    request_id TEXT PRIMARY KEY,
    batch_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    name TEXT NOT NULL,
    key_id TEXT NOT NULL,
    model TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'succeeded', 'failed', 'cancelled')),
    created_at BIGINT NOT NULL,
    ended_at BIGINT,
    cost_ticks BIGINT NOT NULL,
    request BYTEA NOT NULL,
    result BYTEA
);
CREATE UNIQUE INDEX batch_requests_by_number ON batch_requests (batch_id, number);
CREATE UNIQUE INDEX batch_requests_by_name ON batch_requests (batch_id, name);
CREATE INDEX batch_requests_by_state ON batch_requests (batch_id, state, cost_ticks);
CREATE INDEX batch_requests_pending ON batch_requests (batch_id, model, number) WHERE state = 'pending';
