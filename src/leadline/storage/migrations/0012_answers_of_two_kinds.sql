-- A deferred completion may be stored as well: then it is kept twice, each until its own term.
CREATE TABLE answers_of_two_kinds (
    id TEXT NOT NULL,
    organisation_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    content BYTEA NOT NULL,
    PRIMARY KEY (id, kind)
);

INSERT INTO answers_of_two_kinds
SELECT
    id, organisation_id, kind, at, expires_at, content
FROM stored_answers;

DROP TABLE stored_answers;
ALTER TABLE answers_of_two_kinds RENAME TO stored_answers;
CREATE INDEX stored_answers_by_organisation ON stored_answers (organisation_id, at);
CREATE INDEX stored_answers_by_expiry ON stored_answers (expires_at);
