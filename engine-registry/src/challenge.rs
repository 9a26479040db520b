//! `WWW-Authenticate`: what a registry wants to be asked with.
//!
//! Source: RFC 7235 and the distribution project's token authentication specification.

use http_auth::ChallengeParser;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// A scheme that this client can answer.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Challenge {
    /// A user name and a password with each request.
    Basic,
    /// A token from the service at `realm`.
    Bearer { realm: String, service: Option<String> },
}

/// Returns the best challenge of an answer: bearer before basic.
pub(crate) fn parse(headers: &HeaderMap) -> Option<Challenge> {
    let mut best = None;
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let Ok(text) = value.to_str() else { continue };
        // What follows a malformed part cannot be told apart from it: stop there.
        for challenge in ChallengeParser::new(text).map_while(Result::ok) {
            let param = |name: &str| {
                let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped())
            };
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                if let Some(realm) = param("realm").filter(|realm| !realm.is_empty()) {
                    return Some(Challenge::Bearer { realm, service: param("service") });
                }
            } else if challenge.scheme.eq_ignore_ascii_case("basic") {
                best = Some(Challenge::Basic);
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn parsed(values: &[&str]) -> Option<Challenge> {
        parse(&values.iter().map(|value| (WWW_AUTHENTICATE, value.parse().unwrap())).collect())
    }

    #[test]
    fn bearer_is_preferred_and_its_parameters_are_read() {
        let bearer = r#"Bearer realm="https://auth.example/t",service="reg",scope="repository:a:pull,push""#;
        let expected =
            Challenge::Bearer { realm: "https://auth.example/t".to_owned(), service: Some("reg".to_owned()) };
        assert_eq!(parsed(&[bearer]).as_ref(), Some(&expected));
        assert_eq!(parsed(&[r#"Basic realm="x""#, bearer]).as_ref(), Some(&expected));
        assert_eq!(parsed(&[&format!(r#"basic realm="x", {bearer}"#)]).as_ref(), Some(&expected));
        assert_eq!(parsed(&["BASIC realm=x"]), Some(Challenge::Basic));
    }

    #[test]
    fn other_and_malformed_challenges_are_no_challenge() {
        for text in
            ["", "Negotiate", "Bearer", "Bearer realm=\"\"", "Digest realm=\"x\"", "=,\"", "Bearer realm=\"a"]
        {
            assert_eq!(parsed(&[text]), None, "{text:?}");
        }
    }

    #[test]
    fn d4_no_header_makes_it_panic() {
        const PARTS: [&str; 16] = [
            "Bearer", "Basic", " ", ",", "=", "\"", "\\", "realm", "service", "a", "\t", "==", "\u{e9}", ";",
            "0", "~",
        ];
        let mut state = 1_u64;
        for _ in 0..50_000 {
            let mut text = String::new();
            for _ in 0..12 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push_str(PARTS[(state >> 60) as usize]);
            }
            if let Ok(value) = text.parse::<HeaderValue>() {
                parse(&HeaderMap::from_iter([(WWW_AUTHENTICATE, value)]));
            }
        }
    }
}
