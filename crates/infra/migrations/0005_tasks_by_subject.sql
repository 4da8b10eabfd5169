-- A task is about a rental, or about a deposit of points by card, which is known by its payment.
ALTER TABLE tasks RENAME COLUMN rental_id TO subject;
