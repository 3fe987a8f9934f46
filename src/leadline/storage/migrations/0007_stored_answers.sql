-- Answers that their organisation may fetch again until their term, sealed with the instance's secret. `id` is the
-- request's; `kind` is `response` (30 days) or `deferred` (24 hours).
CREATE TABLE stored_answers (
    id TEXT PRIMARY KEY,
    organisation_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    content BYTEA NOT NULL
);
CREATE INDEX stored_answers_by_organisation ON stored_answers (organisation_id, at);
CREATE INDEX stored_answers_by_expiry ON stored_answers (expires_at);
