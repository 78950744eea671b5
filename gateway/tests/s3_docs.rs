//! `docs/s3.md` says of every operation how it stands; it must say what the routing table does.

use std::collections::BTreeMap;
use ullage_gateway::s3::route::ROUTES;

/// Operation to state, from the rows of the document's last table.
fn documented() -> BTreeMap<String, String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/s3.md");
    let text = std::fs::read_to_string(path).expect("docs/s3.md");
    let (_, table) = text
        .split_once("| operation | here |")
        .expect("the table of operations");
    let mut found = BTreeMap::new();
    for line in table.lines().skip(2) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, operation, state, ..] = cells[..] else {
            continue;
        };
        let before = found.insert(operation.to_owned(), state.to_owned());
        assert_eq!(before, None, "{operation} stands there twice");
    }
    found
}

#[test]
fn the_document_agrees_with_the_routing_table() {
    let documented = documented();
    for route in ROUTES {
        let name = route.operation.as_str();
        let state = documented
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not documented"));
        let is_offered = match state.as_str() {
            "yes" | "partly" => true,
            "501" => false,
            other => panic!("{name} stands as {other:?}"),
        };
        assert_eq!(is_offered, route.offered, "{name} is documented as {state}");
    }
    assert_eq!(documented.len(), ROUTES.len(), "operations that S3 does not have");
}
