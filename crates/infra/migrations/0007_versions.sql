-- Whoever reads an event to fold it needs its name and the version of its shape: an older one is lifted first, a
-- newer one isn't read.

DROP FUNCTION take_head(bigint, bigint);
CREATE FUNCTION take_head(seen bigint, most bigint)
RETURNS TABLE (
    head bigint, place bigint, type text, id text, sequence_of bigint, event text, shape text, content text
)
LANGUAGE plpgsql
-- A plan made while the table is empty would scan it for ever after.
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    found bigint;
BEGIN
    SELECT h.position INTO STRICT found FROM log_head h FOR UPDATE;
    RETURN QUERY
    SELECT found, NULL::bigint, NULL::text, NULL::text, NULL::bigint, NULL::text, NULL::text, NULL::text;
    IF found > seen AND found - seen <= most THEN
        RETURN QUERY
        SELECT found, e.position, e.aggregate_type, e.aggregate_id, e.sequence, e.event_type, e.event_version,
            e.payload::text
        FROM events e WHERE e.position > seen ORDER BY e.position;
    END IF;
END $$;

DROP FUNCTION load_streams(text[], text[], text);
CREATE FUNCTION load_streams(types text[], ids text[], rules text)
RETURNS TABLE (
    stream bigint, version_of bigint, place bigint, event text, shape text, content text, folded boolean
)
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
    SELECT a.n, a.version, a.position, '', '', a.state, true FROM asked a WHERE a.state IS NOT NULL
    UNION ALL
    (SELECT a.n, e.sequence, e.position, e.event_type, e.event_version, e.payload::text, false
    FROM asked a
    CROSS JOIN LATERAL (
        SELECT * FROM events e
        WHERE e.aggregate_type = a.type COLLATE "C" AND e.aggregate_id = a.id COLLATE "C"
            AND e.sequence > coalesce(a.version, 0)
    ) e)
    ORDER BY 1, 2;
END $$;
