-- What tells who a customer is stands in the events encrypted with that customer's own key. Without the key
-- it says nothing any more: in the events, in the stream's copies, in the views and in their backups.
--
-- Keep this table out of long-lived backups, or a restored one remembers who was forgotten.

CREATE TABLE customer_keys (
    customer_id uuid        PRIMARY KEY,
    key         bytea       NOT NULL CHECK (octet_length(key) = 64),
    made_at     timestamptz NOT NULL DEFAULT now()
);

-- A key goes in the transaction of the event that says so, whoever appends it.
CREATE FUNCTION forget_customer_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM customer_keys WHERE customer_id = NEW.aggregate_id::uuid;
    RETURN NULL;
END $$;
CREATE TRIGGER forget_customer_key AFTER INSERT ON events
    FOR EACH ROW WHEN (NEW.event_type = 'CustomerForgotten') EXECUTE FUNCTION forget_customer_key();
