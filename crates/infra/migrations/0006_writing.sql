-- Writing by a process that knows the log.
--
-- The log has no gaps, so one number tells a writer whether what it holds in memory is current: the position of
-- the log's head. It appends at the head that it knows; if somebody else has moved it, nothing is written, and the
-- writer reads what they wrote before it decides anew. See docs/adr/0010-aggregates-in-memory.md.

-- Ids are compared byte by byte: half of what an insert costs is finding its place in the index.
ALTER TABLE events
    ALTER COLUMN aggregate_type TYPE text COLLATE "C",
    ALTER COLUMN aggregate_id TYPE text COLLATE "C";

-- Appends the events of many commands in one commit, if the head is where it's expected; gives where it was.
--
-- Event n of the arrays gets position head + n. A claim is an Idempotency-Key with what was answered, as true
-- after so many of these events. One that is taken is error RS001, and nothing is written.
--
-- The head's lock is one statement and the insert the next, so that nobody comes between.
CREATE FUNCTION append_at(
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
    RETURN head;
END $$;

-- Takes the head and keeps it until the transaction ends: nobody else appends meanwhile. Gives the head in a row
-- of its own, then the events that came after `seen`, unless they are more than `most`.
CREATE FUNCTION take_head(seen bigint, most bigint)
RETURNS TABLE (head bigint, place bigint, type text, id text, sequence_of bigint, content text)
LANGUAGE plpgsql
-- A plan made while the table is empty would scan it for ever after.
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    found bigint;
BEGIN
    SELECT h.position INTO STRICT found FROM log_head h FOR UPDATE;
    RETURN QUERY SELECT found, NULL::bigint, NULL::text, NULL::text, NULL::bigint, NULL::text;
    IF found > seen AND found - seen <= most THEN
        RETURN QUERY
        SELECT found, e.position, e.aggregate_type, e.aggregate_id, e.sequence, e.payload::text
        FROM events e WHERE e.position > seen ORDER BY e.position;
    END IF;
END $$;

-- Folded aggregates, so that a long stream loads as quickly as a short one. Only a cache: a row that another
-- version of the rules has folded is as good as none, and all of them may be deleted any day.
CREATE TABLE snapshots (
    aggregate_type text COLLATE "C" NOT NULL,
    aggregate_id   text COLLATE "C" NOT NULL,
    -- How many events are folded in it.
    version        bigint NOT NULL,
    -- Where the last of them is in the log.
    position       bigint NOT NULL,
    -- By which rules: a fingerprint of their source.
    fold           text   NOT NULL,
    state          text   NOT NULL,
    PRIMARY KEY (aggregate_type, aggregate_id)
);

-- The streams' states, each by its snapshot and the events after it, in order.
CREATE FUNCTION load_streams(types text[], ids text[], rules text)
RETURNS TABLE (stream bigint, version_of bigint, place bigint, content text, folded boolean)
LANGUAGE plpgsql STABLE
-- A plan made while the table is empty would scan it for ever after.
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
BEGIN
    RETURN QUERY
    WITH asked AS (
        SELECT a.n, a.type, a.id, s.version, s.position, s.state
        FROM unnest(types, ids) WITH ORDINALITY AS a (type, id, n)
        LEFT JOIN snapshots s
            ON s.aggregate_type = a.type COLLATE "C" AND s.aggregate_id = a.id COLLATE "C" AND s.fold = rules
    )
    SELECT a.n, a.version, a.position, a.state, true FROM asked a WHERE a.state IS NOT NULL
    UNION ALL
    (SELECT a.n, e.sequence, e.position, e.payload::text, false
    FROM asked a
    CROSS JOIN LATERAL (
        SELECT * FROM events e
        WHERE e.aggregate_type = a.type COLLATE "C" AND e.aggregate_id = a.id COLLATE "C"
            AND e.sequence > coalesce(a.version, 0)
    ) e)
    ORDER BY 1, 2;
END $$;

-- What was answered to many requests with an Idempotency-Key.
CREATE FUNCTION answers_to(callers text[], keys text[])
RETURNS TABLE (request bigint, print bytea, code smallint, body text, place bigint, age float8)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
BEGIN
    RETURN QUERY
    SELECT a.n, i.fingerprint, i.status, i.answer, i.position,
        greatest(extract(epoch FROM clock_timestamp() - i.recorded_at), 0)::float8
    FROM unnest(callers, keys) WITH ORDINALITY AS a (caller, key, n)
    JOIN idempotency i ON i.caller = a.caller AND i.key = a.key;
END $$;
