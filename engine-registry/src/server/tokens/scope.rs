//! Scopes, as Docker's token specification writes them: `repository:team/app:pull,push`, `registry:catalog:*`.

use serde::{Deserialize, Serialize};

use crate::server::access::{Access, Action, Scope};

/// What a token grants: actions on one thing. It is what the token itself holds.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Grant {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Vec<String>,
}

const CATALOG: (&str, &str, &str) = ("registry", "catalog", "*");

/// Reads one scope as the single things it asks for. What we do not have is not granted, and no error.
pub(super) fn asked(scope: &str) -> Vec<Access> {
    let Some(((kind, name), actions)) =
        scope.rsplit_once(':').and_then(|(thing, actions)| Some((thing.split_once(':')?, actions)))
    else {
        return Vec::new();
    };
    if (kind, name, actions) == CATALOG {
        return vec![Access { scope: Scope::Catalog, action: Action::Pull }];
    }
    let Some(name) = name.parse().ok().filter(|_| kind == "repository") else { return Vec::new() };
    let of = |action| Access { scope: Scope::Repository(name), action };
    let mut found = Vec::new();
    for word in actions.split(',') {
        let these: &[Action] = match word {
            "pull" => &[Action::Pull],
            "push" => &[Action::Push],
            "delete" => &[Action::Delete],
            "*" => &[Action::Pull, Action::Push, Action::Delete],
            _ => &[],
        };
        found.extend(these.iter().map(|action| of.clone()(*action)));
    }
    found
}

/// Gathers single things that are granted.
pub(super) fn grants(access: &[Access]) -> Vec<Grant> {
    let mut grants: Vec<Grant> = Vec::new();
    for one in access {
        let Some((kind, name, action)) = words(one) else { continue };
        match grants.iter_mut().find(|grant| (grant.kind.as_str(), grant.name.as_str()) == (kind, name)) {
            Some(grant) if grant.actions.iter().any(|there| there == action) => {}
            Some(grant) => grant.actions.push(action.to_owned()),
            None => grants.push(Grant {
                kind: kind.to_owned(),
                name: name.to_owned(),
                actions: vec![action.to_owned()],
            }),
        }
    }
    grants
}

/// Whether one of them is this.
pub(super) fn has(grants: &[Grant], access: &Access) -> bool {
    words(access).is_some_and(|(kind, name, action)| {
        grants.iter().any(|grant| {
            grant.kind == kind && grant.name == name && grant.actions.iter().any(|there| there == action)
        })
    })
}

/// Writes scopes one after another.
pub(super) fn text(grants: &[Grant]) -> String {
    let one = |grant: &Grant| format!("{}:{}:{}", grant.kind, grant.name, grant.actions.join(","));
    grants.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn words(access: &Access) -> Option<(&str, &str, &'static str)> {
    match &access.scope {
        Scope::Repository(name) => Some(("repository", name.as_str(), access.action.as_str())),
        Scope::Catalog => Some(CATALOG),
        // No scope is that wide.
        Scope::Registry => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_what_clients_write() {
        let back = |scope: &str| text(&grants(&asked(scope)));
        for same in [
            "repository:a:pull",
            "repository:team/app:pull,push",
            "registry:catalog:*",
            "repository:a:delete",
        ] {
            assert_eq!(back(same), same);
        }
        assert_eq!(back("repository:a:*"), "repository:a:pull,push,delete");
        assert_eq!(back("repository:a:pull,pull,fly"), "repository:a:pull");
        for nothing in [
            "",
            ":",
            "::",
            "repository",
            "repository:a",
            "repository::pull",
            "repository:A:pull",
            "repository:a/../b:pull",
            "repository(plugin):a:pull",
            "registry:catalog:pull",
            "registry:other:*",
            "repository:a:",
            "repository:*:pull",
            "repository:**:*",
            "repository:host:5000/a:pull",
            "x:a:pull",
        ] {
            assert_eq!(back(nothing), "", "{nothing}");
        }
    }

    #[test]
    fn d5_a_grant_is_of_what_it_names_alone() {
        let granted = grants(&asked("repository:a/b:pull"));
        let has = |scope: &str| asked(scope).iter().all(|one| super::has(&granted, one));
        assert!(has("repository:a/b:pull"));
        for other in
            ["repository:a/b:push", "repository:a:pull", "repository:a/b/c:pull", "registry:catalog:*"]
        {
            assert!(!has(other), "{other}");
        }
        let everything = Access { scope: Scope::Registry, action: Action::Pull };
        assert!(!super::has(&granted, &everything));
    }
}
