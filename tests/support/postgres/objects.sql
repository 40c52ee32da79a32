-- As many kinds of objects as one database can contain. The roles ps_app, ps_reader and ps "odd" role must exist.
-- @database@ is replaced by the database's quoted name.
ALTER DATABASE @database@ OWNER TO ps_app;
COMMENT ON DATABASE @database@ IS 'a comment; with -- Name: x; Type: TABLE; Schema: -; Owner: y';
ALTER DATABASE @database@ SET search_path TO app, public;
ALTER DATABASE @database@ SET work_mem TO '7MB';
ALTER ROLE ps_app IN DATABASE @database@ SET statement_timeout TO '5min';
ALTER ROLE "ps ""odd"" role" IN DATABASE @database@ SET application_name TO 'it''s; odd';
GRANT CONNECT, TEMPORARY ON DATABASE @database@ TO ps_reader;
REVOKE CONNECT ON DATABASE @database@ FROM PUBLIC;

CREATE SCHEMA app AUTHORIZATION ps_app;
CREATE SCHEMA "Ünï; code -- Name: x";
CREATE SCHEMA "sch;ema";
COMMENT ON SCHEMA "sch;ema" IS E'two\nlines; $$ and -- \\restrict x';
SET search_path = app, public;

CREATE EXTENSION citext SCHEMA public;
CREATE EXTENSION hstore SCHEMA app;
CREATE EXTENSION postgres_fdw SCHEMA public;
COMMENT ON EXTENSION hstore IS 'changed; comment';

CREATE TYPE mood AS ENUM ('sad', 'o;k', 'it''s', '$$');
CREATE TYPE pair AS (a int, b text COLLATE "C");
CREATE TYPE span AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE TYPE shell;
CREATE DOMAIN positive AS int DEFAULT 1 NOT NULL CHECK (VALUE > 0);
CREATE DOMAIN late AS text;
ALTER DOMAIN late ADD CONSTRAINT not_checked CHECK (VALUE <> ';') NOT VALID;
CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE COLLATION plain FROM "C";

CREATE TABLE log_lines (line text);
CREATE FUNCTION plain_sql(a int, b text DEFAULT 'x;y') RETURNS int LANGUAGE sql IMMUTABLE AS $f$ SELECT a; SELECT length($$;$$); $f$;
CREATE FUNCTION tagged() RETURNS text LANGUAGE plpgsql AS $_x$ BEGIN RETURN $$a; $_ $$ || '$_$x'; END $_x$;
CREATE FUNCTION "-- Name: f; Type: TABLE; Schema: a; Owner: b"() RETURNS text LANGUAGE sql AS $x$ SELECT '
--
-- Name: fake; Type: TABLE; Schema: public; Owner: app
--

