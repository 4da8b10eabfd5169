-- Raised whenever rows were changed beside the projector, as when a parked key is tried again: a projector that knows
-- rows from before knows by it that they may be others now.
ALTER TABLE views ADD COLUMN edition bigint NOT NULL DEFAULT 0;
