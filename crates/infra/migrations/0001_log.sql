-- The log: every decision of the shop, in the order in which it was committed.
--
-- The first seven columns are postgres-es's own, so that the stock library can read the log.

CREATE TABLE events (
    aggregate_type text                         NOT NULL,
    aggregate_id   text                         NOT NULL,
    sequence       bigint CHECK (sequence >= 0) NOT NULL,
    event_type     text                         NOT NULL,
    event_version  text                         NOT NULL,
    payload        json                         NOT NULL,
    metadata       json                         NOT NULL,
    -- 1, 2, 3, … in commit order, without holes, for the whole system.
    position       bigint                       NOT NULL UNIQUE,
    event_id       uuid                         NOT NULL,
    -- Never earlier than that of the position before.
    recorded_at    timestamptz                  NOT NULL,
    PRIMARY KEY (aggregate_type, aggregate_id, sequence)
);

-- The log's head is one row. An append takes it and holds it until it commits, so whoever has seen
-- position n can only next see n + 1.
CREATE TABLE log_head (
    only_row    boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    position    bigint      NOT NULL,
    recorded_at timestamptz NOT NULL
);
INSERT INTO log_head (position, recorded_at) VALUES (0, '-infinity');

-- What was answered to a write that carried an Idempotency-Key, kept in the transaction of its events.
CREATE TABLE idempotency (
    caller      text        NOT NULL,
    key         text        NOT NULL,
    -- SHA-256 of the request.
    fingerprint bytea       NOT NULL,
    -- The HTTP answer; null for a rental, whose answer is read from its own events.
    status      smallint,
    answer      text,
    position    bigint      NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (caller, key)
);

-- Appends the events of many commands in one commit.
--
-- One request is the events of one command: they continue stream (type, id) at sequence `first`. A request
-- whose place in its stream is taken is a 'conflict' and one whose Idempotency-Key is taken is 'claimed';
-- neither touches the others. No two requests of a call may be of the same stream or the same key.
--
-- The head's lock is one statement and the insert the next, so that the insert's snapshot is taken under
-- the lock and the checks in it are exact.
CREATE FUNCTION append(
    request_types text[], request_ids text[], request_firsts bigint[],
    callers text[], keys text[], fingerprints bytea[], statuses smallint[], answers text[],
    event_requests bigint[], event_ids uuid[], event_types text[], event_versions text[],
    payloads text[], metadatas text[]
) RETURNS TABLE (request bigint, outcome text, last_position bigint)
LANGUAGE plpgsql
-- A plan made while the table is empty would scan it for ever after.
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
-- What is switched off is still used where nothing else is possible, at a cost that would set off the
-- compiler: tens of milliseconds for each append.
SET jit = off
AS $$
DECLARE
    base   bigint;
    moment timestamptz;
    added  bigint;
BEGIN
    SELECT h.position, greatest(h.recorded_at, clock_timestamp()) INTO STRICT base, moment
    FROM log_head h FOR UPDATE;

    RETURN QUERY
    WITH asked AS (
        SELECT r.n, r.type, r.id, r.first, r.caller, r.key, r.fingerprint, r.status, r.answer,
            CASE
                WHEN r.key IS NOT NULL AND EXISTS (
                    SELECT FROM idempotency i WHERE i.caller = r.caller AND i.key = r.key
                ) THEN 'claimed'
                WHEN EXISTS (
                    SELECT FROM events e
                    WHERE e.aggregate_type = r.type AND e.aggregate_id = r.id AND e.sequence = r.first
                ) THEN 'conflict'
                ELSE 'appended'
            END AS outcome
        FROM unnest(request_types, request_ids, request_firsts, callers, keys, fingerprints, statuses, answers)
            WITH ORDINALITY AS r (type, id, first, caller, key, fingerprint, status, answer, n)
    ), placed AS (
        SELECT a.n, a.type, a.id, e.event_id, e.event_type, e.event_version, e.payload, e.metadata,
            a.first + row_number() OVER (PARTITION BY a.n ORDER BY e.n) - 1 AS sequence,
            base + row_number() OVER (ORDER BY e.n) AS position
        FROM unnest(event_requests, event_ids, event_types, event_versions, payloads, metadatas)
            WITH ORDINALITY AS e (request, event_id, event_type, event_version, payload, metadata, n)
        JOIN asked a ON a.n = e.request AND a.outcome = 'appended'
    ), inserted AS (
        INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
            metadata, position, event_id, recorded_at)
        SELECT p.type, p.id, p.sequence, p.event_type, p.event_version, p.payload::json, p.metadata::json,
            p.position, p.event_id, moment
        FROM placed p
    ), claimed AS (
        INSERT INTO idempotency (caller, key, fingerprint, status, answer, position, recorded_at)
        SELECT a.caller, a.key, a.fingerprint, a.status, a.answer,
            coalesce((SELECT max(p.position) FROM placed p WHERE p.n = a.n), base), moment
        FROM asked a WHERE a.outcome = 'appended' AND a.key IS NOT NULL
    )
    SELECT a.n, a.outcome, (SELECT max(p.position) FROM placed p WHERE p.n = a.n) FROM asked a;

    SELECT count(*) INTO added FROM events e WHERE e.position > base;
    IF added > 0 THEN
        UPDATE log_head SET position = base + added, recorded_at = moment;
        PERFORM pg_notify('rentstream_appended', (base + added)::text);
    END IF;
END $$;

-- The log is append-only for everybody, its owner and a superuser included.
REVOKE UPDATE, DELETE, TRUNCATE ON events FROM PUBLIC;
DO $$ BEGIN EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON events FROM %I', current_user); END $$;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the log is append-only: % on % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- How far each process has read.
CREATE TABLE checkpoints (
    reader   text   PRIMARY KEY,
    position bigint NOT NULL
);

-- What a process still has to look at. Written with the checkpoint, so no wake-up is lost.
CREATE TABLE tasks (
    process      text        NOT NULL,
    rental_id    uuid        NOT NULL,
    -- The last event that asked for it: a wake-up during a run isn't taken for done.
    woken_at     bigint      NOT NULL,
    due_at       timestamptz NOT NULL,
    attempts     integer     NOT NULL DEFAULT 0,
    last_error   text,
    PRIMARY KEY (process, rental_id)
);
CREATE INDEX tasks_due ON tasks (process, due_at);

-- Keys whose events can't be read, with all their later events; others flow on.
CREATE TABLE parked (
    reader    text        NOT NULL,
    key       text        NOT NULL,
    positions bigint[]    NOT NULL,
    error     text        NOT NULL,
    since     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (reader, key)
);
