-- What is known of the views. The database can be dropped any day: everything in it follows from the log.

-- Every generation of every view. A rebuild fills the next generation beside the one that serves.
CREATE TABLE views (
    name       text        NOT NULL,
    generation integer     NOT NULL,
    -- What the rows were folded by; another version of the program may fold otherwise.
    version    integer     NOT NULL,
    state      text        NOT NULL CHECK (state IN ('building', 'serving', 'old')),
    -- The last event that is in the rows. Moved in the transaction that writes them.
    position   bigint      NOT NULL DEFAULT 0,
    made_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name, generation)
);
CREATE UNIQUE INDEX one_serves ON views (name) WHERE state = 'serving';

-- Keys with an event that could not be applied, and all their later events; others flow on.
CREATE TABLE parked (
    view        text        NOT NULL,
    generation  integer     NOT NULL,
    key         text        NOT NULL,
    customer_id uuid,
    positions   bigint[]    NOT NULL,
    error       text        NOT NULL,
    since       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (view, generation, key)
);
