-- A customer is told one thing after the other, and only what has its turn is due at a time. What waits behind it is
-- due never ('infinity') until it has: so whoever takes what is due comes by nothing that can't be taken, however much
-- a customer still is to be told.

-- Gives each of these customers' first notice its turn, if it has none.
CREATE FUNCTION next_turns(by_channel text, customers uuid[]) RETURNS void LANGUAGE sql AS $$
    UPDATE notices n SET due_at = now()
    FROM unnest(customers) AS c (id), LATERAL (
        SELECT f.notice_id FROM notices f
        WHERE f.channel = by_channel AND f.customer_id = c.id AND f.state = 'waiting'
        ORDER BY f.position LIMIT 1
    ) AS f
    WHERE n.channel = by_channel AND n.notice_id = f.notice_id AND n.due_at = 'infinity'
$$;

-- Who notes gives turns, and who settles a notice does: one after the other, as else neither would see what the other
-- has done and a notice would wait for nobody; nor may two settle what is the same customer's. Each statement sees what
-- was committed before the lock was got.
CREATE FUNCTION give_turns(by_channel text, customers uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('notices'), hashtext(by_channel));
    PERFORM next_turns(by_channel, customers);
END $$;

CREATE FUNCTION give_next_turn() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('notices'), hashtext(NEW.channel));
    PERFORM pg_advisory_xact_lock(hashtextextended(NEW.channel || NEW.customer_id, 0));
    PERFORM next_turns(NEW.channel, ARRAY[NEW.customer_id]);
    RETURN NULL;
END $$;
CREATE TRIGGER give_next_turn AFTER UPDATE OF state ON notices FOR EACH ROW
    WHEN (OLD.state = 'waiting' AND NEW.state <> 'waiting') EXECUTE FUNCTION give_next_turn();

-- In the order in which they are taken, ties included: the first few are found without the others.
DROP INDEX notices_due;
CREATE INDEX notices_due ON notices (channel, due_at, position) WHERE state = 'waiting';

UPDATE notices SET due_at = 'infinity' WHERE (channel, notice_id) IN (
    SELECT channel, notice_id FROM (
        SELECT channel, notice_id, row_number() OVER (PARTITION BY channel, customer_id ORDER BY position) AS turn
        FROM notices WHERE state = 'waiting'
    ) AS waiting WHERE turn > 1
);
