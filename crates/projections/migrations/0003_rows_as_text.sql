-- Rows are JSON as text from now on, and their columns are written beside them. Views that were made before are made
-- anew from the log.
DO $$
DECLARE made record;
BEGIN
    FOR made IN SELECT name, generation FROM views LOOP
        EXECUTE format('DROP VIEW IF EXISTS %I', replace(made.name, '-', '_'));
        EXECUTE format('DROP TABLE IF EXISTS %I', replace(made.name, '-', '_') || '_' || made.generation);
    END LOOP;
    DELETE FROM parked;
    DELETE FROM views;
END $$;
