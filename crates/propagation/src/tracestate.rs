//! Reads a `tracestate` by the grammar of
//! [W3C Trace Context](https://www.w3.org/TR/trace-context/#tracestate-header).

use opentelemetry::trace::TraceState;

/// The most members of a list, empty ones included.
const MAX_MEMBERS: usize = 32;
/// The longest key of one system, and the longest value, in bytes.
const MAX_TEXT: usize = 256;
/// The longest parts of a key `tenant@system`, in bytes.
const MAX_TENANT: usize = 241;
const MAX_SYSTEM: usize = 14;

/// The longest list of valid members without optional whitespace, in bytes: a reader can ignore a longer
/// one unread.
pub const MAX_LIST: usize = MAX_MEMBERS * (2 * MAX_TEXT + 1) + MAX_MEMBERS - 1;
/// A longer list is shortened to this, in bytes. Propagators
/// [should pass on at least 512 characters](https://www.w3.org/TR/trace-context/#tracestate-limits);
/// every link to the context stores a copy, so no more are passed on.
const MAX_PASSED_ON: usize = 512;
/// Members above this, in bytes, are the first to be removed from a list that is too long.
const MAX_SHORT_MEMBER: usize = 128;

/// Returns the list to pass on: as written, or without some members where it is longer than 512 bytes.
/// `None` if any member is invalid, if a key occurs twice, or if the list is empty.
pub fn parse(list: &str) -> Option<Box<str>> {
    let mut members: Vec<(&str, &str)> = Vec::new();
    for (index, item) in list.split(',').enumerate() {
        // HTTP's optional whitespace: no other space is allowed around a member.
        let member = item.trim_matches([' ', '\t']);
        if index == MAX_MEMBERS {
            return None;
        }
        if member.is_empty() {
            continue;
        }
        let (key, value) = member.split_once('=')?;
        let is_repeated = members.iter().any(|(other, _)| *other == key);
        if is_repeated || !is_key(key) || !is_value(value) {
            return None;
        }
        members.push((key, member));
    }
    if members.is_empty() {
        return None;
    }
    Some(if list.len() <= MAX_PASSED_ON { list.into() } else { shorten(members) })
}

/// The list as OpenTelemetry's API has it.
pub(crate) fn to_trace_state(list: &str) -> Option<TraceState> {
    let list = parse(list)?;
    let members = list.split(',').map(|item| item.trim_matches([' ', '\t']));
    TraceState::from_key_value(members.filter_map(|member| member.split_once('='))).ok()
}

/// By the [rules for limits](https://www.w3.org/TR/trace-context/#tracestate-limits): whole members
/// are removed, the long ones first, then those at the end, which are the oldest.
fn shorten(members: Vec<(&str, &str)>) -> Box<str> {
    let mut kept: Vec<&str> = members.into_iter().map(|(_, member)| member).collect();
    let is_too_long = |kept: &[&str]| {
        let text: usize = kept.iter().map(|member| member.len()).sum();
        text + kept.len().saturating_sub(1) > MAX_PASSED_ON
    };
    while is_too_long(&kept) {
        let last_long = kept.iter().rposition(|member| member.len() > MAX_SHORT_MEMBER);
        kept.remove(last_long.unwrap_or(kept.len() - 1));
    }
    kept.join(",").into()
}

fn is_key(key: &str) -> bool {
    match key.split_once('@') {
        None => starts_with_letter(key) && key.len() <= MAX_TEXT && has_only_key_bytes(key),
        Some((tenant, system)) => {
            let starts_well = |tenant: &str| {
                tenant
                    .starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
            };
            starts_well(tenant)
                && tenant.len() <= MAX_TENANT
                && has_only_key_bytes(tenant)
                && starts_with_letter(system)
                && system.len() <= MAX_SYSTEM
                && has_only_key_bytes(system)
        }
    }
}

fn starts_with_letter(key: &str) -> bool {
    key.starts_with(|first: char| first.is_ascii_lowercase())
}

fn has_only_key_bytes(key: &str) -> bool {
    key.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/'))
}

