-- Which rows a page of events changed, for those who watch them: so that no index need follow every change of a row.
-- The projector writes it in the statement that moves the slice's checkpoint there, and forgets what is old.
CREATE TABLE changes (
    view       text    NOT NULL,
    generation integer NOT NULL,
    -- Where the slice's checkpoint came to by the page.
    position   bigint  NOT NULL,
    slice      integer NOT NULL,
    keys       uuid[]  NOT NULL,
    PRIMARY KEY (view, generation, position, slice)
);
