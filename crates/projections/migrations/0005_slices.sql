-- A view is projected in slices: shares of its keys, each with a checkpoint of its own, so that several workers can
-- project one view. One slice is all of it.
CREATE TABLE slices (
    view       text    NOT NULL,
    generation integer NOT NULL,
    slice      integer NOT NULL,
    -- The last event that is in the slice's rows. Moved in the transaction that writes them.
    position   bigint  NOT NULL DEFAULT 0,
    -- Raised whenever rows were changed beside the projector, as when a parked key is tried again, and when the
    -- generation serves no longer: a projector that knows rows from before knows by it that it must look again.
    edition    bigint  NOT NULL DEFAULT 0,
    PRIMARY KEY (view, generation, slice),
    FOREIGN KEY (view, generation) REFERENCES views (name, generation) ON DELETE CASCADE
);
INSERT INTO slices (view, generation, slice, position, edition)
SELECT name, generation, 0, position, edition FROM views;
ALTER TABLE views DROP COLUMN position, DROP COLUMN edition,
    ADD COLUMN slices integer NOT NULL DEFAULT 1 CHECK (slices > 0);

-- Which slice has what is sliced by this; the program says the same.
CREATE FUNCTION slice_of(by uuid, slices integer) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT (('x' || right(by::text, 8))::bit(32)::bigint % slices)::integer $$;

-- The generations that serve. All rows have seen `position`, some have seen more, none more than `furthest`.
CREATE VIEW serving AS
SELECT v.name, v.generation, v.version, v.fingerprint, v.slices, s.position, s.furthest, s.edition
FROM views v CROSS JOIN LATERAL (
    SELECT min(position) AS position, max(position) AS furthest, sum(edition)::bigint AS edition
    FROM slices WHERE view = v.name AND generation = v.generation
) s
WHERE v.state = 'serving';

-- Who projects a view, as long as they say so again and again. Who is forgotten says it again, so nothing is lost
-- when the table is.
CREATE UNLOGGED TABLE workers (
    view   text        NOT NULL,
    worker uuid        NOT NULL,
    until  timestamptz NOT NULL,
    PRIMARY KEY (view, worker)
);
