//! URLs as they may be logged.

/// Removes user, password, query and fragment from a URL, also from one that cannot be parsed.
///
/// ```
/// # use spanlink::redacted_url::redact_url;
/// assert_eq!(redact_url("htp://user:secret@host/v1?key=secret"), "htp://host/v1");
/// ```
pub fn redact_url(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(is_scheme) => (Some(scheme), rest),
        _ => (None, url),
    };
    // A password may contain any character, so it ends at the last `@`. A query may contain one, too,
    // and then it is unclear which parts are secret.
    let query = rest.find(['?', '#']);
    let host = match (rest.rfind('@'), query) {
        (Some(at), Some(query)) if at > query => "…",
        (Some(at), _) => rest.get(at + 1..).unwrap_or_default(),
        (None, _) => rest,
    };
    let host = host.split(['?', '#']).next().unwrap_or_default();
    match scheme {
        Some(scheme) => format!("{scheme}://{host}"),
        None => host.to_owned(),
    }
}

/// <https://www.rfc-editor.org/rfc/rfc3986#section-3.1>
fn is_scheme(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_malformed_url_are_removed() {
        let shown = [
            "htp://user:secret@h/v1/traces?key=secret",
            "user:secret@h:4317",
            "user:sec://ret@h:4317",
            "http://user:sec?ret@h",
            "http://user:sec#ret/secret@h",
            "http://h/p?key=se@cret",
            "http://user:se@cret@h#secret",
            "h:4317",
        ]
        .map(redact_url);
        assert_eq!(
            shown,
            [
                "htp://h/v1/traces",
                "h:4317",
                "h:4317",
                "http://…",
                "http://…",
                "http://…",
                "http://h",
                "h:4317"
            ]
        );
    }
}
