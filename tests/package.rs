//! The Python package: `pyproject.toml` repeats nothing that `Cargo.toml` decides, and what both state agrees.

use std::path::Path;

fn pyproject() -> toml::Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pyproject.toml");
    std::fs::read_to_string(path).unwrap().parse().unwrap()
}

#[test]
fn the_python_package_takes_its_version_from_the_manifest() {
    let project = &pyproject()["project"];
    let dynamic: Vec<_> =
        project["dynamic"].as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
    for key in ["version", "description"] {
        assert!(project.get(key).is_none(), "`{key}` stands in pyproject.toml and in Cargo.toml");
        assert!(dynamic.contains(&key), "`{key}` is not in project.dynamic");
    }
}

#[test]
fn the_python_package_has_the_name_and_licence_of_the_crate() {
    let project = &pyproject()["project"];
    assert_eq!(project["name"].as_str(), Some(env!("CARGO_PKG_NAME")));
    assert_eq!(project["license"].as_str(), Some(env!("CARGO_PKG_LICENSE")));
}

#[test]
fn the_python_package_installs_the_program_with_the_locked_dependencies() {
    let maturin = &pyproject()["tool"]["maturin"];
    assert_eq!(maturin["bindings"].as_str(), Some("bin"));
    assert_eq!(maturin["locked"].as_bool(), Some(true));
}