CREATE TABLE fake (); '::text $x$;
CREATE FUNCTION atomic(n int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT CASE WHEN n > 0 THEN 1 ELSE 2 END; SELECT CASE n WHEN 1 THEN CASE WHEN true THEN 5 END END AS "end"; END;
CREATE FUNCTION one_line(n int) RETURNS int LANGUAGE sql RETURN n + 1;
CREATE PROCEDURE proc(INOUT a int) LANGUAGE sql BEGIN ATOMIC INSERT INTO app.log_lines VALUES (';'); SELECT 1; END;
CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION forbid() RETURNS trigger LANGUAGE plpgsql AS $x$ BEGIN RAISE EXCEPTION 'no; never'; END $x$;
CREATE FUNCTION ddl_seen() RETURNS event_trigger LANGUAGE plpgsql AS $x$ BEGIN NULL; END $x$;
CREATE AGGREGATE total(int) (sfunc = int4pl, stype = int, initcond = '0');
CREATE OPERATOR === (leftarg = int, rightarg = int, function = int4eq, commutator = ===);
CREATE FUNCTION pair_text(pair) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ($1).b';
CREATE CAST (pair AS text) WITH FUNCTION pair_text(pair);
CREATE OPERATOR CLASS own_ops FOR TYPE int USING btree AS OPERATOR 3 =(int, int), FUNCTION 1 btint4cmp(int, int);
CREATE TEXT SEARCH CONFIGURATION words (COPY = pg_catalog.english);
CREATE TEXT SEARCH DICTIONARY short (TEMPLATE = pg_catalog.simple, stopwords = 'english');

CREATE TABLE users (id uuid PRIMARY KEY, mail citext NOT NULL UNIQUE, nick text COLLATE folded, mood mood DEFAULT 'o;k',
    feeling mood[] DEFAULT '{sad,"o;k"}', p pair, s span, n positive, l late, bits bit varying(9), doc jsonb, ts tsvector,
    price money DEFAULT 3, at timestamptz DEFAULT now(), odd text DEFAULT E'a;\\b\n--\\restrict x\n$tag$', kv hstore);
ALTER TABLE users OWNER TO ps_app;
COMMENT ON TABLE users IS $c$-- Name: users; Type: TABLE; Schema: public; Owner: app
--
;$c$;
COMMENT ON COLUMN users.odd IS 'semi;colon';
GRANT SELECT, INSERT ON users TO ps_reader;
GRANT UPDATE (nick) ON users TO ps_reader WITH GRANT OPTION;
CREATE TABLE contacts (id bigint GENERATED ALWAYS AS IDENTITY (START 5 INCREMENT 3) PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE, gone int, name text NOT NULL CHECK (name <> ';'),
    upper_name text GENERATED ALWAYS AS (upper(name)) STORED, boss bigint REFERENCES contacts DEFERRABLE INITIALLY DEFERRED,
    friend uuid REFERENCES users ON DELETE SET NULL, later int DEFAULT 1);
ALTER TABLE contacts DROP COLUMN gone;
INSERT INTO users (id, mail) VALUES ('00000000-0000-0000-0000-000000000001', 'a@b');
INSERT INTO contacts (user_id, name) VALUES ('00000000-0000-0000-0000-000000000001', 'ann');
COMMIT;
ALTER TABLE contacts ADD COLUMN since_then text NOT NULL DEFAULT 'a "quoted", {thing}';
ALTER TABLE contacts ADD COLUMN years int[] DEFAULT '{1,2}';
CREATE TABLE composite (a int, b int, c int, PRIMARY KEY (b, a));
CREATE TABLE child (x int, y int, z int, UNIQUE NULLS NOT DISTINCT (z),
    FOREIGN KEY (x, y) REFERENCES composite (a, b) ON DELETE SET NULL (x),
    FOREIGN KEY (z, y) REFERENCES composite (a, b) MATCH FULL ON DELETE SET DEFAULT);
INSERT INTO composite VALUES (1, 2, 3);
INSERT INTO child VALUES (NULL, 2, 1);
ALTER TABLE child ADD CONSTRAINT unproved FOREIGN KEY (z, x) REFERENCES composite (a, b) NOT VALID;
ALTER TABLE child ADD CONSTRAINT unproved_too CHECK (y > 5) NOT VALID;
CREATE TABLE keyed_by_index (a int NOT NULL, b text NOT NULL, c int);
CREATE UNIQUE INDEX partial ON keyed_by_index (a) WHERE c > 0;
CREATE UNIQUE INDEX nullable ON keyed_by_index (c);
CREATE UNIQUE INDEX on_expression ON keyed_by_index (lower(b));
CREATE UNIQUE INDEX the_key ON keyed_by_index (b, a) INCLUDE (c);
ALTER TABLE keyed_by_index ADD CONSTRAINT put_off UNIQUE (a) DEFERRABLE;
CREATE TABLE no_key (a int, b text);
CREATE TABLE no_columns ();
INSERT INTO no_columns DEFAULT VALUES;
CREATE UNLOGGED TABLE scratch (a int PRIMARY KEY);
CREATE TABLE reservations (room int, during tstzrange, EXCLUDE USING gist (during WITH &&));
CREATE TABLE "-- Name: x; Type: TABLE; Schema: y; Owner: z" ("co;l" int, "q""uo""te" int, "select" int);
CREATE TABLE "Ünï; code -- Name: x"."123456789_123456789_123456789_123456789_123456789_123456789_123" ("ключ" int PRIMARY KEY);
CREATE TABLE "line
break" (a int);
CREATE INDEX "idx ; $$" ON users (lower(nick)) WHERE nick <> ';';
CREATE INDEX brin ON users USING brin (at);
CREATE STATISTICS both_of_them (dependencies) ON a, b FROM composite;
ALTER TABLE users CLUSTER ON users_pkey;
ALTER TABLE users REPLICA IDENTITY FULL;
ALTER TABLE users ALTER COLUMN odd SET STORAGE EXTERNAL, ALTER COLUMN nick SET STATISTICS 55;

CREATE TABLE events (id int, at date NOT NULL, body text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE events_old PARTITION OF events FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
CREATE TABLE events_new PARTITION OF events FOR VALUES FROM ('2020-01-01') TO (MAXVALUE) PARTITION BY HASH (id);
CREATE TABLE events_new_0 (at date NOT NULL, dropped int, body text, id int NOT NULL);
ALTER TABLE events_new_0 DROP COLUMN dropped;
ALTER TABLE events_new ATTACH PARTITION events_new_0 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE events_new_1 PARTITION OF events_new FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO events SELECT i, '2019-12-30'::date + i, 'b' FROM generate_series(1, 9) i;
CREATE TABLE nobody (a int) PARTITION BY LIST (a);
CREATE TABLE base (a int, b text);
CREATE TABLE derived (c int) INHERITS (base);
INSERT INTO base VALUES (1, 'x');
INSERT INTO derived VALUES (2, 'y', 3);

CREATE SEQUENCE counter AS smallint INCREMENT -2 MINVALUE -100 MAXVALUE 50 START 7 CYCLE CACHE 3;
SELECT nextval('counter');
CREATE SEQUENCE untouched OWNED BY no_key.a;
CREATE VIEW seen AS SELECT id, mail, CASE WHEN nick = ';' THEN 1 ELSE 2 END AS "c;d" FROM users;
CREATE VIEW seen_checked WITH (security_barrier) AS SELECT a FROM no_key WHERE a > 0 WITH LOCAL CHECK OPTION;
CREATE RECURSIVE VIEW upto (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM upto WHERE n < 3;
CREATE MATERIALIZED VIEW filled AS SELECT count(*) AS n FROM no_key;
CREATE UNIQUE INDEX filled_n ON filled (n);
CREATE MATERIALIZED VIEW empty AS SELECT 1 AS n WITH NO DATA;
CREATE RULE two AS ON INSERT TO no_key WHERE NEW.a > 5 DO ALSO (INSERT INTO log_lines VALUES (';'); UPDATE log_lines SET line = 'x');
CREATE RULE tell AS ON UPDATE TO no_key DO (NOTIFY no_key; NOTIFY "a;b");
CREATE RULE nothing_at_all AS ON DELETE TO seen DO INSTEAD NOTHING;
CREATE TRIGGER touch BEFORE UPDATE ON users FOR EACH ROW WHEN (NEW.odd <> ';') EXECUTE FUNCTION touched('a;b', '$$');
CREATE TRIGGER never BEFORE INSERT ON no_key FOR EACH ROW EXECUTE FUNCTION forbid();
ALTER TABLE no_key ENABLE ALWAYS TRIGGER never;
ALTER TABLE users DISABLE TRIGGER touch;
CREATE EVENT TRIGGER seen_ddl ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION ddl_seen();
ALTER EVENT TRIGGER seen_ddl DISABLE;
ALTER TABLE contacts ENABLE ROW LEVEL SECURITY;
CREATE POLICY "own; rows" ON contacts TO ps_app, ps_reader USING (name <> ';') WITH CHECK (user_id IS NOT NULL);
ALTER TABLE composite ENABLE ROW LEVEL SECURITY;
ALTER TABLE composite FORCE ROW LEVEL SECURITY;
CREATE PUBLICATION few FOR TABLE users (id, mail) WHERE (id IS NOT NULL);
CREATE PUBLICATION whole_schema FOR TABLES IN SCHEMA "sch;ema";
CREATE SUBSCRIPTION idle CONNECTION 'host=nowhere dbname=x' PUBLICATION p WITH (connect = false, slot_name = NONE, enabled = false);
CREATE FOREIGN DATA WRAPPER dummy OPTIONS (debug 'a;b');
CREATE SERVER remote FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'far;away');
CREATE USER MAPPING FOR ps_app SERVER remote OPTIONS (user 'u', password 'geheim');
CREATE FOREIGN TABLE far (a int OPTIONS (column_name 'b;c')) SERVER remote OPTIONS (table_name 't');
ALTER DEFAULT PRIVILEGES FOR ROLE ps_app IN SCHEMA app GRANT SELECT ON TABLES TO ps_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE ps_app REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
GRANT USAGE ON SCHEMA app TO ps_reader;
REVOKE ALL ON FUNCTION plain_sql(int, text) FROM PUBLIC;
GRANT USAGE ON TYPE mood TO ps_reader;
SET SESSION AUTHORIZATION ps_reader;
GRANT UPDATE (nick) ON users TO "ps ""odd"" role";
RESET SESSION AUTHORIZATION;
CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION pg_catalog.prsd_lextype(internal), TO SQL WITH FUNCTION pg_catalog.int4recv(internal));
SELECT lo_create(4711);
SELECT lo_from_bytea(4712, 'x');
ALTER LARGE OBJECT 4711 OWNER TO ps_app;
COMMENT ON LARGE OBJECT 4711 IS 'a ''large''; object';
GRANT SELECT ON LARGE OBJECT 4711 TO ps_reader;
