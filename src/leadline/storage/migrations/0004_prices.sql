-- Append-only: what a model costs from a moment on, in ticks per token. Of several rows for one moment, the one recorded
-- last counts. NULL costs as `input_ticks`, for reasoning as `output_ticks`; a long-context price of 0 as without.
CREATE TABLE prices (
    model TEXT NOT NULL,
    effective_from BIGINT NOT NULL,
    recorded_at BIGINT NOT NULL,
    source TEXT NOT NULL CHECK (source IN ('file', 'command')),
    input_ticks BIGINT NOT NULL,
    cached_input_ticks BIGINT,
    image_ticks BIGINT,
    output_ticks BIGINT NOT NULL,
    reasoning_ticks BIGINT,
    long_context_threshold BIGINT NOT NULL,
    input_long_context_ticks BIGINT NOT NULL,
    cached_input_long_context_ticks BIGINT NOT NULL,
    image_long_context_ticks BIGINT NOT NULL,
    output_long_context_ticks BIGINT NOT NULL,
    reasoning_long_context_ticks BIGINT NOT NULL,
    PRIMARY KEY (model, effective_from, recorded_at)
);
