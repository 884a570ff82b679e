//! Every crate lies on a floor and imports only lower ones; so crates of one floor do not import each other.

use crate::house::tree::Tree;

/// The highest floor whose crates must touch no world.
const PURE_FLOOR_MAX: u64 = 2;

/// Imports that do not go down, and crates without a floor.
#[must_use]
pub fn check(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for package in &tree.packages {
        let name = &package.name;
        let Some(floor) = package.floor else {
            faults.push(format!("{name}: its manifest says no floor under [package.metadata.house]"));
            continue;
        };
        if floor <= PURE_FLOOR_MAX && !package.pure {
            faults.push(format!("{name}: on floor {floor}, so it must be pure"));
        }
        // A crate that names itself asks its own tests for a feature: that is no import.
        for dependency in package.dependencies.iter().filter(|dependency| dependency.name != *name) {
            let below = tree.package(&dependency.name).and_then(|other| other.floor);
            if let Some(other) = below.filter(|other| *other >= floor) {
                faults.push(format!(
                    "{name} (floor {floor}) imports {} (floor {other}), which is not below it",
                    dependency.name
                ));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::tree::example;

    #[test]
    fn an_import_downward_is_right_and_any_other_is_wrong() {
        assert_eq!(
            check(&example(&[("a", 1, true, &["b", "serde"]), ("b", 0, true, &[])])),
            Vec::<String>::new()
        );
        assert_eq!(check(&example(&[("a", 3, false, &["b"]), ("b", 3, false, &[])])).len(), 1);
        assert_eq!(check(&example(&[("a", 3, false, &["b"]), ("b", 4, false, &[])])).len(), 1);
    }

    #[test]
    fn every_crate_says_its_floor_and_the_low_ones_are_pure() {
        let mut tree = example(&[("a", 2, false, &[])]);
        assert_eq!(check(&tree).len(), 1);
        tree.packages[0].floor = None;
        assert_eq!(check(&tree).len(), 1);
    }
}
