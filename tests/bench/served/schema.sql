-- A hundred customers with forty orders each: a page of twenty is read from the middle of an index.
CREATE TABLE customer (id integer PRIMARY KEY, name text NOT NULL, city text NOT NULL);
CREATE TABLE customer_order (
    id integer PRIMARY KEY,
    customer_id integer NOT NULL REFERENCES customer (id),
    article text NOT NULL,
    price numeric(10, 2) NOT NULL,
    ordered_at timestamptz NOT NULL
);
INSERT INTO customer SELECT n, 'Customer ' || n, 'City ' || n % 10 FROM generate_series(1, 100) n;
INSERT INTO customer_order
    SELECT n, 1 + n % 100, 'Article ' || n % 37, n % 500 + 0.99, timestamptz '2026-01-01Z' + n * interval '1 minute'
    FROM generate_series(1, 4000) n;
CREATE INDEX customer_order_newest ON customer_order (customer_id, id DESC);
-- What bench.throughput reads, and from 10001 on changes: room on each page, so that a change keeps to its page (HOT).
CREATE TABLE item (id integer PRIMARY KEY, name text NOT NULL, value integer NOT NULL) WITH (fillfactor = 50);
INSERT INTO item SELECT n, 'Item <' || n || '>', n * 7 % 10007 FROM generate_series(1, 20000) n;
VACUUM ANALYZE;
