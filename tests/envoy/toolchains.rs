//! Raw filters of other toolchains, those of `tests/modules`: AssemblyScript on Solo's SDK, C with a `malloc` of its own.

use crate::pair::Case;
use crate::support::client::Request;
use crate::support::project::built;

#[test]
fn assemblyscript_on_solos_sdk_reads_its_configuration_and_headers() {
    let Some(module) = built("tests/modules/assemblyscript") else { return };
    // Its root context has this name.
    let Some(answers) = Case::new("as", module, r#"{"a":"b"}"#).same(&[Request::get("h", "/path?q")]) else { return };
    assert_eq!(answers.only().header("x-as"), Some(r#"{"a":"b"}"#));
    assert!(answers.upstream[0].headers.contains(&("x-as-path".to_owned(), "/path?q".to_owned())));
}

#[test]
fn c_with_a_malloc_of_its_own_reads_its_configuration_and_headers() {
    let Some(module) = built("tests/modules/c") else { return };
    let Some(answers) = Case::new("c", module, r#"{"a":"b"}"#).same(&[Request::get("h", "/path?q")]) else { return };
    assert_eq!(answers.only().header("x-c"), Some(r#"{"a":"b"}"#));
    assert!(answers.upstream[0].headers.contains(&("x-c-path".to_owned(), "/path?q".to_owned())));
}
