-- The claims go first: who repeats a request whose streams are there already, and whose key this process hasn't seen, is
-- found out by the key, and nobody takes it for somebody else's write.
CREATE OR REPLACE FUNCTION append_at(
    expected bigint,
    aggregate_types text[], aggregate_ids text[], sequences bigint[], event_ids uuid[], event_types text[],
    event_versions text[], payloads text[], metadatas text[],
    callers text[], keys text[], fingerprints bytea[], statuses smallint[], answers text[], afters bigint[]
) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    head   bigint;
    moment timestamptz;
    kept   bigint;
BEGIN
    SELECT h.position, greatest(h.recorded_at, clock_timestamp()) INTO STRICT head, moment
    FROM log_head h FOR UPDATE;
    IF head <> expected THEN
        RETURN head;
    END IF;

    IF cardinality(keys) > 0 THEN
        INSERT INTO idempotency (caller, key, fingerprint, status, answer, position, recorded_at)
        SELECT c.caller, c.key, c.fingerprint, c.status, c.answer, head + c.after, moment
        FROM unnest(callers, keys, fingerprints, statuses, answers, afters)
            AS c (caller, key, fingerprint, status, answer, after)
        ON CONFLICT (caller, key) DO NOTHING;
        GET DIAGNOSTICS kept = ROW_COUNT;
        IF kept < cardinality(keys) THEN
            RAISE EXCEPTION 'an idempotency key is taken' USING ERRCODE = 'RS001';
        END IF;
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