/// A value does not end in a space: such a space was removed with the whitespace around the member.
fn is_value(value: &str) -> bool {
    (1..=MAX_TEXT).contains(&value.len())
        && value.bytes().all(|byte| matches!(byte, 0x20..=0x7e) && byte != b',' && byte != b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn many(members: usize) -> String {
        let members: Vec<String> = (0..members).map(|index| format!("v{index}={index}")).collect();
        members.join(",")
    }

    #[test]
    fn valid_list_is_passed_on_as_written() {
        let key_bytes = "abcdefghijklmnopqrstuvwxyz0123456789_-*/";
        let value_bytes: String =
            (' '..='~').filter(|character| !",=".contains(*character)).collect();
        for list in [
            "vendor=1".to_owned(),
            "vendor=1,other=2".into(),
            "vendor=1, other=2".into(),
            "\t vendor=1 \t,\t other=2\t ".into(),
            "vendor=1,,other=2,".into(),
            ", vendor=1".into(),
            "v= leading space".into(),
            "v=a b".into(),
            "v=!\"#$%&'()*+-./:;<>?@[\\]^_`{|}~".into(),
            format!("{key_bytes}={value_bytes}"),
            format!("{key_bytes}@system_-*/0=1"),
            "0tenant@s=1".into(),
            "t@s=1,t@r=1,u@s=1".into(),
            format!("{}=1", "z".repeat(256)),
            format!("{}@{}=1", "t".repeat(241), "s".repeat(14)),
            format!("v={}", "x".repeat(256)),
            many(32),
        ] {
            assert_eq!(parse(&list).as_deref(), Some(&*list), "{list}");
        }
    }

    #[test]
    fn list_without_members_is_dropped() {
        for list in ["", " ", "\t", ",", " , \t", ",,,"] {
            assert_eq!(parse(list), None, "{list:?}");
        }
    }

    #[test]
    fn list_with_an_invalid_member_is_dropped_whole() {
        let pairs = ["vendor", "vendor:1", "=1", "="];
        let keys = [
            "_v=1", "-v=1", "*v=1", "/v=1", "0v=1", "V=1", "vendoR=1", "v.w=1", "v w=1", "v =1",
            "v\t=1", "é=1",
        ];
        let tenants = [
            "@s=1", "t@=1", "@=1", "t@@s=1", "t@s@r=1", "T@s=1", "_t@s=1", "t@0s=1", "t@_s=1",
            "t@S=1", "t@s =1",
        ];
        let values =
            ["v=", "v= ", "v=\t", "v=a=b", "v=a\tb", "v=a\nb", "v=é", "v=a\u{7f}", "v=a\0b"];
        let whitespace = ["v=1\n", "\u{a0}v=1", "v=1,\nw=2", "v=1\u{3000}"];
        let repeated = ["v=1,v=1", "v=1,v=2", "t@s=1,w=1,t@s=2"];
        let too_long = [
            format!("{}=1", "z".repeat(257)),
            format!("{}@s=1", "t".repeat(242)),
            format!("t@{}=1", "s".repeat(15)),
            format!("v={}", "x".repeat(257)),
            many(33),
            format!("{},", many(32)),
        ];
        let written = pairs.into_iter().chain(keys).chain(tenants).chain(values);
        let written = written.chain(whitespace).chain(repeated).map(str::to_owned);
        for list in written.chain(too_long) {
            assert_eq!(parse(&list), None, "{list:?}");
            assert_eq!(parse(&format!("first=1,{list},last=2")), None, "{list:?}");
        }
    }

    #[test]
    fn list_that_is_too_long_loses_long_members_first_and_then_the_last() {
        let member =
            |name: &str, bytes: usize| format!("{name}={}", "x".repeat(bytes - name.len() - 1));
        let short = ["a", "b", "c", "d", "e"].map(|name| member(name, 128));
        let [first, second, third, fourth, fifth] = &short;
        let long = &member("long", 129);
        let other_long = &member("other", 129);
        for (list, expected) in [
            (vec![first, second, third, fourth, fifth], vec![first, second, third]),
            (vec![long, first, second, third, fourth], vec![first, second, third]),
            (vec![first, long, second, third], vec![first, second, third]),
            (vec![long, other_long, first, second], vec![long, first, second]),
        ] {
            let join = |members: Vec<&String>| {
                members.into_iter().map(String::as_str).collect::<Vec<_>>().join(" , ")
            };
            assert_eq!(
                parse(&join(list)).map(|list| list.replace(',', " , ")),
                Some(join(expected))
            );
        }
    }
}
