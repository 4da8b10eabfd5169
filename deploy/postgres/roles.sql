-- Who may do what in the log's database. Run it there, as the database's owner with the right to create roles, after
-- each `rentstream migrate`; running it again changes nothing:
--
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f deploy/postgres/roles.sql
--
-- Then give each role of the program a login of its own:
--
--   CREATE ROLE shop_relay LOGIN PASSWORD '…' IN ROLE rentstream_follow;
--
--   migrate                         the database's owner
--   command-api, react, notify      rentstream_append: decides by the append functions; changes no event, no head
--   relay, project                  rentstream_follow: reads events, and nothing that tells who a customer is
--   query-api                       rentstream_query: reads events, keys and notices
--
-- project and query-api have the views' database, which holds nothing that isn't made again, under an owner of its
-- own who may do nothing here.
BEGIN;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['rentstream_append', 'rentstream_follow', 'rentstream_query'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        END IF;
    END LOOP;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO rentstream_append, rentstream_follow, rentstream_query',
        current_database());
END $$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO rentstream_append, rentstream_follow, rentstream_query;
-- From a clean slate, so that what a role had before and shouldn't have goes.
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC, rentstream_append, rentstream_follow, rentstream_query;

-- Appending is by the functions that keep the log's promises, and by them alone: they run as the owner, on the tables
-- of this schema whatever the caller's path is.
DO $$
DECLARE
    writes regprocedure;
BEGIN
    FOR writes IN
        SELECT p.oid::regprocedure FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace
            AND p.proname IN ('append', 'append_at', 'append_behind', 'take_head')
    LOOP
        EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER SET search_path = public, pg_temp', writes);
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', writes);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO rentstream_append', writes);
    END LOOP;
END $$;

GRANT SELECT ON events, log_head TO rentstream_append, rentstream_follow, rentstream_query;
GRANT INSERT, UPDATE, DELETE, SELECT ON idempotency, snapshots, checkpoints, tasks, parked, notices
    TO rentstream_append;
-- A key goes with its customer's last event, in the append. None is changed, but the conflict clause that gives back
-- the one that is there asks for that right.
GRANT SELECT, INSERT, UPDATE (key) ON customer_keys TO rentstream_append;
GRANT SELECT, INSERT ON subjects, operations TO rentstream_append;

GRANT SELECT ON customer_keys, subjects, notices, operations TO rentstream_query;
-- What an operator decides of a view's parked keys is written down beside the log; its projector honours it.
GRANT SELECT ON parking_decisions TO rentstream_follow;
GRANT SELECT, INSERT ON parking_decisions TO rentstream_query;
-- Whoever starts before the schema is there waits for it.
GRANT SELECT ON _sqlx_migrations TO rentstream_append, rentstream_follow, rentstream_query;
-- To wait for an append that is under way (`?as_of=` a time), it must be allowed to lock the head's row. That asks for
-- the right to update some column: one that can have no other value.
GRANT UPDATE (only_row) ON log_head TO rentstream_query;

COMMIT;
