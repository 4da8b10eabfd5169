-- What is to be said over each channel, and what became of it. A row is written with the checkpoint of the
-- channel's reader, so no notice is lost and none is written twice. It names nobody and holds no address.
CREATE TABLE notices (
    -- In the order in which they were noted, for lists.
    number      bigint      GENERATED ALWAYS AS IDENTITY,
    channel     text        NOT NULL,
    notice_id   uuid        NOT NULL,
    -- The event that it tells of.
    position    bigint      NOT NULL,
    customer_id uuid        NOT NULL,
    rental_id   uuid        NOT NULL,
    notice      json        NOT NULL,
    state       text        NOT NULL DEFAULT 'waiting'
        CHECK (state IN ('waiting', 'sent', 'given_up', 'no_address', 'forgotten')),
    noted_at    timestamptz NOT NULL DEFAULT now(),
    -- When it's tried next; while it's being tried, when the one who tries it is taken for dead.
    due_at      timestamptz NOT NULL DEFAULT now(),
    attempts    integer     NOT NULL DEFAULT 0,
    -- For how long it's tried, and until when that is.
    patience    interval    NOT NULL,
    give_up_at  timestamptz NOT NULL,
    last_error  text,
    settled_at  timestamptz,
    PRIMARY KEY (channel, notice_id)
);
CREATE INDEX notices_due ON notices (channel, due_at) WHERE state = 'waiting';
-- A customer is told one thing after the other.
CREATE INDEX notices_turn ON notices (channel, customer_id, position) WHERE state = 'waiting';
CREATE INDEX notices_state ON notices (state, number DESC);
CREATE INDEX notices_id ON notices (notice_id);
CREATE INDEX notices_settled ON notices (channel, settled_at) WHERE settled_at IS NOT NULL;

-- What was done by hand, by whom.
CREATE TABLE operations (
    number  bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT now(),
    actor   text        NOT NULL,
    -- As in 'retry-notice'.
    action  text        NOT NULL,
    -- What it was done to, as in 'smtp/9b2f…'.
    subject text        NOT NULL
);
CREATE INDEX operations_subject ON operations (subject);
