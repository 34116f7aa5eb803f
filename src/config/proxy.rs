//! Reads the environment variables that name proxies.

use std::collections::BTreeMap;

use super::settings::{ProxySettings, ProxyVariable};

const HTTP: [&str; 2] = ["HTTP_PROXY", "http_proxy"];
const HTTPS: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];
const ALL: [&str; 2] = ["ALL_PROXY", "all_proxy"];
const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// The first variable of each pair that is not empty counts, as in Go:
/// <https://pkg.go.dev/golang.org/x/net/http/httpproxy#FromEnvironment>.
pub(super) fn from_variables(variables: &BTreeMap<String, String>) -> ProxySettings {
    let first = |names: [&'static str; 2]| {
        names.into_iter().find_map(|name| {
            let value = variables.get(name).map(|value| value.trim())?;
            (!value.is_empty()).then(|| ProxyVariable { name, url: value.to_owned() })
        })
    };
    let all = || first(ALL);
    ProxySettings {
        http: first(HTTP).or_else(all),
        https: first(HTTPS).or_else(all),
        exceptions: first(EXCEPTIONS).map(|variable| variable.url).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_case_and_the_scheme_take_precedence() {
        let variables = [
            ("HTTP_PROXY", ""),
            ("http_proxy", "http://lower"),
            ("https_proxy", "http://lower"),
            ("HTTPS_PROXY", "http://upper"),
            ("ALL_PROXY", "http://all"),
            ("no_proxy", "a,b"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = from_variables(&variables.into());
        let of = |variable: Option<ProxyVariable>| variable.map(|found| (found.name, found.url));
        assert_eq!(of(settings.http), Some(("http_proxy", "http://lower".to_owned())));
        assert_eq!(of(settings.https), Some(("HTTPS_PROXY", "http://upper".to_owned())));
        assert_eq!(settings.exceptions, "a,b");
    }

    #[test]
    fn all_proxy_is_used_for_every_scheme_without_a_proxy() {
        let variables = [("all_proxy".to_owned(), "socks5://all".to_owned())];
        let settings = from_variables(&variables.into());
        assert_eq!(settings.http, settings.https);
        assert_eq!(settings.http.map(|found| found.name), Some("all_proxy"));
    }
}
