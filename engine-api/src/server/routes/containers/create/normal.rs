//! The document as its type wants it: what Go reads in two forms, and where `null` means something.

use serde_json::{Map, Value, json};

use crate::server::body;

/// Lists that may be one text, by their path.
const LISTS: [&str; 4] = ["/Cmd", "/Entrypoint", "/Shell", "/Healthcheck/Test"];

/// Makes what a null stands for.
type Nothing = fn() -> Value;

/// Maps, and what a null in them stands for.
const MAPS: [(&str, Nothing); 8] = [
    ("/ExposedPorts", object),
    ("/Volumes", object),
    ("/Labels", empty),
    ("/NetworkingConfig/EndpointsConfig", object),
    ("/HostConfig/PortBindings", list),
    ("/HostConfig/Tmpfs", empty),
    ("/HostConfig/Annotations", empty),
    ("/HostConfig/LogConfig/Config", empty),
];

/// Sets: whatever their keys have is nothing.
const SETS: [&str; 2] = ["/ExposedPorts", "/Volumes"];

fn object() -> Value {
    Value::Object(Map::new())
}

fn list() -> Value {
    Value::Array(Vec::new())
}

fn empty() -> Value {
    Value::String(String::new())
}

/// Brings a document into the one form.
pub(super) fn normalize(value: &mut Value) {
    for path in LISTS {
        if let Some(text @ Value::String(_)) = value.pointer_mut(path) {
            *text = json!([text.take()]);
        }
    }
    for (path, nothing) in MAPS {
        let Some(Value::Object(map)) = value.pointer_mut(path) else { continue };
        map.values_mut().filter(|value| value.is_null()).for_each(|value| *value = nothing());
    }
    for path in SETS {
        let Some(Value::Object(map)) = value.pointer_mut(path) else { continue };
        map.values_mut().filter(|value| value.is_object()).for_each(|value| *value = object());
    }
    body::forget_nulls(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_list_are_read_and_nulls_of_maps_stay() {
        let mut value = json!({
            "Cmd": "sh", "Entrypoint": ["a"], "User": null,
            "ExposedPorts": {"80/tcp": null, "81": {"x": 1}},
            "NetworkingConfig": {"EndpointsConfig": {"lan": null}},
            "HostConfig": {"PortBindings": {"80/tcp": null}, "Memory": null},
        });
        normalize(&mut value);
        let expected = json!({
            "Cmd": ["sh"], "Entrypoint": ["a"],
            "ExposedPorts": {"80/tcp": {}, "81": {}},
            "NetworkingConfig": {"EndpointsConfig": {"lan": {}}},
            "HostConfig": {"PortBindings": {"80/tcp": []}},
        });
        assert_eq!(value, expected);
    }
}
