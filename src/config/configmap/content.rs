//! Reads the text that a `ConfigMap` holds under its key.

use std::sync::Arc;

use k8s_openapi::api::core::v1;

use super::{Content, Reference};
use crate::config::files::LARGEST;

/// Returns the text, or the reason why there is none; `found` is `None` if the `ConfigMap` does not exist.
pub(super) fn of(found: Option<&v1::ConfigMap>, reference: &Reference) -> Content {
    let Reference { name, key, .. } = reference;
    let Some(found) = found else {
        return Err(format!("there is no ConfigMap {name}; create it, with a key {key}"));
    };
    let data = found.data.as_ref();
    let Some(text) = data.and_then(|data| data.get(key)) else {
        let binary = found.binary_data.as_ref().is_some_and(|data| data.contains_key(key));
        return Err(if binary {
            format!("the ConfigMap {name} has {key} under binaryData; put it under data, as UTF-8")
        } else {
            let keys: Vec<_> = data.into_iter().flat_map(|data| data.keys()).take(8).collect();
            format!("the ConfigMap {name} has no key {key}{}; add it", among(&keys))
        });
    };
    if text.len() as u64 > LARGEST {
        return Err(format!("{key} in the ConfigMap {name} is larger than 1 MiB; make it smaller"));
    }
    Ok(Arc::from(text.as_str()))
}

/// Returns the end of the error for a missing key, which lists the keys that the `ConfigMap` has instead.
fn among(keys: &[&String]) -> String {
    match keys {
        [] => " and no other".into(),
        keys => {
            let keys: Vec<_> = keys.iter().map(|key| key.as_str()).collect();
            format!(" (it has {})", keys.join(", "))
        }
    }
}
