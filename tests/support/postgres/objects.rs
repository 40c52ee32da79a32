//! A database with every kind of object that a version supports.

/// The database in which they are created.
pub const DATABASE: &str = "nasty; db";
/// The roles that own them.
pub const ROLES: &str =
    "CREATE ROLE ps_app LOGIN PASSWORD 'x'; CREATE ROLE ps_reader LOGIN; CREATE ROLE \"ps \"\"odd\"\" role\";
    CREATE ROLE ps_group; GRANT ps_group TO ps_app WITH ADMIN OPTION; ALTER ROLE ps_app SET lock_timeout = '3s'";

/// Syntax that older servers lack: the first version that has it, the syntax, and its replacement for older servers.
const NEWER: &[(u32, &str, &str)] = &[
    (15, "UNIQUE NULLS NOT DISTINCT (z)", "UNIQUE (z)"),
    (15, "ON DELETE SET NULL (x)", "ON DELETE SET NULL"),
    (15, "TABLE users (id, mail) WHERE (id IS NOT NULL)", "TABLE users"),
    (15, "FOR TABLES IN SCHEMA \"sch;ema\"", "FOR ALL TABLES WITH (publish = 'insert')"),
    (
        14,
        "BEGIN ATOMIC SELECT 1; SELECT CASE WHEN n > 0 THEN 1 ELSE 2 END; SELECT CASE n WHEN 1 THEN CASE WHEN true THEN 5 END END AS \"end\"; END;",
        "AS 'SELECT 1';",
    ),
    (14, "RETURN n + 1;", "AS 'SELECT n + 1';"),
    (14, "BEGIN ATOMIC INSERT INTO app.log_lines VALUES (';'); SELECT 1; END;", "AS 'SELECT 1';"),
];

/// The statements that create all objects, without syntax that servers older than `version` lack.
pub fn objects(version: u32) -> String {
    let all = include_str!("objects.sql").replace("@database@", "\"nasty; db\"");
    NEWER.iter().fold(all, |objects, (since, words, instead)| {
        assert!(objects.contains(words), "{words}");
        if version < *since { objects.replace(words, instead) } else { objects }
    })
}
