-- People belong to organisations through memberships, and sign in.
CREATE TABLE people (
    id TEXT PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    verified_at BIGINT,
    suspended_at BIGINT,
    is_admin BIGINT NOT NULL CHECK (is_admin IN (0, 1)),
    last_signed_in_at BIGINT,
    -- Sealed with the instance's secret. A secret that was never confirmed asks for no codes; no code of
    -- `totp_last_step` or a step before it is taken again.
    totp_secret BYTEA,
    totp_confirmed_at BIGINT,
    totp_last_step BIGINT NOT NULL DEFAULT 0
);

INSERT INTO people (id, email, name, password_hash, created_at, verified_at, is_admin)
SELECT u.id, u.email, '', u.password_hash, u.created_at, u.created_at,
    CASE WHEN u.id = (SELECT f.id FROM users f ORDER BY f.created_at, f.id LIMIT 1) THEN 1 ELSE 0 END
FROM users u;

CREATE TABLE memberships (
    organisation_id TEXT NOT NULL REFERENCES organisations (id),
    user_id TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'developer', 'billing', 'viewer')),
    created_at BIGINT NOT NULL,
    PRIMARY KEY (organisation_id, user_id)
);
CREATE INDEX memberships_by_user ON memberships (user_id);

INSERT INTO memberships (organisation_id, user_id, role, created_at)
SELECT u.organisation_id, u.id, 'owner', u.created_at FROM users u;

DROP TABLE users;
ALTER TABLE people RENAME TO users;

-- Who came first, in the one row that this table can have: of any number who are set up at once, one is.
CREATE TABLE first_user (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    user_id TEXT NOT NULL
);
INSERT INTO first_user (one, user_id) SELECT 1, u.id FROM users u WHERE u.is_admin = 1;

-- `digest` is the SHA-256 of what the browser has: who reads this table cannot sign in.
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    user_id TEXT NOT NULL,
    organisation_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    address TEXT NOT NULL,
    agent TEXT NOT NULL
);
CREATE INDEX sessions_by_user ON sessions (user_id);

-- Links that work once, by the SHA-256 of their token. `subject` is a user's id or an e-mail, `facts` a JSON object.
CREATE TABLE links (
    id TEXT PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    organisation_id TEXT NOT NULL,
    facts TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    taken_at BIGINT
);
CREATE INDEX links_by_subject ON links (kind, subject);
CREATE INDEX links_by_organisation ON links (organisation_id, kind);

CREATE TABLE recovery_codes (
    user_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (user_id, digest)
);

-- What is to be sent, or was. `content` (address, subject and text) is sealed with the instance's secret.
CREATE TABLE mails (
    id TEXT PRIMARY KEY,
    because TEXT NOT NULL,
    content BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    next_attempt_at BIGINT NOT NULL,
    sent_at BIGINT,
    given_up_at BIGINT,
    error TEXT NOT NULL
);

-- Who made a key: a user's id, or nothing where it was the command line.
ALTER TABLE api_keys ADD COLUMN created_by TEXT NOT NULL DEFAULT '';

-- `actor` is an id from now on, and `organisation_id` whose log it is in; nothing: the instance's alone.
ALTER TABLE audit_log ADD COLUMN actor_name TEXT NOT NULL DEFAULT 'command line';
ALTER TABLE audit_log ADD COLUMN address TEXT NOT NULL DEFAULT '';
ALTER TABLE audit_log ADD COLUMN organisation_id TEXT NOT NULL DEFAULT '';
UPDATE audit_log SET organisation_id = COALESCE(
    (SELECT o.id FROM organisations o WHERE o.id = audit_log.subject),
    (SELECT m.organisation_id FROM memberships m WHERE m.user_id = audit_log.subject),
    '');
CREATE INDEX audit_log_by_organisation ON audit_log (organisation_id, id);
