//! The templates of `portolan filter new`, each made and built as an author does.

use crate::pair::Case;
use crate::support::client::Request;
use crate::support::project::of_template;

/// What each template promises: stamped responses, and one path that it answers itself.
fn assert_does_the_same(language: &str) {
    let Some((_project, module)) = of_template(language) else { return };
    let requests = [
        Request::get("h", "/shop?q=tea"),
        Request::new("POST", "h", "/").body("abc"),
        Request::get("h", "/hello?lang=en").header("x-user", "Ada Ünal"),
        Request::get("h", "/hello"),
    ];
    let Some(answers) = Case::new("template", module, r#"{"stamp": "checked"}"#).same(&requests) else { return };
    assert!(answers.responses.iter().all(|response| response.header("x-stamp") == Some("checked")));
    let texts: Vec<_> = answers.responses.iter().map(|response| response.text()).collect();
    assert_eq!(texts, ["from the upstream", "from the upstream", "hello, Ada Ünal\n", "hello, stranger\n"]);
    assert_eq!(answers.upstream.len(), 2);
}

#[test]
fn the_template_of_rust_does_the_same() {
    assert_does_the_same("rust");
}

#[test]
fn the_template_of_go_does_the_same() {
    assert_does_the_same("go");
}

#[test]
fn the_template_of_assemblyscript_does_the_same() {
    assert_does_the_same("assemblyscript");
}

#[test]
fn the_template_of_c_does_the_same() {
    assert_does_the_same("c");
}
