-- What the tokens of each class cost, beside their counts: written by who reads, for the records since
-- `records_indexed`. What is left of `cost_ticks` was charged at prices that nobody knows any more.
ALTER TABLE usage_hours ADD COLUMN input_cost_ticks BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_hours ADD COLUMN cached_cost_ticks BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_hours ADD COLUMN image_cost_ticks BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_hours ADD COLUMN output_cost_ticks BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_hours ADD COLUMN reasoning_cost_ticks BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_days ADD COLUMN input_cost_ticks BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_days ADD COLUMN cached_cost_ticks BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_days ADD COLUMN image_cost_ticks BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_days ADD COLUMN output_cost_ticks BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_days ADD COLUMN reasoning_cost_ticks BIGINT NOT NULL DEFAULT 0;

-- The request log by what it is filtered by: each meter's requests with one outcome are in their order. An outcome is
-- 0 finished, 1 interrupted, 2 failed, 3 refused, 4 rate limited, 5 no credits.
CREATE TABLE records_found (
    organisation_id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    meter_id BIGINT NOT NULL,
    outcome BIGINT NOT NULL,
    PRIMARY KEY (organisation_id, request_id)
) WITHOUT ROWID;

INSERT INTO records_found
SELECT
    o.organisation_id, o.request_id, o.number, r.meter_id,
    CASE
        WHEN r.status = 'finished' THEN 0
        WHEN r.status = 'interrupted' THEN 1
        WHEN r.status = 'failed' THEN 2
        WHEN r.error IN ('rate_limited', 'credits_held') THEN 4
        WHEN r.error IN ('insufficient_credits', 'key_cap_spent') THEN 5
        ELSE 3
    END
FROM records_of o
JOIN usage_records r ON r.number = o.number
ORDER BY o.organisation_id, o.request_id;

DROP TABLE records_of;
ALTER TABLE records_found RENAME TO records_of;
CREATE INDEX records_by_meter ON records_of (meter_id, outcome, request_id);

-- What was indexed before has its costs split once, here: each record at the prices of its admission. Classes are
-- charged in their order, up to what the request cost.
CREATE TABLE split_costs (
    meter_id BIGINT NOT NULL,
    hour BIGINT NOT NULL,
    input BIGINT NOT NULL,
    cached BIGINT NOT NULL,
    image BIGINT NOT NULL,
    output BIGINT NOT NULL,
    reasoning BIGINT NOT NULL,
    PRIMARY KEY (meter_id, hour)
) WITHOUT ROWID;

INSERT INTO split_costs
WITH priced AS (
    SELECT
        r.meter_id, r.at, r.cost_ticks, r.prompt_tokens - r.cached_tokens - r.image_tokens AS input_tokens,
        r.cached_tokens, r.image_tokens, r.output_tokens, r.reasoning_tokens,
        CASE WHEN p.long_context_threshold > 0 AND r.prompt_tokens >= p.long_context_threshold THEN 1 ELSE 0 END
        AS is_long,
        p.input_ticks AS input_short, COALESCE(p.cached_input_ticks, p.input_ticks) AS cached_short,
        COALESCE(p.image_ticks, p.input_ticks) AS image_short, p.output_ticks AS output_short,
        COALESCE(p.reasoning_ticks, p.output_ticks) AS reasoning_short,
        NULLIF(p.input_long_context_ticks, 0) AS input_long,
        NULLIF(p.cached_input_long_context_ticks, 0) AS cached_long,
        NULLIF(p.image_long_context_ticks, 0) AS image_long, NULLIF(p.output_long_context_ticks, 0) AS output_long,
        COALESCE(NULLIF(p.reasoning_long_context_ticks, 0), NULLIF(p.output_long_context_ticks, 0)) AS reasoning_long
    FROM usage_records r
    JOIN meters m ON m.id = r.meter_id
    JOIN prices p ON
        p.model = m.model
        AND p.effective_from = (
            SELECT MAX(q.effective_from) FROM prices q WHERE q.model = m.model AND q.effective_from <= r.began_at
        )
        AND p.recorded_at = (
            SELECT MAX(q.recorded_at) FROM prices q WHERE q.model = m.model AND q.effective_from = p.effective_from
        )
    WHERE r.cost_ticks > 0 AND r.number <= (SELECT value FROM facts WHERE name = 'records_indexed')
),
costs AS (
    SELECT
        meter_id, at, cost_ticks,
        input_tokens * CASE WHEN is_long = 1 THEN COALESCE(input_long, input_short) ELSE input_short END AS input,
        cached_tokens * CASE WHEN is_long = 1 THEN COALESCE(cached_long, cached_short) ELSE cached_short END AS cached,
        image_tokens * CASE WHEN is_long = 1 THEN COALESCE(image_long, image_short) ELSE image_short END AS image,
        output_tokens * CASE WHEN is_long = 1 THEN COALESCE(output_long, output_short) ELSE output_short END AS output,
        reasoning_tokens
        * CASE WHEN is_long = 1 THEN COALESCE(reasoning_long, reasoning_short) ELSE reasoning_short END AS reasoning
    FROM priced
),
added AS (
    SELECT
        meter_id, at, cost_ticks, input AS to_input, input + cached AS to_cached, input + cached + image AS to_image,
        input + cached + image + output AS to_output, input + cached + image + output + reasoning AS to_reasoning
    FROM costs
),
bounded AS (
    SELECT
        meter_id, at,
        CASE WHEN to_input < cost_ticks THEN to_input ELSE cost_ticks END AS to_input,
        CASE WHEN to_cached < cost_ticks THEN to_cached ELSE cost_ticks END AS to_cached,
        CASE WHEN to_image < cost_ticks THEN to_image ELSE cost_ticks END AS to_image,
        CASE WHEN to_output < cost_ticks THEN to_output ELSE cost_ticks END AS to_output,
        CASE WHEN to_reasoning < cost_ticks THEN to_reasoning ELSE cost_ticks END AS to_reasoning
    FROM added
)
SELECT
    meter_id, at / 3600000000, SUM(to_input), SUM(to_cached - to_input), SUM(to_image - to_cached),
    SUM(to_output - to_image), SUM(to_reasoning - to_output)
FROM bounded
GROUP BY meter_id, at / 3600000000;

UPDATE usage_hours SET
    input_cost_ticks = s.input, cached_cost_ticks = s.cached, image_cost_ticks = s.image,
    output_cost_ticks = s.output, reasoning_cost_ticks = s.reasoning
FROM split_costs s
WHERE s.meter_id = usage_hours.meter_id AND s.hour = usage_hours.hour;

UPDATE usage_days SET
    input_cost_ticks = s.input, cached_cost_ticks = s.cached, image_cost_ticks = s.image,
    output_cost_ticks = s.output, reasoning_cost_ticks = s.reasoning
FROM (
    SELECT
        meter_id, hour / 24 AS day, SUM(input) AS input, SUM(cached) AS cached, SUM(image) AS image,
        SUM(output) AS output, SUM(reasoning) AS reasoning
    FROM split_costs
    GROUP BY meter_id, hour / 24
) s
WHERE s.meter_id = usage_days.meter_id AND s.day = usage_days.day;

DROP TABLE split_costs;
