-- Whom an identity provider's subjects are to the shop, and the way to old answers.

-- A subject of an identity provider and the customer that registering with its token has bound it to.
-- It says who a customer is, so it goes when the customer is forgotten.
CREATE TABLE subjects (
    issuer      text        NOT NULL,
    subject     text        NOT NULL,
    customer_id uuid        NOT NULL UNIQUE,
    bound_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (issuer, subject)
);

-- In the transaction of the append: from there on the subject is nobody's.
CREATE FUNCTION forget_subject() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM subjects s WHERE s.customer_id = NEW.aggregate_id::uuid;
    RETURN NULL;
END $$;
CREATE TRIGGER forget_subject AFTER INSERT ON events
    FOR EACH ROW WHEN (NEW.event_type = 'CustomerForgotten') EXECUTE FUNCTION forget_subject();

-- For the purge of answers that no repeat will ask for any more.
CREATE INDEX idempotency_by_age ON idempotency (recorded_at);
