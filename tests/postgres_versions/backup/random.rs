//! Random tables with random rows are restored, and the server reports the same about both.

use std::fmt::Write;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use crate::support::postgres::live::Live;
use crate::support::postgres::restored::assert_comes_back;
use crate::support::world::times;

/// Types, and values of them as SQL.
const TYPES: &[(&str, &[&str])] = &[
    ("boolean", &["true", "false"]),
    ("smallint", &["-32768", "0", "32767"]),
    ("integer", &["-2147483648", "7"]),
    ("bigint", &["-9223372036854775808", "12345678901"]),
    ("numeric", &["'NaN'", "0.00", "-12345678901234567890.12345678901234567890", "1e100"]),
    ("numeric(12,3)", &["-0.001", "123456789.123"]),
    ("real", &["'-0'", "'NaN'", "'-Infinity'", "1.1754944e-38", "0.1"]),
    ("double precision", &["'-0'", "'Infinity'", "5e-324", "0.1"]),
    ("money", &["'-92233720368547758.08'", "'0.01'"]),
    ("text", &["''", "'NULL'", "E'\\\\N'", "E'a\\tb\\nc\\r'", "'ünï 🦀'", "repeat('lang ', 20000)"]),
    ("varchar(12)", &["'  spaces  '", "'x'"]),
    ("char(6)", &["'ab'", "''"]),
    ("\"char\"", &["'x'", "''", "127::\"char\""]),
    ("name", &["'a name'"]),
    ("bytea", &["''", "'\\x00ff5c'", "decode(repeat('0a5c', 30000), 'hex')"]),
    ("date", &["'-infinity'", "'4713-01-01 BC'", "'5874897-12-31'"]),
    ("time", &["'24:00'", "'00:00:00.000001'"]),
    ("timetz", &["'23:59:59.999999+15:59:59'", "'12:00-03'"]),
    ("timestamp", &["'infinity'", "'4713-01-01 00:00 BC'", "'294276-12-31 23:59:59.999999'"]),
    ("timestamptz", &["'-infinity'", "'2026-03-29 01:30+02'"]),
    ("interval", &["'-1 year 2 days -03:04:05.000006'", "'178000000 years'", "'0'"]),
    ("uuid", &["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"]),
    ("json", &["'{\"a\" :  [1,1e2, null], \"a\":2}'", "'null'"]),
    ("jsonb", &["'{\"b\": 1, \"a\": \"\\u00fc\"}'", "'[]'"]),
    ("jsonpath", &["'$.a[*] ? (@ > 1)'"]),
    ("inet", &["'10.0.0.1/8'", "'::1'"]),
    ("cidr", &["'10.0.0.0/8'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("macaddr8", &["'08:00:2b:01:02:03:04:05'"]),
    ("bit(5)", &["B'10101'"]),
    ("bit varying", &["B''", "B'1'"]),
    ("point", &["'(-0,1e300)'"]),
    ("line", &["'{1,-1,0}'"]),
    ("lseg", &["'[(0,0),(1,2)]'"]),
    ("box", &["'(1,1),(0,0)'"]),
    ("path", &["'[(0,0),(1,2)]'", "'((0,0),(1,2))'"]),
    ("polygon", &["'((0,0),(1,1),(2,0))'"]),
    ("circle", &["'<(0,0),2>'"]),
    ("tsvector", &["'a:1A fat:2B,4C cat''s'"]),
    ("tsquery", &["'fat & (rat | !cat:*)'"]),
    ("pg_lsn", &["'16/B374D848'"]),
    ("xid", &["'4294967295'"]),
    ("tid", &["'(4294967295,65535)'"]),
    ("oid", &["4294967295"]),
    ("regclass", &["'pg_class'"]),
    ("int4range", &["'empty'", "'(,)'", "'[1,5)'"]),
    ("numrange", &["'(-1.50,2]'"]),
    ("tstzrange", &["'[2026-01-01 00:00+00,infinity]'"]),
    ("daterange", &["'[2026-01-01,)'"]),
    ("mood", &["''", "'it''s'", "'{,}'"]),
    ("pair", &["ROW(1, 'a,\"b\"', '{}')", "ROW(NULL, NULL, ARRAY[NULL, ''::public.mood])"]),
    ("positive", &["1", "2147483647"]),
    ("short", &["'abc'", "''"]),
    ("moods", &["'{}'", "ARRAY['', 'it''s']::public.mood[]"]),
    ("citext", &["'Ünï'", "''"]),
    ("hstore", &["'a=>NULL, \"b c\"=>\"\\\"\"'"]),
    ("ltree", &["'Top.Science'"]),
    ("cube", &["'(1,2),(3,4)'"]),
];

const SETUP: &str = "
    CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE EXTENSION ltree; CREATE EXTENSION cube;
    CREATE TYPE mood AS ENUM ('', 'it''s', '{,}', 'NULL'); CREATE TYPE pair AS (n int, \"t t\" text, moods mood[]);
    CREATE DOMAIN positive AS int CHECK (VALUE > 0); CREATE DOMAIN short AS varchar(3) DEFAULT 'd';
    CREATE DOMAIN moods AS mood[]";

/// Names that reveal missing quoting. The server truncates them to 63 bytes.
const NAMES: &[&str] = &[
    "plain",
    "Upper",
    "select",
    "with space",
    "q\"uote\"",
    "a.b",
    "ключ",
    "%s\\n'$1",
    "🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀",
    " ",
];

#[derive(Clone, Debug)]
struct Column {
    of: usize,
    array: bool,
    not_null: bool,
    /// Added after half of the rows, with a default.
    late: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Key {
    None,
    Primary,
    UniqueIndex,
    Two,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Plain,
    Hash,
    Nested,
    Parent,
    Dropped,
}

/// Rows that are inserted before or after the late columns are added.
#[derive(Clone, Copy, PartialEq)]
enum Half {
    First,
    Second,
}

#[derive(Clone, Debug)]
struct Table {
    name: usize,
    columns: Vec<Column>,
    key: Key,
    shape: Shape,
    refers: bool,
    generated: bool,
    rows: u16,
    /// Determines the values and the NULLs.
    seed: u32,
    twice: bool,
}

fn tables() -> impl Strategy<Value = Vec<Table>> {
    let flag = |probability| prop::bool::weighted(probability);
    let column = (0..TYPES.len(), flag(0.25), flag(0.2), flag(0.2));
    let column = column.prop_map(|(of, array, not_null, late)| Column { of, array, not_null, late });
    let key = select(vec![Key::None, Key::Primary, Key::UniqueIndex, Key::Two]);
    let shape = select(vec![Shape::Plain, Shape::Plain, Shape::Hash, Shape::Nested, Shape::Parent, Shape::Dropped]);
    let names = (0..NAMES.len(), flag(0.5), flag(0.3), flag(0.3));
    let table = (names, prop::collection::vec(column, 0..8), key, shape, 0..120u16, any::<u32>());
    let table = table.prop_map(|((name, refers, generated, twice), columns, key, shape, rows, seed)| Table {
        name,
        columns,
        key,
        shape,
        refers,
        generated,
        rows,
        seed,
        twice,
    });
    prop::collection::vec(table, 1..6)
}

fn name(at: usize, number: usize) -> String {
    format!("\"{number}{}\"", NAMES[at].replace('"', "\"\""))
}

impl Column {
    fn ty(&self) -> String {
        let ty = TYPES[self.of].0;
        if self.array { format!("{ty}[]") } else { ty.to_owned() }
    }

    /// One of the values or NULL, depending on `draw`.
    fn value(&self, draw: u32) -> String {
        let (ty, values) = TYPES[self.of];
        let one = |draw: u32| format!("({})::{ty}", values[draw as usize % values.len()]);
        match draw % 7 {
            0 if !self.not_null => "NULL".to_owned(),
            _ if !self.array => one(draw / 7),
            1 => format!("'{{}}'::{ty}[]"),
            2 => format!("ARRAY[[{}], [NULL]]::{ty}[]", one(draw / 7)),
            _ => format!("ARRAY[{}, NULL, {}]::{ty}[]", one(draw / 7), one(draw / 14)),
        }
    }
}

impl Table {
    fn sql(&self, number: usize, parent: Option<&str>) -> String {
        let name = name(self.name, number);
        let mut items = vec!["id int NOT NULL".to_owned(), "\"Second\" text NOT NULL".to_owned()];
        let columns = || self.columns.iter().enumerate();
        let declared = |(at, column): (usize, &Column)| {
            let not_null = if column.not_null { " NOT NULL" } else { "" };
            format!("c{at} {}{not_null}", column.ty())
        };
        items.extend(columns().filter(|(_, column)| !column.late).map(declared));
        if self.shape == Shape::Dropped {
            items.insert(1, "dropped text DEFAULT 'gone'".to_owned());
        }
        if let (true, Some(parent)) = (self.refers, parent) {
            items.push(format!("up int REFERENCES {parent} (id) ON DELETE CASCADE"));
        }
        if self.generated {
            items.push("made text GENERATED ALWAYS AS (\"Second\" || '!') STORED".to_owned());
        }
        items.extend(match self.key {
            Key::None | Key::UniqueIndex => None,
            Key::Primary => Some("PRIMARY KEY (id)".to_owned()),
            Key::Two => Some("PRIMARY KEY (\"Second\", id)".to_owned()),
        });
        let by = match self.shape {
            Shape::Hash | Shape::Nested => " PARTITION BY HASH (id)",
            _ => "",
        };
        let mut sql = format!("CREATE TABLE {name} ({}){by};\n", items.join(", "));
        self.parts(number, &name, &mut sql);
        if self.key == Key::UniqueIndex {
            writeln!(sql, "CREATE UNIQUE INDEX ON {name} (id);").expect("memory");
        }
        self.fill(&name, Half::First, parent, &mut sql);
        if self.shape == Shape::Dropped {
            writeln!(sql, "ALTER TABLE {name} DROP COLUMN dropped;").expect("memory");
        }
        for (at, column) in columns().filter(|(_, column)| column.late) {
            let filled = Column { not_null: true, ..column.clone() };
            let default = filled.value(self.seed.rotate_left(at as u32) | 1);
            writeln!(sql, "ALTER TABLE {name} ADD COLUMN c{at} {} DEFAULT {default};", column.ty()).expect("memory");
        }
        self.fill(&name, Half::Second, parent, &mut sql);
        if self.twice && self.key == Key::None {
            let columns = columns().map(|(at, _)| format!(", c{at}")).collect::<String>();
            writeln!(sql, "INSERT INTO {name} (id, \"Second\"{columns}) SELECT id, \"Second\"{columns} FROM {name};")
                .expect("memory");
        }
        sql
    }

    fn parts(&self, number: usize, name: &str, sql: &mut String) {
        match self.shape {
            Shape::Hash | Shape::Nested => {
                writeln!(sql, "CREATE TABLE p{number}_0 PARTITION OF {name} FOR VALUES WITH (MODULUS 2, REMAINDER 0);")
                    .expect("memory");
                let (second, deeper) = match self.shape {
                    Shape::Nested => (
                        " PARTITION BY RANGE (id)",
                        format!(
                            "CREATE TABLE p{number}_low PARTITION OF p{number}_1 FOR VALUES FROM (MINVALUE) TO (50);
                            CREATE TABLE p{number}_high PARTITION OF p{number}_1 DEFAULT;"
                        ),
                    ),
                    _ => ("", String::new()),
                };
                writeln!(
                    sql,
                    "CREATE TABLE p{number}_1 PARTITION OF {name} FOR VALUES WITH (MODULUS 2, REMAINDER 1){second}; {deeper}"
                )
                .expect("memory");
            }
            Shape::Parent => {
                writeln!(
                    sql,
                    "CREATE TABLE heir_{number} (more text) INHERITS ({name}); INSERT INTO heir_{number} (id, \"Second\", more)
                        SELECT -1, 's', 'm' FROM generate_series(1, 3) {};",
                    if self.columns.iter().any(|column| column.not_null && !column.late) { "LIMIT 0" } else { "" }
                )
                .expect("memory");
            }
            Shape::Plain | Shape::Dropped => {}
        }
    }

    fn fill(&self, name: &str, half: Half, parent: Option<&str>, sql: &mut String) {
        let ids = match half {
            Half::First => 0..self.rows / 2,
            Half::Second => self.rows / 2..self.rows,
        };
        let all = self.columns.iter().enumerate();
        let columns: Vec<(usize, &Column)> = all.filter(|(_, column)| half == Half::Second || !column.late).collect();
        let up = if self.refers && parent.is_some() { ", up" } else { "" };
        let list = columns.iter().map(|(at, _)| format!(", c{at}")).collect::<String>();
        for id in ids {
            let mut state = self.seed ^ u32::from(id).wrapping_mul(0x9e37_79b9);
            let mut values = format!("{id}, 'second {}'", id % 5);
            for (_, column) in &columns {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                write!(values, ", {}", column.value(state >> 8)).expect("memory");
            }
            if let Some(parent) = parent.filter(|_| self.refers) {
                write!(values, ", (SELECT id FROM {parent} WHERE id = {})", state % 100).expect("memory");
            }
            writeln!(sql, "INSERT INTO {name} (id, \"Second\"{list}{up}) VALUES ({values});").expect("memory");
        }
    }
}

#[test]
fn random_databases_are_restored() {
    let Some(mut live) = Live::start() else { return };
    let cases = u32::try_from(times(8)).expect("few");
    let mut runner =
        TestRunner::new(Config { cases, max_shrink_iters: 40, failure_persistence: None, ..Config::default() });
    let mut number = 0;
    let live = std::cell::RefCell::new(&mut live);
    let number = std::cell::RefCell::new(&mut number);
    let law = runner.run(&tables(), |tables| {
        let mut live = live.borrow_mut();
        **number.borrow_mut() += 1;
        let database = format!("random {}", number.borrow());
        live.forget();
        live.cluster.create_database(&database, "TEMPLATE template0");
        let mut sql = SETUP.to_owned() + ";\n";
        let mut parent = None;
        for (number, table) in tables.iter().enumerate() {
            sql.push_str(&table.sql(number, parent.as_deref()));
            // Only a key that consists of just `id` can be referenced by a single column.
            if matches!(table.key, Key::Primary | Key::UniqueIndex) {
                parent = Some(name(table.name, number));
            }
        }
        live.cluster
            .client(&database)
            .execute("making tables", &sql)
            .map_err(|error| TestCaseError::fail(format!("{error}: {sql}")))?;
        let taken = live.taken(&database);
        assert_comes_back(&live.cluster, &taken, &database);
        live.cluster.sql("postgres", &format!("DROP DATABASE \"{database}\""));
        live.cluster.sql("postgres", &format!("DROP DATABASE \"{database} back\""));
        Ok(())
    });
    if let Err(error) = law {
        panic!("{error}");
    }
}
