-- Rows for the tables of objects.sql, if they accept any.
SET search_path = app, public;
ALTER TABLE no_key DISABLE TRIGGER never;
INSERT INTO no_key SELECT 1, 'twice' FROM generate_series(1, 3);
INSERT INTO no_key VALUES (NULL, NULL), (2, E'a\tb\\n\n');
ALTER TABLE no_key ENABLE ALWAYS TRIGGER never;
INSERT INTO no_columns DEFAULT VALUES;
INSERT INTO users (id, mail, nick, feeling, p, s, n, bits, doc, ts, price, kv, odd)
    SELECT gen_random_uuid(), 'u' || n || '@example.org', 'N' || n, ARRAY['sad', NULL]::mood[], ROW(n, 'b;')::pair,
        span(n, n + 0.5), n, B'101', jsonb_build_object('n', n), to_tsvector('simple', 'a b ' || n), n, hstore('k', n::text), repeat('x', n * 40)
    FROM generate_series(1, 400) AS n;
INSERT INTO contacts (user_id, name) SELECT id, 'c' || mail FROM users, generate_series(1, 3);
INSERT INTO contacts (id, user_id, name, boss) OVERRIDING SYSTEM VALUE
    SELECT -1, user_id, 'boss of herself', -1 FROM contacts LIMIT 1;
UPDATE contacts SET boss = -1 WHERE id % 2 = 0;
INSERT INTO keyed_by_index SELECT n, 'b' || n, n FROM generate_series(1, 300) AS n;
INSERT INTO scratch SELECT generate_series(1, 10);
INSERT INTO reservations SELECT n, tstzrange('2026-01-01'::timestamptz + n * interval '1 day', '2026-01-01'::timestamptz + (n + 1) * interval '1 day')
    FROM generate_series(1, 20) AS n;
INSERT INTO "-- Name: x; Type: TABLE; Schema: y; Owner: z" VALUES (1, 2, 3);
INSERT INTO "Ünï; code -- Name: x"."123456789_123456789_123456789_123456789_123456789_123456789_123" SELECT generate_series(1, 100);
INSERT INTO "line
break" VALUES (7);
INSERT INTO events SELECT i, '2019-01-01'::date + i % 700, repeat('b', i % 50) FROM generate_series(10, 3000) i;
INSERT INTO base SELECT n, 'x' FROM generate_series(1, 50) AS n;
INSERT INTO derived SELECT n, 'y', n FROM generate_series(1, 50) AS n;
CREATE TABLE blobs (id int PRIMARY KEY, bytes bytea, note text);
INSERT INTO blobs SELECT n, decode(repeat(md5(n::text), n * 200), 'hex'), NULL FROM generate_series(1, 40) AS n;
INSERT INTO blobs VALUES (99, decode(repeat('00ff', 1500000), 'hex'), repeat('long ', 30000));
ALTER TABLE blobs OWNER TO ps_app;
SELECT nextval('counter'), setval('untouched', 42, false);
REFRESH MATERIALIZED VIEW filled;
