//! Which table a user means by a name.

/// Position of the table that a user means by `wanted`: an exact match or, failing that, the only name that equals
/// `wanted` without its schema.
pub fn find_name<'n>(names: impl Iterator<Item = &'n str> + Clone, wanted: &str) -> Option<usize> {
    let exactly = names.clone().position(|name| name == wanted);
    exactly.or_else(|| only_position(names, |name| is_without_schema(wanted, name)))
}

/// Position of the only name that satisfies `matches`. `None` if several do.
fn only_position<'n>(names: impl Iterator<Item = &'n str>, matches: impl Fn(&str) -> bool) -> Option<usize> {
    let mut matching = names.enumerate().filter(|(_, name)| matches(name));
    let (only, _) = matching.next()?;
    matching.next().is_none().then_some(only)
}

/// Whether a user may mean the table `name` by `wanted`: its full name, or its name without the schema.
#[must_use]
pub fn is_named(name: &str, wanted: &str) -> bool {
    name == wanted || is_without_schema(wanted, name)
}

/// Whether `wanted` is `name` without its schema.
fn is_without_schema(wanted: &str, name: &str) -> bool {
    name.strip_suffix(wanted).is_some_and(|schema| schema.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::find_name;

    #[test]
    fn an_unqualified_name_matches_only_if_one_table_has_it() {
        let names = ["public.users", "app.photos", "old.photos", "users.log", "\"App Data\".\"Mixed\""];
        let meant = |wanted| find_name(names.into_iter(), wanted);
        assert_eq!((meant("users"), meant("public.users"), meant("old.photos")), (Some(0), Some(0), Some(2)));
        assert_eq!((meant("photos"), meant("sers"), meant("\"Mixed\"")), (None, None, Some(4)));
    }
}
