-- Appends as `append_at` does, which stays for a process of before that still runs. Whether a claim is taken isn't looked for
-- before it's inserted: it is a unique violation of `idempotency_pkey` then, and nothing is written.
--
-- Its plans are made once. They were made anew for each commit: for a few events the planner expects less than of a plan for
-- any number.
CREATE FUNCTION append_behind(
    expected bigint,
    aggregate_types text[], aggregate_ids text[], sequences bigint[], event_ids uuid[], event_types text[],
    event_versions text[], payloads text[], metadatas text[],
    callers text[], keys text[], fingerprints bytea[], statuses smallint[], answers text[], afters bigint[]
) RETURNS bigint
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    head   bigint;
    moment timestamptz;
BEGIN
    SELECT h.position, greatest(h.recorded_at, clock_timestamp()) INTO STRICT head, moment
    FROM log_head h FOR UPDATE;
    IF head <> expected THEN
        RETURN head;
    END IF;

    -- The claims go first: see 0010.
    IF cardinality(keys) > 0 THEN
        INSERT INTO idempotency (caller, key, fingerprint, status, answer, position, recorded_at)
        SELECT c.caller, c.key, c.fingerprint, c.status, c.answer, head + c.after, moment
        FROM unnest(callers, keys, fingerprints, statuses, answers, afters)
            AS c (caller, key, fingerprint, status, answer, after);
    END IF;

    IF cardinality(event_ids) > 0 THEN
        INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata,
            position, event_id, recorded_at)
        SELECT e.type, e.id, e.sequence, e.event_type, e.event_version, e.payload::json, e.metadata::json,
            head + e.n, e.event_id, moment
        FROM unnest(aggregate_types, aggregate_ids, sequences, event_ids, event_types, event_versions, payloads,
            metadatas) WITH ORDINALITY
            AS e (type, id, sequence, event_id, event_type, event_version, payload, metadata, n);
        UPDATE log_head SET position = head + cardinality(event_ids), recorded_at = moment;
        PERFORM pg_notify('rentstream_appended', (head + cardinality(event_ids))::text);
    END IF;
    RETURN head;
END $$;

-- So are this one's: of a plan for any position the planner expects a third of the log.
ALTER FUNCTION take_head(bigint, bigint) SET plan_cache_mode = force_generic_plan;
