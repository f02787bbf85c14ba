//! Paths in the composition tree. Source: QEMU `qom/object.c` (`object_resolve_path*`), `qom/container.c`.

use std::sync::{Arc, OnceLock};

use crate::{Object, object_new};

/// The root `/` of the composition tree.
pub fn object_get_root() -> Arc<dyn Object> {
    static ROOT: OnceLock<Arc<dyn Object>> = OnceLock::new();
    ROOT.get_or_init(|| object_new("container").expect("the type container is built in")).clone()
}

/// The object at `path` below `root`, with containers made on the way where nothing is.
pub fn container_get(root: &Arc<dyn Object>, path: &str) -> Arc<dyn Object> {
    path.split('/').filter(|part| !part.is_empty()).fold(root.clone(), |at, part| {
        at.child(part).unwrap_or_else(|| {
            let container = object_new("container").expect("the type container is built in");
            match at.property_add_child(part, &container) {
                Ok(_) => container,
                // Somebody else was faster.
                Err(_) => at.child(part).unwrap_or(container),
            }
        })
    })
}

/// Finds an object by absolute path (`/machine/peripheral/x`) or by the last parts of one (`x`), which must
/// then be unambiguous.
pub fn object_resolve_path(path: &str) -> Result<Arc<dyn Object>, ResolveError> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let root = object_get_root();
    if path.starts_with('/') {
        return walk(&root, &parts).ok_or(ResolveError::NotFound);
    }
    if parts.is_empty() {
        return Err(ResolveError::NotFound);
    }
    let mut found = Vec::new();
    resolve_partial(&root, &parts, &mut found);
    match found.len() {
        0 => Err(ResolveError::NotFound),
        1 => found.pop().ok_or(ResolveError::NotFound),
        _ => Err(ResolveError::Ambiguous),
    }
}

/// Why a path leads to no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Nothing is there.
    #[error("not found")]
    NotFound,
    /// A partial path fits several objects.
    #[error("ambiguous")]
    Ambiguous,
}

/// What a property that is a link leads to.
fn linked(object: &Arc<dyn Object>, name: &str) -> Option<Arc<dyn Object>> {
    object.class().property(name).filter(|property| property.type_name.starts_with("link<"))?;
    match object.property_get(name).ok()? {
        crate::Value::String(path) if path.starts_with('/') => object_resolve_path(&path).ok(),
        _ => None,
    }
}

fn walk(from: &Arc<dyn Object>, parts: &[&str]) -> Option<Arc<dyn Object>> {
    parts.iter().try_fold(from.clone(), |at, part| at.child(part).or_else(|| linked(&at, part)))
}

fn resolve_partial(from: &Arc<dyn Object>, parts: &[&str], found: &mut Vec<Arc<dyn Object>>) {
    if let Some(object) = walk(from, parts)
        && !found.iter().any(|o| Arc::ptr_eq(o, &object))
    {
        found.push(object);
    }
    for (_, child) in from.children() {
        resolve_partial(&child, parts, found);
    }
}
