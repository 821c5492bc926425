//! The derived schemas: what they say word for word, and that they refuse what serde refuses.
#![allow(clippy::unwrap_used, dead_code, reason = "a failed unwrap is a failed test, and nobody reads the fields")]

use std::collections::BTreeMap;

use boon::{Compiler, SchemaIndex, Schemas};
use portolan_sdk::{ConfigSchema, schema_of};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A schema, ready to check with.
struct Compiled {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Compiled {
    fn new(schema: &str) -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("schema.json", serde_json::from_str(schema).unwrap()).unwrap();
        let index = compiler.compile("schema.json", &mut schemas).unwrap();
        Self { schemas, index }
    }

    /// What serde refuses this refuses.
    fn no_laxer<T: DeserializeOwned>(&self, value: &Value) -> Result<(), TestCaseError> {
        if self.schemas.validate(value, self.index).is_ok() {
            let read = serde_json::from_value::<T>(value.clone()).map(|_| ()).map_err(|error| error.to_string());
            prop_assert!(read.is_ok(), "{value} for {}: {read:?}", std::any::type_name::<T>());
        }
        Ok(())
    }
}

/// Whether a schema takes a value.
fn takes(schema: &str, value: &Value) -> bool {
    let compiled = Compiled::new(schema);
    compiled.schemas.validate(value, compiled.index).is_ok()
}

/// That schema and serde both take the one, and refuse the other.
fn agree<T: DeserializeOwned>(schema: &str, good: &[Value], bad: &[Value]) {
    for (values, expected) in [(good, true), (bad, false)] {
        for value in values {
            let serde = serde_json::from_value::<T>(value.clone()).map(|_| ()).map_err(|error| error.to_string());
            assert_eq!(serde.is_ok(), expected, "serde on {value}: {serde:?}");
            assert_eq!(takes(schema, value), expected, "schema on {value}: {schema}");
        }
    }
}

/// The schema without `$schema`.
fn golden(schema: &str) -> Value {
    let mut schema: Value = serde_json::from_str(schema).unwrap();
    assert_eq!(
        schema.as_object_mut().unwrap().remove("$schema").unwrap(),
        "https://json-schema.org/draft/2020-12/schema"
    );
    schema
}

/// Who may come in.
///
/// And how
/// often.
#[derive(Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Guard {
    /// Shown to "clients".
    #[schema(min_length = 1, max_length = 20, pattern = "^[a-z]+$", example = "main", example = "other")]
    realm_name: String,
    #[schema(minimum = 1, default = 10)]
    #[serde(default)]
    limit: u8,
    #[schema(exclusive_minimum = 0.0, maximum = 1)]
    share: Option<f64>,
    #[serde(default, alias = "hosts", alias = "hostNames")]
    names: Vec<String>,
    #[serde(rename(deserialize = "class"))]
    r#type: Kind,
    #[serde(skip)]
    cache: std::cell::Cell<u32>,
    extra: serde_json::Value,
    #[serde(default)]
    by_kind: BTreeMap<Kind, Pair>,
}

#[derive(Clone, Copy, Deserialize, ConfigSchema, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Kind {
    InBound,
    #[serde(alias = "out")]
    OutBound,
    #[serde(skip)]
    Never,
}

