-- What a key may do. An empty text means all; `endpoints` are separated by commas, `models` are a JSON array.
ALTER TABLE api_keys ADD COLUMN expires_at BIGINT;
ALTER TABLE api_keys ADD COLUMN endpoints TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN models TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN cap_ticks BIGINT CHECK (cap_ticks > 0);
ALTER TABLE api_keys ADD COLUMN cap_period TEXT CHECK (cap_period IN ('day', 'week', 'month'));

-- 0 means no limit.
ALTER TABLE api_keys ADD COLUMN requests_per_second BIGINT NOT NULL DEFAULT 0;
ALTER TABLE api_keys ADD COLUMN requests_per_minute BIGINT NOT NULL DEFAULT 0;
ALTER TABLE api_keys ADD COLUMN tokens_per_minute BIGINT NOT NULL DEFAULT 0;
ALTER TABLE api_keys ADD COLUMN concurrent_requests BIGINT NOT NULL DEFAULT 0;

-- The secret before the last rotation, and when it stops.
ALTER TABLE api_keys ADD COLUMN previous_digest TEXT;
ALTER TABLE api_keys ADD COLUMN previous_expires_at BIGINT;

ALTER TABLE api_keys ADD COLUMN last_used_at BIGINT;
ALTER TABLE api_keys ADD COLUMN modified_at BIGINT;
