-- Of the definition that the rows were folded by; 0 where it isn't known, as it's none that a definition has.
ALTER TABLE views ADD COLUMN fingerprint bigint NOT NULL DEFAULT 0;