#[derive(Deserialize, ConfigSchema)]
struct Pair(i8, #[schema(minimum = 5)] u32);

#[test]
fn a_struct_is_an_object_with_its_keys() {
    let kind = json!({"type": "string", "enum": ["IN_BOUND", "OUT_BOUND", "out"]});
    let names = json!({"type": "array", "items": {"type": "string"}});
    let pair = json!({"type": "array", "items": false, "minItems": 2, "prefixItems": [
        {"type": "integer", "minimum": -128, "maximum": 127},
        {"type": "integer", "minimum": 5, "maximum": u32::MAX}]});
    let expected = json!({
        "description": "Who may come in.\n\nAnd how often.",
        "type": "object",
        "properties": {
            "realmName": {"description": "Shown to \"clients\".", "minLength": 1, "maxLength": 20,
                "pattern": "^[a-z]+$", "examples": ["main", "other"], "type": "string"},
            "limit": {"minimum": 1, "default": 10, "type": "integer", "maximum": 255},
            "share": {"exclusiveMinimum": 0.0, "maximum": 1, "type": ["number", "null"]},
            "names": names, "hosts": names, "hostNames": names,
            "class": kind,
            "extra": {},
            "byKind": {"type": "object", "propertyNames": kind, "additionalProperties": pair},
        },
        "required": ["realmName", "class", "extra"],
        "dependentSchemas": {
            "names": {"properties": {"hosts": false, "hostNames": false}},
            "hosts": {"properties": {"hostNames": false}},
        },
        "additionalProperties": false,
    });
    assert_eq!(golden(schema_of!(Guard)), expected);
}

#[test]
fn a_struct_takes_what_serde_takes() {
    let with = |key: &str, value: Value| {
        let mut config = json!({"realmName": "main", "class": "IN_BOUND", "extra": 1});
        config[key] = value;
        config
    };
    let good = [
        with("limit", json!(255)),
        with("share", json!(null)),
        with("share", json!(0.5)),
        with("names", json!(["a"])),
        with("hostNames", json!([])),
        with("class", json!("out")),
        with("extra", json!({"a": [null]})),
        with("byKind", json!({"out": [-128, 5]})),
    ];
    let bad = [
        json!({}),
        json!({"realmName": "main", "class": "IN_BOUND"}),
        json!({"realmName": "main", "class": "IN_BOUND", "extra": 1, "names": [], "hosts": []}),
        with("realmName", json!(null)),
        with("realm_name", json!("main")),
        with("limit", json!(256)),
        with("limit", json!(-1)),
        with("limit", json!("1")),
        with("share", json!("0.5")),
        with("names", json!([1])),
        with("class", json!("Never")),
        with("byKind", json!({"x": [1, 5]})),
        with("byKind", json!({"out": [1]})),
        with("byKind", json!({"out": [1, 5, 5]})),
        with("byKind", json!({"out": [129, 5]})),
    ];
    agree::<Guard>(schema_of!(Guard), &good, &bad);
    for (key, value) in
        [("realmName", json!("")), ("realmName", json!("MAIN")), ("limit", json!(0)), ("share", json!(0))]
    {
        assert!(!takes(schema_of!(Guard), &with(key, value.clone())), "the author's own keyword: {key} {value}");
    }
}

#[derive(Deserialize, ConfigSchema)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase")]
enum Outside {
    LetPass,
    #[serde(alias = "no")]
    TurnAway,
    SendTo(String),
    AskOf {
        host_name: String,
        #[serde(default)]
        port: u16,
    },
    Both(u8, u8),
    Perhaps(Option<bool>),
}

#[derive(Deserialize, ConfigSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum Inside {
    #[serde(alias = "off")]
    None,
    Limit {
        rate: u32,
    },
    Other(Target),
    Labels(BTreeMap<String, String>),
}

#[derive(Deserialize, ConfigSchema)]
#[serde(deny_unknown_fields)]
struct Target {
    host: String,
    port: Option<u16>,
}

#[derive(Deserialize, ConfigSchema)]
#[serde(tag = "t", content = "c", deny_unknown_fields)]
enum Beside {
    Nothing,
    Number(u8),
    Maybe(Option<u8>),
    Named { a: bool },
}

#[derive(Deserialize, ConfigSchema)]
#[serde(untagged)]
enum Bare {
    Nothing,
    Number(i64),
    Many(Vec<String>),
    Target(Target),
}

#[test]
fn an_enum_is_told_by_its_key() {
    let good = [
        json!("let-pass"),
        json!("turn-away"),
        json!("no"),
        json!({"send-to": "x"}),
        json!({"ask-of": {"hostName": "x"}}),
        json!({"ask-of": {"hostName": "x", "port": 1, "more": 1}}),
        json!({"both": [1, 2]}),
        json!({"perhaps": null}),
        json!({"perhaps": true}),
    ];
    let bad = [
        json!(null),
        json!("LetPass"),
        json!("send-to"),
        json!({}),
        json!({"send-to": 1}),
        json!({"send-to": "x", "both": [1, 2]}),
        json!({"ask-of": {"host_name": "x"}}),
        json!({"both": [1]}),
        json!({"unknown": 1}),
        json!(["send-to", "x"]),
    ];
    agree::<Outside>(schema_of!(Outside), &good, &bad);
    agree::<Option<Outside>>(schema_of!(Option<Outside>), &[json!(null), json!("no")], &[json!(1), json!("yes")]);
}

