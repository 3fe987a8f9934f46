-- What each model, key and endpoint of an organisation used as a whole, by the hour and the day: pages read these where
-- they tell nothing else apart. Written by who reads, for the records since `records_indexed`, with the index of records.
CREATE TABLE usage_hours_by (
    organisation_id TEXT NOT NULL,
    side TEXT NOT NULL CHECK (side IN ('model', 'key', 'endpoint')),
    name TEXT NOT NULL,
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
    input_cost_ticks BIGINT NOT NULL,
    cached_cost_ticks BIGINT NOT NULL,
    image_cost_ticks BIGINT NOT NULL,
    output_cost_ticks BIGINT NOT NULL,
    reasoning_cost_ticks BIGINT NOT NULL,
    PRIMARY KEY (organisation_id, side, name, hour)
) WITHOUT ROWID;

CREATE TABLE usage_days_by (
    organisation_id TEXT NOT NULL,
    side TEXT NOT NULL CHECK (side IN ('model', 'key', 'endpoint')),
    name TEXT NOT NULL,
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
    input_cost_ticks BIGINT NOT NULL,
    cached_cost_ticks BIGINT NOT NULL,
    image_cost_ticks BIGINT NOT NULL,
    output_cost_ticks BIGINT NOT NULL,
    reasoning_cost_ticks BIGINT NOT NULL,
    PRIMARY KEY (organisation_id, side, name, day)
) WITHOUT ROWID;

-- Records that are not indexed yet count in `usage_hours` already. They are taken out here: whoever indexes them adds
-- them.
INSERT INTO usage_hours_by
WITH sides AS (SELECT 'model' AS side UNION ALL SELECT 'key' UNION ALL SELECT 'endpoint'),
indexed AS (
    SELECT
        meter_id, hour, requests, failed, refused, prompt_tokens, cached_tokens, image_tokens, output_tokens,
        reasoning_tokens, cost_ticks, input_cost_ticks, cached_cost_ticks, image_cost_ticks, output_cost_ticks,
        reasoning_cost_ticks
    FROM usage_hours
    UNION ALL
    SELECT
        meter_id, at / 3600000000, -1, CASE status WHEN 'failed' THEN -1 ELSE 0 END,
        CASE status WHEN 'refused' THEN -1 ELSE 0 END, -prompt_tokens, -cached_tokens, -image_tokens, -output_tokens,
        -reasoning_tokens, -cost_ticks, 0, 0, 0, 0, 0
    FROM usage_records
    WHERE number > (SELECT value FROM facts WHERE name = 'records_indexed')
)
SELECT
    m.organisation_id, s.side, CASE s.side WHEN 'model' THEN m.model WHEN 'key' THEN m.key_id ELSE m.endpoint END,
    i.hour, SUM(i.requests), SUM(i.failed), SUM(i.refused), SUM(i.prompt_tokens), SUM(i.cached_tokens),
    SUM(i.image_tokens), SUM(i.output_tokens), SUM(i.reasoning_tokens), SUM(i.cost_ticks), SUM(i.input_cost_ticks),
    SUM(i.cached_cost_ticks), SUM(i.image_cost_ticks), SUM(i.output_cost_ticks), SUM(i.reasoning_cost_ticks)
FROM indexed i
JOIN meters m ON m.id = i.meter_id
CROSS JOIN sides s
GROUP BY 1, 2, 3, 4
HAVING SUM(i.requests) <> 0;

INSERT INTO usage_days_by
SELECT
    organisation_id, side, name, hour / 24, SUM(requests), SUM(failed), SUM(refused), SUM(prompt_tokens),
    SUM(cached_tokens), SUM(image_tokens), SUM(output_tokens), SUM(reasoning_tokens), SUM(cost_ticks),
    SUM(input_cost_ticks), SUM(cached_cost_ticks), SUM(image_cost_ticks), SUM(output_cost_ticks),
    SUM(reasoning_cost_ticks)
FROM usage_hours_by
GROUP BY organisation_id, side, name, hour / 24;
