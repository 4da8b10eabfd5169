-- What operators have decided about keys that a view or a process has parked, by whom and why. It lies beside the
-- log and not beside the rows: the views' database may be dropped any day, and what is made anew must leave out what
-- was skipped.
CREATE TABLE parking_decisions (
    number    bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at        timestamptz NOT NULL DEFAULT now(),
    -- The view or the process.
    reader    text        NOT NULL,
    key       text        NOT NULL,
    decision  text        NOT NULL CHECK (decision IN ('retry', 'skip')),
    -- Of the events that were parked when it was decided.
    positions bigint[]    NOT NULL,
    actor     text        NOT NULL,
    reason    text
);
CREATE INDEX parking_decisions_reader ON parking_decisions (reader, number DESC);