#[test]
fn an_enum_is_told_by_a_tag_inside() {
    let good = [
        json!({"kind": "none"}),
        json!({"kind": "off"}),
        json!({"kind": "limit", "rate": 1}),
        json!({"kind": "other", "host": "a", "port": null}),
        json!({"kind": "labels", "a": "b"}),
    ];
    let bad = [
        json!({}),
        json!({"kind": "None"}),
        json!({"kind": "limit"}),
        json!({"kind": "limit", "rate": "1"}),
        json!({"kind": "limit", "rate": 1, "host": "a"}),
        json!({"kind": "other", "rate": 1}),
        json!({"kind": "other", "host": "a", "prt": 1}),
        json!({"kind": "labels", "a": 1}),
        json!("none"),
        json!(null),
    ];
    agree::<Inside>(schema_of!(Inside), &good, &bad);
    // serde itself forgets `deny_unknown_fields` for a variant that holds nothing.
    assert!(!takes(schema_of!(Inside), &json!({"kind": "none", "rate": 1})));
    agree::<Option<Inside>>(schema_of!(Option<Inside>), &[json!(null), good[2].clone()], &[json!({"kind": 1})]);
}

#[test]
fn an_enum_is_told_by_a_tag_beside() {
    let good = [
        json!({"t": "Nothing"}),
        json!({"t": "Number", "c": 1}),
        json!({"c": 1, "t": "Number"}),
        json!({"t": "Maybe"}),
        json!({"t": "Maybe", "c": null}),
        json!({"t": "Named", "c": {"a": true}}),
    ];
    let bad = [
        json!({"t": "Number"}),
        json!({"t": "Number", "c": "1"}),
        json!({"t": "Nothing", "c": 1}),
        json!({"t": "Named", "c": {}}),
        json!({"t": "Number", "c": 1, "d": 1}),
        json!({"c": 1}),
    ];
    agree::<Beside>(schema_of!(Beside), &good, &bad);
}

#[test]
fn an_enum_without_a_tag_is_any_of_its_forms() {
    let good = [json!(null), json!(-3), json!(["a"]), json!([]), json!({"host": "x"})];
    let bad = [json!("x"), json!(1.5), json!([1]), json!({"host": 1}), json!({"host": "x", "more": 1}), json!(true)];
    agree::<Bare>(schema_of!(Bare), &good, &bad);
}

#[derive(Deserialize, ConfigSchema)]
struct Around {
    #[serde(flatten)]
    target: Target,
    #[serde(flatten)]
    outer: Inner,
    #[serde(flatten)]
    labels: BTreeMap<String, u8>,
}

#[derive(Deserialize, ConfigSchema)]
struct Inner {
    #[serde(alias = "n")]
    name: String,
}

#[derive(Deserialize, ConfigSchema)]
struct Action {
    id: u8,
    #[serde(flatten)]
    what: What,
    #[serde(flatten)]
    target: Option<Target>,
}

#[derive(Deserialize, ConfigSchema)]
#[serde(tag = "do", rename_all = "snake_case")]
enum What {
    Wait,
    Sleep { seconds: u8 },
}

#[derive(Deserialize, ConfigSchema)]
struct Keyed {
    #[serde(flatten)]
    what: OneKey,
}

#[derive(Deserialize, ConfigSchema)]
#[serde(rename_all = "lowercase")]
enum OneKey {
    Host(String),
    Port(u16),
}

#[test]
fn flattened_fields_stand_among_the_others() {
    let good = [
        json!({"host": "a", "name": "b"}),
        json!({"host": "a", "n": "b", "port": 1}),
        json!({"host": "a", "name": "b", "x": 1}),
    ];
    let bad = [
        json!({"host": "a"}),
        json!({"name": "b"}),
        json!({"host": "a", "name": "b", "n": "c"}),
        json!({"host": "a", "name": "b", "x": "y"}),
    ];
    agree::<Around>(schema_of!(Around), &good, &bad);
}

#[test]
fn flattened_enums_stand_among_the_others() {
    let good = [
        json!({"id": 1, "do": "wait"}),
        json!({"id": 1, "do": "sleep", "seconds": 3, "more": 1}),
        json!({"id": 1, "do": "wait", "host": "a"}),
    ];
    let bad =
        [json!({"id": 1}), json!({"id": 1, "do": "sleep"}), json!({"id": 1, "do": "walk"}), json!({"do": "wait"})];
    agree::<Action>(schema_of!(Action), &good, &bad);
    let good = [json!({"host": "a"}), json!({"port": 1, "more": 1})];
    agree::<Keyed>(schema_of!(Keyed), &good, &[json!({}), json!({"port": "1"})]);
}

#[derive(Deserialize, ConfigSchema)]
#[serde(transparent)]
struct Transparent {
    inner: Option<u8>,
}

#[derive(Deserialize, ConfigSchema)]
struct Newtype(#[schema(maximum = 9)] Option<u8>);

#[derive(Deserialize, ConfigSchema)]
#[serde(try_from = "String")]
struct Parsed(u8);

impl TryFrom<String> for Parsed {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

#[derive(Deserialize, ConfigSchema)]
struct Wrapped<T> {
    value: T,
    boxed: Box<Option<T>>,
    transparent: Transparent,
    newtype: Newtype,
    #[serde(deserialize_with = "by_hand")]
    #[schema(form = "String")]
    period: Option<u64>,
    parsed: Parsed,
    letter: char,
    port: std::num::NonZeroU16,
    three: [bool; 3],
}

fn by_hand<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    String::deserialize(deserializer).map(|text| text.trim_end_matches('s').parse().ok())
}

#[derive(Deserialize, ConfigSchema)]
#[serde(default)]
struct AllDefault {
    a: u8,
    b: String,
}

impl Default for AllDefault {
    fn default() -> Self {
        Self { a: 1, b: "b".to_owned() }
    }
}

#[test]
fn what_wraps_a_type_has_its_form() {
    let with = |key: &str, value: Value| {
        let mut config = json!({"value": 1, "newtype": 1, "period": "1s", "parsed": "1", "letter": "a", "port": 1,
            "three": [true, true, false]});
        config[key] = value;
        config
    };
    let without = |key: &str| {
        let mut config = with("value", json!(1));
        config.as_object_mut().unwrap().remove(key);
        config
    };
    let good = [with("boxed", json!(null)), with("transparent", json!(2)), with("newtype", json!(null))];
    let bad = [
        without("value"),
        without("newtype"),
        without("period"),
        with("value", json!("x")),
        with("transparent", json!("2")),
        with("period", json!(1)),
        with("parsed", json!(1)),
        with("letter", json!("ab")),
        with("letter", json!("")),
        with("port", json!(0)),
        with("three", json!([true])),
    ];
    agree::<Wrapped<u16>>(schema_of!(Wrapped<u16>), &good, &bad);
    assert!(!takes(schema_of!(Wrapped<u16>), &with("newtype", json!(10))));
    agree::<AllDefault>(schema_of!(AllDefault), &[json!({}), json!({"a": 2})], &[json!({"a": "x"})]);
}

/// JSON of any shape, with keys and texts that the types above know.
fn anything() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "a",
        "kind",
        "none",
        "limit",
        "rate",
        "host",
        "port",
        "t",
        "c",
        "Number",
        "Nothing",
        "send-to",
        "let-pass",
        "both",
        "labels",
        "other",
        "do",
        "wait",
        "sleep",
        "seconds",
        "id",
        "name",
        "realmName",
        "class",
        "extra",
        "IN_BOUND",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-300_i64..300).prop_map(Value::from),
        Just(json!(0.5)),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 5, move |inner| {
        let object = prop::collection::btree_map(word.clone(), inner.clone(), 0..5);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            object.prop_map(|map| map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

#[test]
fn what_serde_refuses_the_schema_refuses() {
    let compiled = [
        schema_of!(Outside),
        schema_of!(Inside),
        schema_of!(Beside),
        schema_of!(Bare),
        schema_of!(Target),
        schema_of!(Action),
        schema_of!(Around),
        schema_of!(Guard),
    ]
    .map(Compiled::new);
    let [outside, inside, beside, bare, target, action, around, guard] = &compiled;
    let config = ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&anything(), |value| {
        outside.no_laxer::<Outside>(&value)?;
        inside.no_laxer::<Inside>(&value)?;
        beside.no_laxer::<Beside>(&value)?;
        bare.no_laxer::<Bare>(&value)?;
        target.no_laxer::<Target>(&value)?;
        action.no_laxer::<Action>(&value)?;
        around.no_laxer::<Around>(&value)?;
        guard.no_laxer::<Guard>(&value)
    });
    outcome.unwrap();
}
